r"""The filter of an index: which of its items nobody may find now, such as those that are sold out.

`filters/<environment>/<index>.json` is mutable, and a trigger as a commit is: it names the data, which are written
before it and never changed, `filters/<environment>/<index>/<sha256>.hidden`. All numbers are little-endian:

    8 bytes   magic "IDXHID1\n"
    8 bytes   count, uint64
    8*count bytes   first 8 bytes of blake2b of each hidden id as uint64, ascending, none twice

`filters/<environment>/<index>/last-good.json` is a copy of the one that was last in force on every pod, with its
generation: pods that start while the live one can't be read hide what the others hide.

These are the hashes of `items.lookup`, so ids that are in no build are no fault: a filter outlives builds. Of 3,000,000
items and as many hidden ones some other item shares a hash with chance 5e-7, and would be hidden, too.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any

from model_repository.digests import check_sha256, sha256_digest
from model_repository.documents.items.item_ids import hash_item
from model_repository.errors import DocumentMalformed
from model_repository.fields import Fields, format_document, parse_document
from model_repository.names import Target
from model_repository.records import Bound, read, written

FILTER_LIMIT = 64 * 1024
"""Most bytes of a filter object."""

HIDDEN_LIMIT = 100_000_000
"""Most items that a filter hides."""

_SCHEMA = 1
_MAGIC = b"IDXHID1\n"
_WORD = 8
_HEAD_BYTES = len(_MAGIC) + _WORD


@dataclass(frozen=True, slots=True)
class ItemFilter:
    """What somebody wants to be hidden.

    hidden: how many items. sha256: of the data, as ``sha256:<64 hex digits>``. by, reason: for people; may be empty.
    """

    hidden: Annotated[int, Bound(0, HIDDEN_LIMIT)]
    sha256: Annotated[str, Bound(parse=check_sha256)]
    by: Annotated[str, Bound(longest=200)] = ""
    reason: Annotated[str, Bound(longest=1000)] = ""

    @property
    def size(self) -> int:
        """Bytes of the data."""
        return _HEAD_BYTES + _WORD * self.hidden


@dataclass(frozen=True, slots=True)
class LiveFilter:
    """A filter as it stands in the bucket now; generation: that of its object, which names it."""

    target: Target
    generation: int
    filter: ItemFilter

    @property
    def data(self) -> str:
        """The name of its data."""
        return self.target.filter_data(self.filter.sha256)


def parse_item_filter(data: bytes, target: Target) -> ItemFilter:
    """Read the filter object of `target`; raises `DocumentMalformed`."""
    return _read(parse_document(data, target.filter_name, limit=FILTER_LIMIT))


def parse_last_good_filter(data: bytes, target: Target) -> LiveFilter:
    """Read what stands at `target.last_good_filter_name`; raises `DocumentMalformed`."""
    fields = parse_document(data, target.last_good_filter_name, limit=FILTER_LIMIT)
    return LiveFilter(target, fields.whole("generation", least=1), _read(fields))


def _read(fields: Fields) -> ItemFilter:
    fields.schema_version(_SCHEMA)
    return read(ItemFilter, fields)


def format_item_filter(item_filter: ItemFilter) -> bytes:
    """Write a filter object: parse(format(x)) == x."""
    return format_document(_written(item_filter))


def format_last_good_filter(live: LiveFilter) -> bytes:
    """Write the copy of a filter that is in force: parse(format(x)) == x."""
    return format_document(_written(live.filter) | {"generation": live.generation})


def _written(item_filter: ItemFilter) -> dict[str, Any]:
    return {"schema_version": _SCHEMA, **written(item_filter)}


def make_filter(items: Iterable[str], *, by: str = "", reason: str = "") -> tuple[ItemFilter, bytes]:
    """A filter that hides items with these ids, in any order, and its data."""
    hashes = array("Q", sorted({hash_item(item) for item in items}))
    count = len(hashes)
    data = _MAGIC + count.to_bytes(_WORD, "little") + hashes.tobytes()
    return ItemFilter(count, sha256_digest(data), by, reason), data


def decode_hidden(data: bytes, item_filter: ItemFilter, name: str) -> array[int]:
    """Return the hashes, ascending, in the data at `name` that a filter describes; raises `DocumentMalformed`."""
    if len(data) != item_filter.size or sha256_digest(data) != item_filter.sha256:
        raise DocumentMalformed(
            name, f"should be {item_filter.size} bytes with {item_filter.sha256}, as the filter says"
        )
    if data[:_HEAD_BYTES] != _MAGIC + item_filter.hidden.to_bytes(_WORD, "little"):
        raise DocumentMalformed(name, f"expected the magic {_MAGIC!r} and {item_filter.hidden} items")
    hashes = read_hashes(data)
    if any(one >= other for one, other in pairwise(hashes)):
        raise DocumentMalformed(name, "the hashes must ascend, and none may stand twice")
    return hashes


def read_hashes(data: bytes) -> array[int]:
    """Return the hashes in a filter's data, which were verified before."""
    hashes = array("Q")
    hashes.frombytes(data[_HEAD_BYTES:])
    return hashes
