"""Runs commands over the same bucket every time: `python -m tests.operator_cli.at_a_terminal 'history shoes'`."""

from __future__ import annotations

import sys
from datetime import datetime, timedelta

from model_repository.documents.receipts.receipt import Outcome
from model_repository.names import Target
from operator_cli.context import Context
from operator_cli.main import main
from tests import builds
from tests.fake_clock import FakeClock
from tests.memory_store import MemoryStore
from tests.operator_cli.conftest import Operator

SHOES = Target("production", "shoes")
END = "--8<--\n"
"""Stands below what each command prints."""


class _Store(MemoryStore):
    def now(self) -> datetime:
        return builds.NOW


def scene() -> Operator:
    """Two indexes: of one the newest commit was undone, the other is on hold, for reasons that are long or wide."""
    operator = Operator(_Store("shop", seed=7), FakeClock(builds.NOW + timedelta(hours=3)))
    first = operator.build("2026-11-20t230000z-1a2b", age=13)
    operator.deployed(first, by="alice@acme.com", reason="冬のカタログ: 新しい写真")
    second = operator.build("2026-11-21t110000z-3c4d", age=1)
    detail = f"pod clothing-7d9f8: the pull ended with 65: {second}/shirts.ann isn't what index.json says of it"
    operator.deployed(second, Outcome.UNDONE, detail=detail)
    boots = operator.build("boots", index="shoes")
    generation = operator.commit(boots, SHOES, by="bob", reason="季節", hold=True)
    operator.receipt(generation, Outcome.SERVED, boots, target=SHOES)
    return operator


if __name__ == "__main__":
    it = scene()
    context = Context(it.environ, lambda _bucket, _patience: it.store, it.clock, sys.stdout, sys.stderr)
    for command in sys.argv[1:]:
        assert main(command.split(), context) == 0
        context.stdout.write(END)
