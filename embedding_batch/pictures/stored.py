"""Pictures of this machine and of buckets, read by a few threads."""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Lock
from typing import Final

from embedding_batch.pictures.picture import Fetched, Picture, missing
from embedding_batch.pictures.politeness import Politeness
from embedding_batch.pictures.room import Room, Share
from model_repository.bucket.store import Store
from model_repository.errors import AccessDenied, BucketRefused, DocumentMalformed, ObjectMissing

THREADS: Final = 8
_DENIALS: Final = 20
"""A bucket that lets nobody read so many objects, and none, is meant as a whole."""


@dataclass(slots=True)
class _Access:
    """Whether a bucket lets itself be read. denied: what it refused before it gave anything."""

    readable: bool = False
    denied: list[tuple[Picture, AccessDenied | BucketRefused]] = field(default_factory=list)


class Stored:
    """Reads what is added to it, and delivers each picture once. For use within its event loop.

    A picture that isn't there, or can't be read, is delivered with a reason. `crash` gets what the batch can't go on
    with: a bucket that isn't available, or from which nothing at all may be read.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        politeness: Politeness,
        room: Room,
        *,
        open_bucket: Callable[[str], Store],
        deliver: Callable[[Fetched, Share | None], None],
        crash: Callable[[BaseException], None],
    ) -> None:
        self._most = politeness.most_bytes
        self._room = room
        self._open_bucket = open_bucket
        self._deliver = deliver
        self._crash = crash
        self._loop = loop
        self._pool = ThreadPoolExecutor(THREADS, "pictures")
        self._waiting: asyncio.Queue[Picture] = asyncio.Queue()
        self._readers: list[asyncio.Task[None]] = []
        self._lock = Lock()
        self._buckets: dict[str, Store] = {}
        self._access: dict[str, _Access] = {}
        self._unsettled = 0
        self._is_all = False

    def add(self, picture: Picture) -> None:
        """Have a picture read."""
        self._unsettled += 1
        self._waiting.put_nowait(picture)
        if len(self._readers) < THREADS:
            reader = self._loop.create_task(self._read_on())
            reader.add_done_callback(self._ended)
            self._readers.append(reader)

    def all_added(self) -> None:
        """Nothing more will come."""
        self._is_all = True
        self._look_at_denials()

    def close(self) -> None:
        """Read nothing more; what a thread reads just now comes to nothing."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._crash(error)

    async def _read_on(self) -> None:
        while True:
            picture = await self._waiting.get()
            share = await self._room.share(self._most)
            try:
                found = await self._loop.run_in_executor(self._pool, self._read, picture)
            except (AccessDenied, BucketRefused) as error:
                share.free()
                self._denied(picture, error)
            else:
                await self._bring(found, share)

    async def _bring(self, found: Fetched, share: Share) -> None:
        if found.data is None:
            share.free()
            self._settle(found, None)
            return
        await share.resize(len(found.data))
        if found.picture.uri.startswith("gs://"):
            self._given(_bucket_of(found.picture.uri))
        self._settle(found, share)

    def _settle(self, fetched: Fetched, share: Share | None) -> None:
        self._unsettled -= 1
        self._deliver(fetched, share)
        self._look_at_denials()

    # Rights: of an object, or of the whole bucket

    def _given(self, bucket: str) -> None:
        access = self._access.setdefault(bucket, _Access(readable=True))
        access.readable = True
        denied, access.denied = access.denied, []
        for picture, error in denied:
            self._settle(_unread(picture, error), None)

    def _denied(self, picture: Picture, error: AccessDenied | BucketRefused) -> None:
        access = self._access.setdefault(_bucket_of(picture.uri), _Access())
        if access.readable:
            self._settle(_unread(picture, error), None)
        else:
            access.denied.append((picture, error))
            self._look_at_denials()

    def _look_at_denials(self) -> None:
        """Where nothing but denials is left of a bucket, it denies them all."""
        held = [access.denied for access in self._access.values() if access.denied]
        is_end = self._is_all and self._unsettled == sum(map(len, held))
        for denied in held:
            if is_end or len(denied) >= _DENIALS:
                self._crash(denied[0][1])
                return

    # In a thread

    def _read(self, picture: Picture) -> Fetched:
        uri = picture.uri
        data = self._read_object(uri) if uri.startswith("gs://") else read_file(uri, self._most)
        if isinstance(data, str):
            return _unread(picture, data)
        return Fetched(picture, hashlib.sha256(data).digest(), data, None, None, None)

    def _read_object(self, uri: str) -> bytes | str:
        bucket, _, name = uri.removeprefix("gs://").partition("/")
        try:
            return self._store(bucket).read(name, limit=self._most).data
        except ObjectMissing:
            return f"gs://{bucket} has no such object"
        except DocumentMalformed:
            return _too_large(self._most)

    def _store(self, bucket: str) -> Store:
        with self._lock:
            if bucket not in self._buckets:
                self._buckets[bucket] = self._open_bucket(bucket)
            return self._buckets[bucket]


def read_file(path: str, most: int) -> bytes | str:
    """The bytes of a file, or what is wrong; most: so many bytes."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe that nobody writes to would be waited for
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                return "it is no file"
            data = file.read(min(status.st_size, most) + 1)
    except (OSError, ValueError) as error:  # ValueError: no path can be called that
        return str(getattr(error, "strerror", None) or error)
    return _too_large(most) if len(data) > most else data


def _unread(picture: Picture, why: object) -> Fetched:
    return missing(picture, f"the picture can't be read: {why}")


def _too_large(most: int) -> str:
    return f"it has more than the {most} bytes allowed"


def _bucket_of(uri: str) -> str:
    return uri.removeprefix("gs://").partition("/")[0]
