"""One step of a run, in a process that imports what this step needs, and nothing else: docs/benchmarks/start-up.md."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pkgutil import resolve_name
from typing import Any, Final

from embedding_batch.config import Config
from embedding_batch.events import Listener
from embedding_batch.run import OpenBucket, Run
from embedding_batch.state.failures import noting
from embedding_batch.state.plan import Plan
from embedding_batch.state.scratch import scratch
from model_repository.bucket.gcs_store import GcsStore
from model_repository.bucket.store import Store
from model_repository.errors import Misconfigured

DOES: Final[Mapping[str, str]] = {
    "list": "listing:list_items",
    "fetch": "fetching:fetch_shard",
    "embed": "embedding:embed_shard",
    "collect": "collecting:collect",
    "build": "build.indexing:build_part",
    "publish": "publish.publishing:publish",
    "diff": "diff.diffing:diff",
    "commit": "committing:commit_build",
}
"""Module of `embedding_batch.steps`, and function: of a Run, and of a shard's or part's number where it has such."""
COUNTED: Final[Mapping[str, tuple[str, str]]] = {
    "fetch": ("list", "shards"),
    "embed": ("list", "shards"),
    "build": ("collect", "parts"),
}
"""Which step's record says how many there are of what."""


def step(
    name: str,
    number: int | None,
    *,
    config: Config,
    plan: Plan,
    store: Store,
    listener: Listener,
    open_bucket: OpenBucket = GcsStore,
) -> dict[str, Any]:
    """Do one step of a run, unless it is done; returns its record. number: of the shard or part, where it has such.

    Raises Misconfigured for a number that there is not, and what the step does.
    """
    with scratch(config.cache / "scratch") as room:
        one = Run(config, store, open_bucket, room, plan.created, listener)
        if name == "report":
            return dict(resolve_name("embedding_batch.steps.reporting:report")(one))
        if number is not None:
            _check_number(one, name, number)
        return do(one, name, number)


def _check_number(run: Run, name: str, number: int) -> None:
    before, counts = COUNTED[name]
    count = run.folder.recorded(before)[counts]
    if number >= count:
        raise Misconfigured(f"--{counts.removesuffix('s')} {number}: {run.config.prefix} has {count} {counts}, from 0")


def do(run: Run, name: str, number: int | None = None) -> dict[str, Any]:
    """Do a step, unless it is done; returns its record. What stops it is left in the bucket, too."""
    if (done := run.folder.record(name, number)) is not None:
        return done
    with recording(run, name, number) as record:
        its = resolve_name(f"embedding_batch.steps.{DOES[name]}")
        record.update(its(run) if number is None else its(run, number))
    return record


@contextmanager
def recording(run: Run, name: str, number: int | None = None) -> Iterator[dict[str, Any]]:
    """Within this a step is done, and says what it did; at its end its record is left, and stands there as well.

    That is the first one, if two did the same. What stops the step is left in the bucket, too.
    """
    began = time.perf_counter()
    record: dict[str, Any] = {}
    with noting(run.folder, name, number):
        yield record
        seconds = round(time.perf_counter() - began, 3)
        record.update(run.folder.write_record(name, number, {**record, "seconds": seconds}))
