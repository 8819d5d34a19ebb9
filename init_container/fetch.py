"""From index.json on: the plan, the files, the rename."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import replace

from init_container.board import Board, Counts, OwnLedger
from init_container.config import LEAST_DEADLINE, Config
from init_container.destination import Destination
from init_container.engine import Engine
from init_container.files import Files
from init_container.folder import MODEL_MANIFEST, disk
from init_container.helpers import Helpers, Tell, processes_for, processors
from init_container.parts import Parts
from init_container.plan import Plan, plan_pull
from model_repository.digests import sha256_digest
from model_repository.documents.index_manifest import parse_index_manifest
from model_repository.errors import BuildIncomplete

_SLOWEST_PULL = 20 * 1024 * 1024
"""Bytes/s; the deadline gives up on anything slower, as the rollout's own deadline does."""


def fetch(
    config: Config,
    engine: Engine,
    destination: Destination,
    manifest: bytes,
    *,
    began: float,
    tick: Callable[[Counts, int], None],
) -> tuple[Plan, Counts]:
    """Fetch, verify and publish what an index.json lists; returns the plan of it, and what was done.

    manifest: the index.json's bytes. began: on the monotonic clock, for the deadline. tick: called about 20 times a
    second with what was done so far, and the bytes of the whole build.
    """
    plan = _plan(config, manifest)
    destination.prepare(plan, manifest)
    engine.deadline = began + (config.deadline or LEAST_DEADLINE + plan.bytes / _SLOWEST_PULL)
    with closing(Parts(destination.partial, plan)) as parts:
        parts.allocate()
        done = _fetch_files(config, engine, plan, parts, lambda counts: tick(counts, plan.bytes))
    _check_model(plan, destination)
    destination.publish(config.index_prefix, plan)
    return plan, done


def _fetch_files(config: Config, engine: Engine, plan: Plan, parts: Parts, tick: Callable[[Counts], None]) -> Counts:
    """Fetch what is missing: with as many helpers as are worth their while, and then alone what they left."""
    count = config.processes or processes_for(
        plan.bytes - parts.have, len(plan.files) - len(parts.whole()), processors()
    )
    if config.connections:
        count = min(count, config.connections)
    with closing(_ledger(count, len(plan.files))) as ledger:
        files = Files(plan, parts, ledger, range_bytes=config.range_bytes)
        helped = Counts()
        if isinstance(ledger, Board):
            helped = _fetch_with_helpers(count - 1, engine, files, ledger, tick)
            engine.processes = 1
            files.begin(processes=1)
        engine.tick = lambda: tick(_done(engine, parts.have) + helped)
        engine.run(files)
        engine.tick()
        if not files.whole:
            raise RuntimeError("a defect: all was fetched, but not every file was verified")
    return _done(engine, parts.have) + helped


def _ledger(processes: int, files: int) -> Board | OwnLedger:
    if processes > 1:
        with suppress(OSError):  # no memory to share: then one process does it
            return Board(processes - 1, files)
    return OwnLedger()


def _fetch_with_helpers(
    count: int, engine: Engine, files: Files, board: Board, tick: Callable[[Counts], None]
) -> Counts:
    """Fetch side by side with helpers, and take up what they noted; returns what they did."""
    parts = files.parts
    engine.processes = count + 1
    files.begin(processes=count + 1)
    parts.share()
    had = parts.have

    def help_out(tell: Tell) -> None:
        helper = engine.for_a_fork()
        helper.tick = lambda: tell(_done(helper, parts.have - had))
        helper.run(files)
        helper.tick()

    with Helpers(board, help_out) as helpers:
        helpers.start(count)

        def watch() -> None:
            helpers.check()
            tick(_done(engine, parts.have) + helpers.counts)

        engine.tick = watch
        engine.run(files)
        helpers.wait(watch, engine.deadline)
    parts.gather()
    return replace(helpers.counts, have=0, connections=0)


def _done(engine: Engine, have: int) -> Counts:
    return Counts(have, engine.received, engine.pacing.retries, engine.opened, engine.connections)


def _plan(config: Config, manifest: bytes) -> Plan:
    digest = sha256_digest(manifest)
    if config.index_digest not in ("", digest):
        raise BuildIncomplete(config.index_prefix.manifest, config.index_digest, digest)
    return plan_pull(parse_index_manifest(manifest, config.index_prefix), digest)


def _check_model(plan: Plan, destination: Destination) -> None:
    path = destination.partial / MODEL_MANIFEST
    with disk(path):
        digest = sha256_digest(path.read_bytes())
    if digest != plan.model_digest:
        name = next(file.name for file in plan.files if file.path == MODEL_MANIFEST)
        raise BuildIncomplete(name, plan.model_digest, digest)
