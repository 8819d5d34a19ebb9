"""A bucket in memory: it behaves as the real one does, generations and preconditions included."""

from __future__ import annotations

import random
import sys
from datetime import UTC, datetime
from pathlib import Path

import google_crc32c

from model_repository.bucket.store import ObjectInfo, StoredObject
from model_repository.digests import format_crc32c
from model_repository.errors import DocumentMalformed, GenerationConflict, ObjectMissing


class MemoryStore:
    """Implements `store.Store`."""

    def __init__(self, bucket: str = "memory", seed: int | None = None) -> None:
        """Make an empty bucket. Its generations are unique, as GCS promises, and don't grow: that it doesn't."""
        self._bucket = bucket
        self._objects: dict[str, tuple[ObjectInfo, bytes]] = {}
        self._chance = random.Random(seed)
        self._given: set[int] = set()
        self.written: datetime | None = None
        """When what is written counts as written; None: now."""

    @property
    def bucket(self) -> str:
        """The bucket's name."""
        return self._bucket

    def read(self, name: str, *, limit: int) -> StoredObject:
        """See `store.Store.read`."""
        if name not in self._objects:
            raise ObjectMissing(name)
        info, data = self._objects[name]
        if len(data) > limit:
            raise DocumentMalformed(name, f"more than the {limit} bytes allowed", generation=info.generation)
        return StoredObject(name, info.generation, data)

    def download(self, name: str, path: Path) -> None:
        """See `store.Store.download`."""
        if name not in self._objects:
            raise ObjectMissing(name)
        path.write_bytes(self._objects[name][1])

    def read_range(self, name: str, start: int, size: int) -> bytes:
        """See `store.Store.read_range`."""
        return self.read(name, limit=sys.maxsize).data[start : start + size]

    def stat(self, name: str) -> ObjectInfo | None:
        """See `store.Store.stat`."""
        return self._objects[name][0] if name in self._objects else None

    def listing(self, prefix: str, *, deep: bool = True) -> list[ObjectInfo]:
        """See `store.Store.listing`."""
        found = [name for name in sorted(self._objects) if name.startswith(prefix)]
        return [self._objects[name][0] for name in found if deep or "/" not in name.removeprefix(prefix)]

    def folders(self, prefix: str) -> list[str]:
        """See `store.Store.folders`."""
        rests = (name[len(prefix) :] for name in self._objects if name.startswith(prefix))
        return sorted({f"{prefix}{rest.split('/')[0]}/" for rest in rests if "/" in rest})

    def write(self, name: str, data: bytes, *, if_generation_match: int | None) -> ObjectInfo:
        """See `store.Store.write`."""
        if if_generation_match is not None:
            live = self._objects[name][0].generation if name in self._objects else 0
            if live != if_generation_match:
                raise GenerationConflict(name, if_generation_match)
        crc32c = format_crc32c(google_crc32c.value(data))
        info = ObjectInfo(name, len(data), crc32c, self._next_generation(), self.now())
        self._objects[name] = (info, data)
        return info

    def now(self) -> datetime:
        """When it is; simulations have a time of their own."""
        return self.written or datetime.now(UTC)

    def _next_generation(self) -> int:
        while (generation := self._chance.randrange(1, 2**63)) in self._given:
            pass
        self._given.add(generation)
        return generation

    def upload(self, name: str, path: Path, *, if_generation_match: int | None) -> ObjectInfo:
        """See `store.Store.upload`."""
        return self.write(name, path.read_bytes(), if_generation_match=if_generation_match)

    def delete(self, name: str, *, if_generation_match: int | None = None) -> None:
        """See `store.Store.delete`."""
        there = self.stat(name)
        if there is not None and if_generation_match not in (None, there.generation):
            raise GenerationConflict(name, if_generation_match)
        self._objects.pop(name, None)
