"""One pull from beginning to end: index.json, the plan, the files, the rename."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import ClassVar

from init_container import credentials
from init_container.config import Config
from init_container.destination import Destination
from init_container.engine import Engine
from init_container.jobs import Document, Files
from init_container.parts import Parts, disk
from init_container.plan import MODEL_MANIFEST, Plan, plan_pull
from model_repository.digests import sha256_digest
from model_repository.errors import BuildIncomplete, TransientError
from model_repository.index_manifest import INDEX_MANIFEST_LIMIT, parse_index_manifest

_SLOWEST_PULL = 20 * 1024 * 1024
"""Bytes/s; the deadline gives up on anything slower, as the rollout's own deadline does."""
_LEAST_DEADLINE = 60.0


class Stopped(TransientError):
    """SIGTERM or SIGINT came: the pod is going away, or somebody pressed Ctrl-C."""

    code: ClassVar[str] = "stopped"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a pull is.

    bytes: on the disk and verified, of `total`. fetched: that came over the network in this run. seconds: since the
        start of this run. retries: requests that had to be made again. connections: open now.
    """

    bytes: int
    total: int
    fetched: int
    seconds: float
    retries: int
    connections: int

    @property
    def rate(self) -> float:
        """Bytes/s fetched by this run."""
        return self.fetched / max(self.seconds, 1e-9)

    @property
    def eta(self) -> float | None:
        """Seconds to go at this rate, or None if nothing came yet."""
        return (self.total - self.bytes) / self.rate if self.fetched else None


@dataclass(frozen=True, slots=True)
class Summary:
    """How a pull went.

    bytes: of the whole build. fetched: of these over the network in this run. connections: opened in all.
    already: it was there before, and nothing was fetched.
    """

    bytes: int
    fetched: int
    seconds: float
    retries: int
    connections: int
    already: bool


def pull(
    config: Config,
    environment: Mapping[str, str],
    *,
    progress: Callable[[Progress], None] = lambda _: None,
    waiting: Callable[[], None] = lambda: None,
) -> Summary:
    """Pull a build, verify every byte, and let it appear at the destination by one rename.

    environment: where credentials are looked for. progress: called about 20 times a second. waiting: called when
    another pull is at the same destination. Raises `PermanentError` or `TransientError`; what was verified by
    then stays in the partial folder, and the next pull goes on from there.
    """
    began = time.monotonic()
    destination = Destination(config.destination)
    if there := destination.published(config.index_prefix, config.index_digest):
        return Summary(there.bytes, 0, time.monotonic() - began, 0, 0, already=True)
    destination.lock(began + (config.deadline or _LEAST_DEADLINE), waiting)
    try:
        # The pull that we may have waited for has published it.
        if there := destination.published(config.index_prefix, config.index_digest):
            destination.discard()
            return Summary(there.bytes, 0, time.monotonic() - began, 0, 0, already=True)
        return _fetch(config, environment, destination, began, progress)
    finally:
        destination.unlock()


def _fetch(
    config: Config,
    environment: Mapping[str, str],
    destination: Destination,
    began: float,
    progress: Callable[[Progress], None],
) -> Summary:
    who = credentials.from_environment(environment, anonymous=config.anonymous)
    with closing(Engine(config, who)) as engine:
        plan, manifest = _read_plan(config, engine)
        destination.prepare(plan, manifest)
        engine.deadline = began + (config.deadline or _LEAST_DEADLINE + plan.bytes / _SLOWEST_PULL)
        with closing(Parts(destination.partial, plan)) as parts:
            parts.make_empty_files()
            total = plan.bytes
            files = Files(plan, parts, range_bytes=config.range_bytes)

            def tick() -> None:
                seconds = time.monotonic() - began
                state = engine.received, seconds, engine.pacing.retries, engine.connections
                progress(Progress(parts.have, total, *state))

            engine.tick = tick
            engine.run(files)
            tick()
        _check_model(plan, destination)
        destination.publish(config.index_prefix, plan)
        seconds = time.monotonic() - began
        return Summary(plan.bytes, engine.received, seconds, engine.pacing.retries, engine.opened, already=False)


def _read_plan(config: Config, engine: Engine) -> tuple[Plan, bytes]:
    document = Document(config.index_prefix.manifest, INDEX_MANIFEST_LIMIT)
    engine.run(document)
    manifest = bytes(document.data)
    digest = sha256_digest(manifest)
    if config.index_digest not in ("", digest):
        raise BuildIncomplete(config.index_prefix.manifest, config.index_digest, digest)
    return plan_pull(parse_index_manifest(manifest, config.index_prefix), digest), manifest


def _check_model(plan: Plan, destination: Destination) -> None:
    path = destination.partial / MODEL_MANIFEST
    with disk(path):
        digest = sha256_digest(path.read_bytes())
    if digest != plan.model_digest:
        name = next(file.name for file in plan.files if file.path == MODEL_MANIFEST)
        raise BuildIncomplete(name, plan.model_digest, digest)


@contextmanager
def stopping() -> Iterator[None]:
    """Within this, SIGTERM and SIGINT raise `Stopped`, wherever the pull is: what is verified is kept."""

    def stop(number: int, _: FrameType | None) -> None:
        raise Stopped(
            f"stopped by {signal.Signals(number).name}; what came is kept, and the next pull goes on from there"
        )

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
