"""From index.json on: the plan, the files, the rename."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import replace

from init_container.config import LEAST_DEADLINE, Config
from init_container.disk.destination import Destination
from init_container.disk.files import Files
from init_container.disk.layout import disk
from init_container.disk.parts import Parts
from init_container.network.downloader import Downloader
from init_container.plan import Plan, plan_pull
from init_container.processes.ledger import Ledger
from init_container.processes.workers import Tell, Workers, processes_for
from init_container.progress import Counts
from model_repository.deployment import SLOWEST_PULL
from model_repository.digests import sha256_digest
from model_repository.documents.index_manifest import parse_index_manifest
from model_repository.errors import BuildIncomplete
from model_repository.resources.processors import processors


def fetch(
    config: Config,
    downloader: Downloader,
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
    downloader.deadline = began + (config.deadline or LEAST_DEADLINE + plan.bytes / SLOWEST_PULL)
    with closing(Parts(destination.partial, plan)) as parts:
        parts.allocate()
        done = _fetch_files(config, downloader, plan, parts, lambda counts: tick(counts, plan.bytes))
    _check_models(plan, destination)
    destination.publish(config.index_prefix, plan)
    return plan, done


def _fetch_files(
    config: Config, downloader: Downloader, plan: Plan, parts: Parts, tick: Callable[[Counts], None]
) -> Counts:
    """Fetch what is missing: with as many workers as are worth their while, and then alone what they left."""
    count = config.processes or processes_for(
        plan.bytes - parts.have, len(plan.files) - len(parts.whole()), processors()
    )
    if config.connections:
        count = min(count, config.connections)
    with closing(_ledger(count - 1, len(plan.files))) as ledger:
        files = Files(plan, parts, ledger, range_bytes=config.range_bytes)
        shared = Counts()
        if ledger.workers:
            shared = _fetch_with_workers(downloader, files, ledger, tick)
            downloader.processes = 1
            files.begin(processes=1)
        downloader.tick = lambda: tick(_done(downloader, parts.have) + shared)
        downloader.run(files)
        downloader.tick()
        if not files.whole:
            raise RuntimeError("a defect: all was fetched, but not every file was verified")
    return _done(downloader, parts.have) + shared


def _ledger(workers: int, files: int) -> Ledger:
    with suppress(OSError):  # nothing to lock: then one process does it
        return Ledger(workers, files)
    return Ledger(0, files)


def _fetch_with_workers(downloader: Downloader, files: Files, ledger: Ledger, tick: Callable[[Counts], None]) -> Counts:
    """Fetch side by side with workers, and take up what they noted; returns what they did."""
    parts = files.parts
    downloader.processes = ledger.workers + 1
    files.begin(processes=downloader.processes)
    parts.share()
    had = parts.have

    def work(tell: Tell) -> None:
        worker = downloader.for_a_fork()
        worker.tick = lambda: tell(_done(worker, parts.have - had))
        worker.run(files)
        worker.tick()

    with Workers(ledger, work) as workers:
        workers.start(ledger.workers)

        def watch() -> None:
            workers.check()
            tick(_done(downloader, parts.have) + workers.counts)

        downloader.tick = watch
        downloader.run(files)
        workers.wait(watch, downloader.deadline)
    parts.gather()
    return replace(workers.counts, have=0, connections=0)


def _done(downloader: Downloader, have: int) -> Counts:
    return Counts(have, downloader.received, downloader.backoff.retries, downloader.opened, downloader.connections)


def _plan(config: Config, manifest: bytes) -> Plan:
    digest = sha256_digest(manifest)
    if config.index_digest not in ("", digest):
        raise BuildIncomplete(config.index_prefix.manifest, config.index_digest, digest)
    return plan_pull(parse_index_manifest(manifest, config.index_prefix), digest)


def _check_models(plan: Plan, destination: Destination) -> None:
    for name, stated in plan.model_digests.items():
        path = destination.partial / name
        with disk(path):
            digest = sha256_digest(path.read_bytes())
        if digest != stated:
            raise BuildIncomplete(name, stated, digest)
