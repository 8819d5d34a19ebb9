"""What is fetched and what it must be: functions of values, without a network or a disk.

A pull is a list of files. A file is cut into spans, each asked for with one ranged GET; how long a span is follows from
what the connections give, so it is decided when a connection is free, not before.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from model_repository.digests import parse_crc32c
from model_repository.documents.files import File
from model_repository.documents.index_manifest import IndexManifest


@dataclass(frozen=True, slots=True)
class Wanted:
    """One file of the pull.

    name: the object's. path: below the destination. size: bytes. crc32c: of all of them.
    blocks: of each BLOCK_BYTES of the contract in turn, or none.
    """

    name: str
    path: str
    size: int
    crc32c: int
    blocks: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """All files of a pull besides index.json itself, in the order in which they are asked for.

    digest: sha256 of index.json: it names the plan, since index.json lists every file with size and crc32c.
    model_digests: sha256 of each model.json, by its path.
    """

    digest: str
    model_digests: dict[str, str]
    files: tuple[Wanted, ...]

    @property
    def bytes(self) -> int:
        """Bytes of all files together."""
        return sum(file.size for file in self.files)


def plan_pull(manifest: IndexManifest, digest: str) -> Plan:
    """The plan for a build: its files below ``index/``, those of models and detector where the bucket has them."""
    wanted = _wanted(str(manifest.prefix), "index", manifest.files)
    for reference in manifest.references:
        wanted += _wanted(str(reference.prefix), str(reference.prefix), reference.files)
    # Small files first: each costs a wait for its first byte, which large ones cover; those can be cut to end together.
    wanted.sort(key=lambda file: (file.size, file.path))
    digests = {reference.prefix.manifest: reference.digest for reference in manifest.references}
    return Plan(digest, digests, tuple(wanted))


def _wanted(prefix: str, folder: str, files: Iterable[File]) -> list[Wanted]:
    return [
        Wanted(
            f"{prefix}/{file.name}",
            f"{folder}/{file.name}",
            file.size,
            parse_crc32c(file.crc32c),
            tuple(map(parse_crc32c, file.blocks)),
        )
        for file in files
    ]
