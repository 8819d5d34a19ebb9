"""The bytes of pictures, to somebody who just iterates."""

from __future__ import annotations

import asyncio
import itertools
import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import TYPE_CHECKING, Final

from embedding_batch.pictures.picture import Fetched, Picture
from embedding_batch.pictures.politeness import Politeness
from embedding_batch.pictures.room import Room, Share
from embedding_batch.pictures.stored import Stored
from model_repository.bucket.store import Store

if TYPE_CHECKING:
    from embedding_batch.pictures.web import Web

WINDOW: Final = 10_000
"""Pictures that are known here and not yet yielded. They are many, so that a slow host doesn't keep others waiting."""
_HANDFUL: Final = 500

_Delivered = tuple[Fetched, Share | None]


def fetch(
    pictures: Iterable[Picture], *, politeness: Politeness, open_bucket: Callable[[str], Store]
) -> Generator[Fetched]:
    """Yield what became of each picture, once each, in any order; see `Fetched`.

    The bytes of pictures that are on their way or wait to be taken are at most `politeness.room`, besides
    the one that is being put together and the one that was yielded last: where the caller is slow, hosts are asked
    less. Everything happens in threads of its own, which end with the generator; close it to break off. `pictures` is
    read as they are needed, in the caller's thread.

    Hosts are asked by this machine itself; a proxy that its environment names isn't used.

    open_bucket: gives the store of a bucket by its name; called once for each, in any thread.

    A URL is whatever the catalogue says. Whoever writes the catalogue can so have this machine ask any address that it
    reaches, those of its own network and metadata server included, and read any file that it may: authors of catalogues
    are trusted. Where they aren't, run the batch where there is nothing to reach.

    Raises BucketUnavailable; AccessDenied or BucketRefused where a bucket lets none of its pictures be read (that of
    one alone is a reason); and what open_bucket and `pictures` raise.
    """
    coming = iter(pictures)
    with _downloads(politeness, open_bucket) as downloads:
        asked = taken = 0
        is_all = False
        while True:
            while not is_all and asked - taken <= WINDOW - _HANDFUL and downloads.delivered.empty():
                handful = list(itertools.islice(coming, _HANDFUL))
                asked += len(handful)
                is_all = len(handful) < _HANDFUL
                downloads.add(handful, is_all=is_all)
            if taken == asked:
                return
            delivered = downloads.delivered.get()
            if isinstance(delivered, BaseException):
                raise delivered
            taken += 1
            fetched, share = delivered
            del delivered
            yield fetched
            del fetched
            if share is not None:
                downloads.free(share)


@contextmanager
def _downloads(politeness: Politeness, open_bucket: Callable[[str], Store]) -> Iterator[_Downloads]:
    downloads = _Downloads(politeness, open_bucket)
    downloads.thread.start()
    try:
        yield downloads
    finally:
        downloads.close()


class _Downloads:
    """An event loop in a thread. delivered: what became of pictures, or an error that ends it all."""

    def __init__(self, politeness: Politeness, open_bucket: Callable[[str], Store]) -> None:
        self.delivered: queue.SimpleQueue[_Delivered | BaseException] = queue.SimpleQueue()
        self.thread = threading.Thread(target=self._run, name="downloads", daemon=True)
        self._loop = asyncio.new_event_loop()
        self._end = asyncio.Event()
        self._politeness = politeness
        self._room = Room(politeness.room)
        self._stored = Stored(
            self._loop, politeness, self._room, open_bucket=open_bucket, deliver=self._deliver, crash=self.delivered.put
        )

    @cached_property
    def _web(self) -> Web:
        from embedding_batch.pictures.web import Web  # noqa: PLC0415 - aiohttp, for URLs alone: docs/benchmarks/start-up.md

        return Web(self._loop, self._politeness, self._room, deliver=self._deliver, crash=self.delivered.put)

    def add(self, pictures: Sequence[Picture], *, is_all: bool) -> None:
        """Have pictures fetched. is_all: these are the last."""
        self._loop.call_soon_threadsafe(self._add, pictures, is_all)

    def free(self, share: Share) -> None:
        """The caller is done with the bytes of this share."""
        with suppress(RuntimeError):  # closed: it ended by an error, which comes next
            self._loop.call_soon_threadsafe(share.free)

    def close(self) -> None:
        """End what goes on, and wait for that."""
        with suppress(RuntimeError):  # closed: it ended by an error already
            self._loop.call_soon_threadsafe(self._end.set)
        self.thread.join()

    # In the thread

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._main())
        except BaseException as error:  # noqa: BLE001 - it is raised again, in the caller's thread
            self.delivered.put(error)
        finally:
            self._loop.close()

    async def _main(self) -> None:
        try:
            await self._end.wait()
        finally:
            self._stored.close()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

    def _add(self, pictures: Sequence[Picture], is_all: bool) -> None:  # noqa: FBT001 - a callback
        try:
            for picture in pictures:
                is_url = picture.uri[:8].lower().startswith(("http://", "https://"))
                (self._web if is_url else self._stored).add(picture)
            if is_all:
                self._stored.all_added()
        except Exception as error:  # noqa: BLE001 - it is raised again, in the caller's thread
            self.delivered.put(error)

    def _deliver(self, fetched: Fetched, share: Share | None) -> None:
        self.delivered.put((fetched, share))
