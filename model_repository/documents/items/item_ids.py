r"""Item ids as files that are mapped, not parsed: a server of millions of items starts at once.

`<partition>.ids` (position -> id), all numbers little-endian; partitions that share a file of vectors share one of ids:

    8 bytes   magic "IDXIDS1\n"
    8 bytes   count, uint64
    8*(count+1) bytes   where each id begins in the text, uint64; the last one is where the text ends
    ...       the ids in UTF-8, one after another

`items.lookup` (id -> partition and position):

    8 bytes   magic "IDXLKP1\n"
    8 bytes   count, uint64
    8*count bytes   first 8 bytes of blake2b of each id as uint64, ascending
    8*count bytes   partition number << 32 | position, uint64, in the same order

The lookup holds hashes alone: whoever finds an entry compares the id at that position with the one asked for.
"""

from __future__ import annotations

import hashlib
import mmap
import struct
import sys
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from copy import copy
from itertools import pairwise
from typing import Self

from model_repository.errors import DocumentMalformed

_IDS_MAGIC = b"IDXIDS1\n"
_LOOKUP_MAGIC = b"IDXLKP1\n"
_HEAD = struct.Struct("<8sQ")
_WORD = 8
_HALF, _WHOLE = 2**32 - 1, 2**64 - 1

Buffer = bytes | memoryview | mmap.mmap

if sys.byteorder != "little":
    raise ImportError("files of items are mapped and written as they stand in memory: use a little-endian machine")


def encode_item_ids(ids: Sequence[str]) -> bytes:
    """The bytes of `<partition>.ids` for ids in the order of their positions."""
    texts = [text.encode() for text in ids]
    offsets = array("Q", [0])
    for text in texts:
        offsets.append(offsets[-1] + len(text))
    return _HEAD.pack(_IDS_MAGIC, len(texts)) + offsets.tobytes() + b"".join(texts)


def encode_item_lookup(partitions: Sequence[Sequence[str]]) -> bytes:
    """The bytes of `items.lookup` for the ids of every partition, in the order of the manifest's partitions.

    Raises `ValueError` if an id stands twice: an item is in exactly one partition.
    """
    # as one number each: millions of tuples would be several times their size
    entries = sorted(
        hash_item(item) << 64 | number << 32 | position
        for number, ids in enumerate(partitions)
        for position, item in enumerate(ids)
    )

    def item_at(entry: int) -> str:
        return partitions[entry >> 32 & _HALF][entry & _HALF]

    for one, other in pairwise(entries):
        if one >> 64 == other >> 64 and item_at(one) == item_at(other):
            raise ValueError(f"item {item_at(one)!r} stands twice; an item belongs to exactly one category")
    hashes = array("Q", (entry >> 64 for entry in entries))
    places = array("Q", (entry & _WHOLE for entry in entries))
    return _HEAD.pack(_LOOKUP_MAGIC, len(entries)) + hashes.tobytes() + places.tobytes()


class ItemIds(Sequence[str]):
    """The ids of one partition, or of several that share a file, by position, over that file, mapped."""

    def __init__(self, buffer: Buffer, name: str) -> None:
        """Read over `buffer`, the bytes of the file at `name`; raises `DocumentMalformed` if they can't be that."""
        count, words = _open(buffer, _IDS_MAGIC, name)
        self._offsets = words[: count + 1]
        self._text = memoryview(buffer)[_HEAD.size + _WORD * (count + 1) :]
        if len(self._offsets) != count + 1 or self._offsets[count] != len(self._text):
            raise DocumentMalformed(name, "the item ids are cut short")

    def part(self, first: int, items: int) -> Self:
        """So many of these ids, from position `first` on, over the same bytes."""
        if not 0 <= first <= first + items <= len(self):
            raise IndexError(first + items)
        part = copy(self)
        part._offsets = self._offsets[first : first + items + 1]  # noqa: SLF001 - of its own class
        return part

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __getitem__(self, position: int) -> str:  # type: ignore[override] # no slices: nobody needs them
        """The id at a position; raises IndexError."""
        if not 0 <= position < len(self):
            raise IndexError(position)
        return str(self._text[self._offsets[position] : self._offsets[position + 1]], "utf-8")


class ItemLookup:
    """Finds an id's partition and position, over a mapped file; hashes, places: its columns."""

    def __init__(self, buffer: Buffer, name: str) -> None:
        """Read over `buffer`, the bytes of the file at `name`; raises `DocumentMalformed` if they can't be that."""
        count, words = _open(buffer, _LOOKUP_MAGIC, name)
        if len(words) != 2 * count:
            raise DocumentMalformed(name, "the item lookup is cut short")
        self.hashes = words[:count]
        self.places = words[count:]

    def __len__(self) -> int:
        return len(self.hashes)

    def find(self, item: str) -> Iterator[tuple[int, int]]:
        """Every (partition number, position) at which `item` may stand: nearly always none or one."""
        wanted = hash_item(item)
        at = bisect_left(self.hashes, wanted)
        while at < len(self.hashes) and self.hashes[at] == wanted:
            place = self.places[at]
            yield place >> 32, place & 0xFFFFFFFF
            at += 1


def hash_item(item: str) -> int:
    """The hash by which an id is looked up: the first 8 bytes of its blake2b, as a number."""
    return int.from_bytes(hashlib.blake2b(item.encode(errors="surrogatepass"), digest_size=_WORD).digest(), "little")


def _open(buffer: Buffer, magic: bytes, name: str) -> tuple[int, memoryview[int]]:
    view = memoryview(buffer).cast("B")
    if len(view) < _HEAD.size:
        raise DocumentMalformed(name, "cut short")
    found, count = _HEAD.unpack_from(view)
    if found != magic:
        raise DocumentMalformed(name, f"expected the magic {magic!r}, found {found!r}")
    words = min(len(view) - _HEAD.size, _WORD * 2 * max(count, 1)) // _WORD
    return count, view[_HEAD.size : _HEAD.size + _WORD * words].cast("Q")
