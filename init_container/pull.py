"""One pull from beginning to end: index.json, the plan, the files, the rename."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, ClassVar

from init_container.config import LEAST_DEADLINE, Config
from init_container.disk.destination import Destination
from init_container.network import credentials
from init_container.network.downloader import Downloader
from init_container.network.jobs import SmallObject

if TYPE_CHECKING:
    from init_container.plan import Plan
    from init_container.processes.ledger import Counts

MANIFEST_LIMIT = 16 * 1024 * 1024
"""Most bytes of an index.json that are held in memory: the contract's own limit, without importing the contract."""


class Stopped(BaseException):
    """SIGTERM or SIGINT came: the pod is going away, or somebody pressed Ctrl-C.

    It may be raised on any line, also where a connection's errors are caught and got over: so it isn't an Exception.
    """

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
    another pull is at the same destination. Raises `PermanentError`, `TransientError` or `Stopped`; what was verified
    by then stays in the partial folder, and the next pull goes on from there.
    """
    began = time.monotonic()
    destination = Destination(config.destination)
    if there := _published(config):
        return Summary(there.bytes, 0, time.monotonic() - began, 0, 0, already=True)
    destination.lock(began + (config.deadline or LEAST_DEADLINE), waiting)
    try:
        # The pull that we may have waited for has published it.
        if there := _published(config):
            destination.discard()
            return Summary(there.bytes, 0, time.monotonic() - began, 0, 0, already=True)
        destination.make_way()
        return _fetch(config, environment, destination, began, progress)
    finally:
        destination.unlock()


def _published(config: Config) -> Plan | None:
    if not os.path.lexists(config.destination):
        return None
    from init_container.disk.published import published  # noqa: PLC0415 - much that a first pull does without

    return published(config.destination, config.index_prefix, config.index_digest)


def _fetch(
    config: Config,
    environment: Mapping[str, str],
    destination: Destination,
    began: float,
    progress: Callable[[Progress], None],
) -> Summary:
    who = credentials.from_environment(environment, anonymous=config.anonymous)
    with closing(Downloader(config, who)) as downloader:
        document = SmallObject(config.index_prefix.manifest, MANIFEST_LIMIT)
        downloader.ask(document)
        # What only the answer needs is imported while the answer is on its way.
        from init_container.fetch import fetch  # noqa: PLC0415

        downloader.run(document)

        def tick(done: Counts, total: int) -> None:
            seconds = time.monotonic() - began
            progress(Progress(done.have, total, done.received, seconds, done.retries, done.connections))

        plan, done = fetch(config, downloader, destination, bytes(document.data), began=began, tick=tick)
        seconds = time.monotonic() - began
        return Summary(plan.bytes, done.received, seconds, done.retries, done.opened, already=False)


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
