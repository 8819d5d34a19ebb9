"""Files that a manifest lists, and whether the bucket has them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from model_repository.bucket.store import ObjectInfo
from model_repository.digests import check_crc32c
from model_repository.errors import BuildIncomplete, NameRefused
from model_repository.fields import Fields
from model_repository.names import check_file
from model_repository.records import Bound, written

FILES_LIMIT = 20_000
"""Most files of one build or model."""

SIZE_LIMIT = 5 * 1024**4
"""Most bytes of one file: GCS takes no larger object."""

BLOCK_BYTES = 32 * 1024 * 1024
"""Files longer than this may have a crc32c for each block of so many bytes, the last one shorter."""


FileName = Annotated[str, Bound(parse=check_file)]
"""Relative to the folder of a build or a model."""


@dataclass(frozen=True, slots=True, order=True)
class File:
    """One file of a build or a model.

    name: relative to the build's or model's folder.
    size: bytes.
    crc32c: as GCS writes it (base64 of the big-endian four bytes).
    blocks: the crc32c of each BLOCK_BYTES in turn, or none: then one wrong byte costs the whole file once more.
    """

    name: FileName
    size: Annotated[int, Bound(0, SIZE_LIMIT)]
    crc32c: Annotated[str, Bound(parse=check_crc32c)]
    blocks: Annotated[tuple[str, ...], Bound(entries=SIZE_LIMIT // BLOCK_BYTES, longest=8)] = ()

    def check(self, fields: Fields) -> None:
        """Refuse sums of blocks that aren't those of such a file."""
        if self.blocks and (self.size <= BLOCK_BYTES or len(self.blocks) != -(-self.size // BLOCK_BYTES)):
            fields.refuse(f"blocks: expected a crc32c for each {BLOCK_BYTES} bytes, of a file of more than that")
        for block in self.blocks:
            try:
                check_crc32c(block)
            except NameRefused as error:
                fields.refuse(f"blocks: {error}")


Files = Annotated[tuple[File, ...], Bound(entries=FILES_LIMIT)]
"""What a manifest lists; see `check_listed`."""


def check_listed(fields: Fields, files: Iterable[File], *needed: str) -> None:
    """Refuse a list in which a name stands twice, or is a folder of another, or one that is needed is missing."""
    listed = [file.name for file in files]
    names = set(listed)
    folders = {
        "/".join(parts[:depth]) for parts in (name.split("/") for name in names) for depth in range(1, len(parts))
    }
    if len(names) != len(listed):
        fields.refuse("files: a name stands twice")
    if clash := names & folders:
        fields.refuse(f"files: {min(clash)!r} is both a file and a folder")
    if missing := set(needed) - names:
        fields.refuse(f"files: {min(missing)} is missing")


def check_used(fields: Fields, files: Iterable[File], used: Iterable[str], *, itself: str) -> None:
    """Refuse a manifest that uses a file without listing it, or lists `itself`, or names that can't be together."""
    check_listed(fields, files)
    listed = {file.name for file in files}
    if missing := set(used) - listed:
        fields.refuse(f"{min(missing)!r} is used but not listed in files")
    if itself in listed:
        fields.refuse(f"files: {itself} can't list itself")


def format_files(files: Iterable[File]) -> list[dict[str, Any]]:
    """Write a list of files, by name."""
    return [written(file) for file in sorted(files)]


def check_files(prefix: str, files: Iterable[File], found: Iterable[ObjectInfo]) -> None:
    """Raise `BuildIncomplete` for the first of `files` that isn't below `prefix` as promised.

    found: a listing of the bucket below `prefix`, with full object names. Objects that no manifest lists are of no
    concern: nobody pulls them.
    """
    by_name: Mapping[str, ObjectInfo] = {info.name: info for info in found}
    for file in sorted(files):
        name = f"{prefix}/{file.name}"
        info = by_name.get(name)
        if info is None:
            raise BuildIncomplete(name, f"{file.size} bytes", "no such object")
        if info.size != file.size:
            raise BuildIncomplete(name, f"{file.size} bytes", f"{info.size} bytes")
        if info.crc32c != file.crc32c:
            raise BuildIncomplete(name, f"crc32c {file.crc32c}", f"crc32c {info.crc32c}")
