"""Files that a manifest lists, and whether the bucket has them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from model_repository.bucket.store import ObjectInfo
from model_repository.digests import check_crc32c
from model_repository.errors import BuildIncomplete, NameRefused
from model_repository.fields import Fields
from model_repository.names import check_file

FILES_LIMIT = 20_000
"""Most files of one build or model."""

SIZE_LIMIT = 5 * 1024**4
"""Most bytes of one file: GCS takes no larger object."""

BLOCK_BYTES = 32 * 1024 * 1024
"""Files longer than this may have a crc32c for each block of so many bytes, the last one shorter."""


@dataclass(frozen=True, slots=True, order=True)
class File:
    """One file of a build or a model.

    name: relative to the build's or model's folder.
    size: bytes.
    crc32c: as GCS writes it (base64 of the big-endian four bytes).
    blocks: the crc32c of each BLOCK_BYTES in turn, or none: then one wrong byte costs the whole file once more.
    """

    name: str
    size: int
    crc32c: str
    blocks: tuple[str, ...] = ()


def parse_files(fields: Fields, field: str = "files") -> tuple[File, ...]:
    """Read a list of files; names must be unique and none may be a folder of another."""
    files = []
    for entry in fields.objects(field, most=FILES_LIMIT):
        name = entry.parsed("name", check_file)
        size = entry.whole("size", most=SIZE_LIMIT)
        files.append(File(name, size, entry.parsed("crc32c", check_crc32c), _parse_blocks(entry, size)))
        entry.done()
    names = {file.name for file in files}
    folders = {
        "/".join(parts[:depth]) for parts in (name.split("/") for name in names) for depth in range(1, len(parts))
    }
    if len(names) != len(files):
        fields.refuse(f"{field}: a name stands twice")
    if clash := names & folders:
        fields.refuse(f"{field}: {min(clash)!r} is both a file and a folder")
    return tuple(files)


def _parse_blocks(entry: Fields, size: int) -> tuple[str, ...]:
    if not entry.has("blocks"):
        return ()
    count = -(-size // BLOCK_BYTES)
    blocks = entry.texts("blocks", most=count, longest=8)
    if len(blocks) != count or count < 2:  # noqa: PLR2004 - a single block is the file
        entry.refuse(f"blocks: expected a crc32c for each {BLOCK_BYTES} bytes, of a file of more than that")
    for block in blocks:
        try:
            check_crc32c(block)
        except NameRefused as error:
            entry.refuse(f"blocks: {error}")
    return blocks


def check_used(fields: Fields, files: Iterable[File], used: Iterable[str], *, itself: str) -> None:
    """Refuse a manifest that uses a file without listing it, or lists `itself`."""
    listed = {file.name for file in files}
    if missing := set(used) - listed:
        fields.refuse(f"{min(missing)!r} is used but not listed in files")
    if itself in listed:
        fields.refuse(f"files: {itself} can't list itself")


def format_files(files: Iterable[File]) -> list[dict[str, Any]]:
    """Write a list of files, by name."""
    return [
        {"name": file.name, "size": file.size, "crc32c": file.crc32c}
        | ({"blocks": list(file.blocks)} if file.blocks else {})
        for file in sorted(files)
    ]


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
