"""One pull from beginning to end: index.json, the plan, the files, the rename."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from types import FrameType
from typing import ClassVar

from init_container.config import LEAST_DEADLINE, Config
from init_container.disk.destination import Destination
from init_container.network import credentials
from init_container.network.downloader import Downloader
from init_container.network.jobs import SmallObject
from init_container.progress import Counts, Progress

MANIFEST_LIMIT = 16 * 1024 * 1024
"""Most bytes of an index.json that are held in memory: the contract's own limit, without importing the contract."""


class Stopped(BaseException):
    """SIGTERM or SIGINT came: the pod is going away, or somebody pressed Ctrl-C.

    It may be raised on any line, also where a connection's errors are caught and got over: so it isn't an Exception.
    """

    code: ClassVar[str] = "stopped"


def pull(
    config: Config,
    environment: Mapping[str, str],
    *,
    progress: Callable[[Progress], None] = lambda _: None,
    waiting: Callable[[], None] = lambda: None,
) -> Progress:
    """Pull a build, verify every byte, and let it appear at the destination by one rename.

    environment: where credentials are looked for. progress: called about 20 times a second. waiting: called when
    another pull is at the same destination. Raises `PermanentError`, `TransientError` or `Stopped`; what was verified
    by then stays in the partial folder, and the next pull goes on from there.
    """
    began = time.monotonic()
    destination = Destination(config.destination)
    if already := _already(config, began):
        return already
    destination.lock(began + (config.deadline or LEAST_DEADLINE), waiting)
    try:
        # The pull that we may have waited for has published it.
        if already := _already(config, began):
            destination.discard()
            return already
        destination.make_way()
        return _fetch(config, environment, destination, began, progress)
    finally:
        destination.unlock()


def _already(config: Config, began: float) -> Progress | None:
    if not os.path.lexists(config.destination):
        return None
    from init_container.disk.published import published  # noqa: PLC0415 - much that a first pull does without

    plan = published(config.destination, config.index_prefix, config.index_digest)
    if plan is None:
        return None
    return Progress(Counts(have=plan.bytes), plan.bytes, time.monotonic() - began, already=True)


def _fetch(
    config: Config,
    environment: Mapping[str, str],
    destination: Destination,
    began: float,
    progress: Callable[[Progress], None],
) -> Progress:
    who = credentials.from_environment(environment, anonymous=config.anonymous)
    with closing(Downloader(config, who)) as downloader:
        document = SmallObject(config.index_prefix.manifest, MANIFEST_LIMIT)
        downloader.ask(document)
        # What only the answer needs is imported while the answer is on its way.
        from init_container.fetch import fetch  # noqa: PLC0415

        downloader.run(document)

        def tick(done: Counts, total: int) -> None:
            progress(Progress(done, total, time.monotonic() - began))

        plan, done = fetch(config, downloader, destination, bytes(document.data), began=began, tick=tick)
        return Progress(done, plan.bytes, time.monotonic() - began)


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
