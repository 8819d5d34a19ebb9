"""A filter for one build, as all workers map it: which positions of each partition may be found.

The file: 8 bytes, the length of the head (uint64, little-endian); the head in JSON, with the filter's generation, how
many items it hides, how many of this build's those are, and how many positions of each partition are left; then the
bits of each partition, one after another. 125 kB for a million items, once for all workers.

As a program, ``python -m search_server.filters.masks BUILD PREFIX HIDDEN GENERATION FILE``: it makes that file of the
data of a filter, so that the process that answers probes does not.
"""

from __future__ import annotations

import json
import mmap
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model_repository.documents.index_manifest import parse_index_manifest
from model_repository.documents.items.item_filter import read_hashes
from model_repository.documents.items.item_ids import ItemLookup
from model_repository.names import IndexPrefix
from vector_index import Visible

_HEAD = 8
_AT_ONCE = 65_536
"""Hashes that are looked for at once."""


@dataclass(frozen=True, slots=True)
class Masks:
    """generation: of the filter; 0: none. hidden: items that it hides; here: those of them that are in this build.

    visible: for each partition; None: all of it may be found.
    """

    generation: int
    hidden: int
    here: int
    visible: tuple[Visible | None, ...]


NOTHING_HIDDEN = Masks(0, 0, 0, ())


def hidden_positions(lookup: ItemLookup, hashes: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Partition and position, int64[H] each, of every item whose hash is one of these, uint64[N], ascending."""
    known, places = (np.frombuffer(words, np.uint64) for words in (lookup.hashes, lookup.places))
    first, last = np.searchsorted(known, hashes, "left"), np.searchsorted(known, hashes, "right")
    counts = last - first  # items that share a hash are hidden together
    starts = np.repeat(first, counts)
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    found = places[starts + within]
    return (found >> np.uint64(32)).astype(np.int64), (found & np.uint64(0xFFFFFFFF)).astype(np.int64)


def write_masks(
    path: Path, generation: int, hashes: NDArray[np.uint64], lookup: ItemLookup, sizes: Sequence[int]
) -> None:
    """Write the file for a build with that lookup, whose partitions have so many items."""
    flags, here = [np.ones(size, bool) for size in sizes], 0
    for start in range(0, len(hashes), _AT_ONCE):
        partitions, positions = hidden_positions(lookup, hashes[start : start + _AT_ONCE])
        here += len(positions)
        for number in np.unique(partitions):
            flags[number][positions[partitions == number]] = False
    left = [int(np.count_nonzero(of)) for of in flags]
    head = json.dumps({"generation": generation, "hidden": len(hashes), "here": here, "visible": left}).encode()
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as file:
        file.write(len(head).to_bytes(_HEAD, "little") + head)
        for of in flags:
            file.write(np.packbits(of, bitorder="little").tobytes())
    partial.replace(path)


def open_masks(path: Path, sizes: Sequence[int]) -> Masks:
    """Map the file; sizes: items of each partition. Raises OSError, ValueError for one that was made otherwise."""
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    at = _HEAD + int.from_bytes(mapped[:_HEAD], "little")
    head = json.loads(mapped[_HEAD:at])
    visible: list[Visible | None] = []
    for size, count in zip(sizes, head["visible"], strict=True):
        length = -(-size // 8)
        bits = np.frombuffer(mapped, np.uint8, length, at)
        visible.append(None if count == size else Visible(bits, size, count))
        at += length
    return Masks(head["generation"], head["hidden"], head["here"], tuple(visible))


def main(arguments: Sequence[str]) -> None:
    """See the module."""
    folder, prefix, hidden, generation, path = arguments
    build = Path(folder)
    manifest = parse_index_manifest((build / "index.json").read_bytes(), IndexPrefix.parse(prefix))
    with (build / manifest.lookup).open("rb") as file:
        lookup = ItemLookup(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), manifest.lookup)
    hashes = np.frombuffer(read_hashes(Path(hidden).read_bytes()), np.uint64)
    write_masks(Path(path), int(generation), hashes, lookup, [partition.items for partition in manifest.partitions])


if __name__ == "__main__":
    main(sys.argv[1:])
