"""An operator with a context of their own: a bucket with builds and receipts, a clock that jumps, captured output."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from model_repository.bucket.store import Store
from model_repository.documents.commit import Commit
from model_repository.documents.receipts.receipt import Outcome
from model_repository.names import IndexPrefix, ModelPrefix, Target
from model_repository.repository import write_commit, write_receipt
from operator_cli.context import Context
from operator_cli.main import main
from tests import builds
from tests.fake_clock import FakeClock
from tests.memory_store import MemoryStore
from tests.search_server.conftest import start  # noqa: F401 - a fixture

MODEL = ModelPrefix("effnet", "v1")


@dataclass
class Said:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def value(self) -> Any:
        return json.loads(self.out)


@dataclass
class Operator:
    """Runs commands against `store`, in the environment production unless they say otherwise."""

    store: Store = field(default_factory=lambda: MemoryStore("shop"))
    clock: FakeClock = field(default_factory=lambda: FakeClock(datetime.now(UTC)))
    environ: dict[str, str] = field(
        default_factory=lambda: {"MODEL_REPOSITORY": "gs://shop", "INDEXPUSH_ENVIRONMENT": "production"}
    )
    target: Target = Target("production", "clothing")  # noqa: RUF009 - frozen

    def __call__(self, *argv: str) -> Said:
        out, err = io.StringIO(), io.StringIO()
        code = main(list(argv), Context(self.environ, lambda _url, _patience: self.store, self.clock, out, err))
        return Said(code, out.getvalue(), err.getvalue())

    def build(self, name: str, *, age: float = 0, index: str = "clothing", dimensions: int = 4) -> IndexPrefix:
        """Upload a whole build, made `age` hours before now; `dimensions`: what it claims of its model, which has 4."""
        prefix = IndexPrefix(index, name)
        model = replace(builds.publish_model(self.store, MODEL), dimensions=dimensions)
        builds.publish_build(self.store, prefix, model, created=builds.NOW - timedelta(hours=age))
        return prefix

    def commit(self, prefix: IndexPrefix, target: Target | None = None, **fields: Any) -> int:
        """Commit as the batch does; the generation."""
        target = target or self.target
        return write_commit(
            self.store, target, Commit(prefix, **{"by": "batch"} | fields), if_generation_match=None
        ).generation

    def receipt(self, generation: int, outcome: Outcome, prefix: IndexPrefix | None, **fields: Any) -> None:
        """Say what became of a commit, as the CD side does."""
        said = {"target": self.target, "finished": builds.NOW + timedelta(seconds=2)} | fields
        write_receipt(self.store, builds.receipt(generation, outcome=outcome, index_prefix=prefix, **said))

    def deployed(self, prefix: IndexPrefix, outcome: Outcome = Outcome.SERVED, **fields: Any) -> int:
        """A commit and its receipt; the generation."""
        generation = self.commit(prefix, target=fields.get("target"))
        self.receipt(generation, outcome, prefix, **fields)
        return generation

    def live(self, target: Target | None = None) -> dict[str, Any]:
        """The commit object as it stands."""
        value: dict[str, Any] = json.loads(self.store.read((target or self.target).commit_name, limit=10_000).data)
        return value

    def generation(self) -> int:
        """The live commit's generation; 0 if there is none."""
        info = self.store.stat(self.target.commit_name)
        return info.generation if info else 0


@pytest.fixture
def operator() -> Operator:
    return Operator()


@pytest.fixture
def operator_of() -> Callable[[Store], Operator]:
    """An operator over another store."""
    return lambda store: Operator(store=store)
