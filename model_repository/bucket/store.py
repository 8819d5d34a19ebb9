"""The one narrow interface to the bucket.

Two implementations are held to one contract test: `gcs_store.GcsStore`, and the bucket in memory that unit tests use.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What the bucket says of an object without its bytes.

    size: bytes. crc32c: as GCS writes it; "" in a listing that doesn't say it (see `checksums`). generation: another
    one for every write of this name, and no promise that it grows; generations of different names are not comparable.
    updated: when it was written, in UTC.
    """

    name: str
    size: int
    crc32c: str
    generation: int
    updated: datetime


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object's bytes, and the generation they belong to."""

    name: str
    generation: int
    data: bytes


class Store(Protocol):
    """A bucket.

    Every method raises `BucketUnavailable` or `AccessDenied` when the bucket doesn't let it work. Where there is no
    such bucket, listing and writing raise `BucketMissing`, while an object of it is as absent as any.
    """

    @property
    def bucket(self) -> str:
        """The bucket's name, without gs://."""
        ...

    def read(self, name: str, *, limit: int) -> StoredObject:
        """Read a whole object, with its generation, in one request.

        Raises `ObjectMissing`, or `DocumentMalformed` when it has more than `limit` bytes (they are not all fetched).
        """
        ...

    def download(self, name: str, path: Path) -> None:
        """Write a whole object into a file, without holding it in memory; its bytes are those of its crc32c.

        Raises `ObjectMissing`; what the file holds then is of no use.
        """
        ...

    def read_range(self, name: str, start: int, size: int) -> bytes:
        """Read `size` bytes of an object from the one at `start` on; fewer where it ends before. Nothing verifies them.

        Raises `ObjectMissing`.
        """
        ...

    def stat(self, name: str) -> ObjectInfo | None:
        """What the bucket says of the object, or None."""
        ...

    def listing(self, prefix: str, *, deep: bool = True) -> list[ObjectInfo]:
        """Every object whose name begins with `prefix`, by name. deep: also those in folders below it."""
        ...

    def folders(self, prefix: str) -> list[str]:
        """The distinct next parts of names below `prefix` (which ends with a slash), each with a slash at its end."""
        ...

    def write(self, name: str, data: bytes, *, if_generation_match: int | None) -> ObjectInfo:
        """Write an object. if_generation_match: 0, it must not exist; None, whatever is there is replaced.

        Raises `GenerationConflict`.
        """
        ...

    def upload(self, name: str, path: Path, *, if_generation_match: int | None) -> ObjectInfo:
        """Write an object from a file, without holding it in memory. Otherwise as `write`."""
        ...

    def delete(self, name: str, *, if_generation_match: int | None = None) -> None:
        """Delete an object; one that isn't there is as good as deleted. if_generation_match: that one alone.

        Raises `GenerationConflict`.
        """
        ...
