"""One index of one environment, whole: what was committed, by whom, what became of it, and the builds behind it."""

from __future__ import annotations

from typing import Any

from model_repository.documents.receipt import Receipt
from model_repository.names import Target
from model_repository.store import Store
from operator_cli.board.overview import Builds, for_scripts
from operator_cli.commands.status import history
from operator_cli.output import programs

_RECEIPTS = 50


def details(store: Store, builds: Builds, target: Target) -> dict[str, Any]:
    """The newest receipts of a target, newest first, each with its build's figures; null for a build that is gone.

    Raises `CommitMissing` if nothing was ever committed there.
    """
    found = history(store, target, _RECEIPTS)
    value = programs.history(target, found)
    for row, receipt in zip(value["receipts"], found, strict=True):
        figures = None
        if isinstance(receipt, Receipt):
            row["seconds"] = round((receipt.finished - receipt.started).total_seconds(), 1)
            figures = builds.figures(receipt.index_prefix) if receipt.index_prefix else None
        row["build"] = figures.value() if figures else None
    whole: dict[str, Any] = for_scripts(value)
    return whole
