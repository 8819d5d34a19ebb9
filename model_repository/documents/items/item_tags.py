r"""Which items have which tag, such as ``brand=acme``: a file that is mapped, not parsed.

`items.tags`, all numbers little-endian, a place being the number of an item when the partitions of index.json, and the
positions of each, are counted through from 0:

    8 bytes   magic "IDXTAG1\n"
    8 bytes   count of tags, uint64
    8*(count+1) bytes   where each tag begins in the text, uint64; the last one is where the text ends
    8*(count+1) bytes   where the places of each tag begin, uint64; the last one is how many there are
    4*places bytes      the places of each tag, uint32, ascending
    ...       the tags in UTF-8, ``name=value``, in order of their bytes, none twice
"""

from __future__ import annotations

import re
import struct
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping

from model_repository.documents.items.item_ids import Buffer
from model_repository.errors import DocumentMalformed, NameRefused

TAG_LIMIT = 100
"""Most characters of a tag."""
TAGS_LIMIT = 100_000
"""Most different tags of an index."""
OTHER_NAME = "tag"
"""The name of tags that are given without one."""

_MAGIC = b"IDXTAG1\n"
_HEAD = struct.Struct("<8sQ")
_WORD, _PLACE = 8, 4
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_RESERVED = frozenset({"after", "box", "category", "detect", "k", "limit"})
"""What a search asks for by these names is something else."""


def parse_tag(text: str) -> str:
    """Return a tag as ``name=value``, which ``red`` becomes as ``tag=red``; raises `NameRefused`."""
    name, equals, value = text.partition("=")
    if not equals:
        name, value = OTHER_NAME, text
    if not _NAME.fullmatch(name) or name in _RESERVED:
        raise NameRefused(
            f"tag {text[:80]!r}: expected name=value, the name of at most 40 of a-z, 0-9 and '_', beginning with a "
            f"letter, and none of {', '.join(sorted(_RESERVED))}"
        )
    if not value or len(text) > TAG_LIMIT or not value.isprintable():
        raise NameRefused(f"tag {text[:80]!r}: expected at most {TAG_LIMIT} printable characters, and a value")
    return f"{name}={value}"


def tag_name(tag: str) -> str:
    """The name of a tag that `parse_tag` gave."""
    return tag.partition("=")[0]


def encode_item_tags(places: Mapping[str, bytes]) -> bytes:
    """The bytes of `items.tags`. places: of each tag as `parse_tag` gives it: uint32, ascending, little-endian."""
    tags = sorted((tag.encode(), its) for tag, its in places.items())
    starts, of_places = array("Q", [0]), array("Q", [0])
    for text, its in tags:
        starts.append(starts[-1] + len(text))
        of_places.append(of_places[-1] + len(its) // _PLACE)
    head = _HEAD.pack(_MAGIC, len(tags)) + starts.tobytes() + of_places.tobytes()
    return b"".join([head, *(its for _, its in tags), *(text for text, _ in tags)])


class ItemTags:
    """Finds the items of a tag, over a mapped file. names: those of its tags, ascending."""

    def __init__(self, buffer: Buffer, name: str, items: int) -> None:
        """Read over `buffer`, the bytes of the file at `name`; items: how many the index has.

        Raises `DocumentMalformed` if they can't be that.
        """
        view = memoryview(buffer).cast("B")
        magic, count = _HEAD.unpack_from(view) if len(view) >= _HEAD.size else (b"", 0)
        if magic != _MAGIC:
            raise DocumentMalformed(name, f"expected the magic {_MAGIC!r}, found {bytes(view[:8])!r}")
        words = 2 * (count + 1)
        if count > TAGS_LIMIT or len(view) < _HEAD.size + _WORD * words:
            raise DocumentMalformed(name, "the tags are cut short")
        numbers = view[_HEAD.size : _HEAD.size + _WORD * words].cast("Q")
        self._starts, self._of_places = numbers[: count + 1], numbers[count + 1 :]
        begin = _HEAD.size + _WORD * words
        end = begin + _PLACE * self._of_places[count]
        if len(view) != end + self._starts[count]:
            raise DocumentMalformed(name, "the tags are cut short")
        self._places, self._text = view[begin:end].cast("I"), view[end:]
        self._name, self._items = name, items
        self.names = tuple(sorted({tag_name(self._tag(number).decode()) for number in range(count)}))

    def __len__(self) -> int:
        return len(self._starts) - 1

    def _tag(self, number: int) -> bytes:
        return bytes(self._text[self._starts[number] : self._starts[number + 1]])

    def given(self) -> Counter[str]:
        """How often a tag of each name is given to an item."""
        found: Counter[str] = Counter()
        for number in range(len(self)):
            found[tag_name(self._tag(number).decode())] += self._of_places[number + 1] - self._of_places[number]
        return found

    def places(self, tag: str) -> memoryview[int]:
        """The places of the items with a tag, uint32, ascending; none if no item has it.

        Raises `DocumentMalformed` if there can be no such places.
        """
        wanted = tag.encode()
        number = bisect_left(range(len(self)), wanted, key=self._tag)
        if number == len(self) or self._tag(number) != wanted:
            return self._places[:0]
        found = self._places[self._of_places[number] : self._of_places[number + 1]]
        if len(found) and found[-1] >= self._items:
            raise DocumentMalformed(self._name, f"{tag!r}: has places beyond the index's {self._items} items")
        return found
