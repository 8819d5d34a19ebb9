"""`diffs/<index>/<build>.json`: how a build differs from the one that served when it was made; written by the batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated

from model_repository.fields import format_document, parse_document
from model_repository.names import IndexPrefix
from model_repository.records import Bound, Share, read, written

DIFF_LIMIT = 64 * 1024 * 1024
"""Most bytes of a diff."""
_SCHEMA = 1
_MOST = Bound(entries=100_000)
_LONG_URI = 2000
_FASTEST = 1e9

Category = Annotated[str, Bound(longest=100)]


class Gate(StrEnum):
    """What may differ so much that a person has to look first; a change that is expected is announced by this name."""

    MODEL = "model"
    CATEGORIES = "categories"
    GONE = "gone"
    NEW = "new"
    MOVED = "moved"
    CHANGED = "changed"
    SWAPPED = "swapped"
    DOUBLED = "doubled"
    NEIGHBOURS = "neighbours"
    GOLDEN = "golden"
    RECALL = "recall"
    TAGS = "tags"


@dataclass(frozen=True, slots=True)
class Stop:
    """A gate that a build doesn't pass. detail: what was found, what is allowed, and by which option."""

    gate: Gate
    detail: Annotated[str, Bound(longest=_LONG_URI)]


@dataclass(frozen=True, slots=True)
class Alike:
    """How alike the answers of two builds to the same questions are.

    asked: how many. overlap: the mean overlap@10. rank_biased_overlap: the mean. Both 0 to 1; 1 where none is asked.
    """

    asked: int
    overlap: Share
    rank_biased_overlap: Share


@dataclass(frozen=True, slots=True)
class SideOfCategory:
    """A category in one of the two builds. items: 0 where it isn't in it. recall, queries_per_second: None: unknown."""

    items: int
    recall: Share | None = None
    queries_per_second: Annotated[float, Bound(0, _FASTEST)] | None = None


@dataclass(frozen=True, slots=True)
class CategoryDiff:
    """One category. gone, new: items of the index. moved: items that came into it from another category.

    compared: items whose vectors in both builds were; changed: of these, that have another one.
    """

    category: Category
    before: SideOfCategory
    after: SideOfCategory
    gone: int
    new: int
    moved: int
    alike: Alike
    compared: int
    changed: int


@dataclass(frozen=True, slots=True)
class TagDiff:
    """How many items have a tag of this name, by build; an item with two of them counts twice."""

    name: str
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class Example:
    """An item, or a golden picture, whose neighbours changed most: their ids in either build, nearest first."""

    item: str
    category: Category
    overlap: Share
    before: Annotated[tuple[str, ...], Bound(entries=100)]
    after: Annotated[tuple[str, ...], Bound(entries=100)]


@dataclass(frozen=True, slots=True)
class BuildDiff:
    """How the build `prefix` differs from `against`.

    models: of either build. compared: items whose vectors in both builds were; changed: of these, have another one;
    swapped: have that which another item had, or another one has theirs. items: that were asked about, which are some
    of those; doubled: nothing tells them from another item now, and something did. golden: the answers to golden
    pictures. pictures: where those of the examples are, by id. tags: of either build, by name.
    stops: the gates that it doesn't pass, of which `expected` were announced. environments: that it was to be
    committed to, one or none; None: a batch of a release before this doesn't say.
    """

    prefix: IndexPrefix
    against: IndexPrefix
    created: datetime
    models_before: tuple[str, ...]
    models_after: tuple[str, ...]
    categories: Annotated[tuple[CategoryDiff, ...], _MOST]
    items: Alike
    changed: int
    swapped: int
    golden: Alike
    examples: Annotated[tuple[Example, ...], _MOST]
    pictures: Annotated[Mapping[str, str], _MOST]
    stops: Annotated[tuple[Stop, ...], Bound(entries=100)]
    expected: tuple[Gate, ...]
    compared: int
    doubled: int
    tags: Annotated[tuple[TagDiff, ...], _MOST]
    environments: tuple[str, ...] | None = None

    @property
    def unexpected(self) -> tuple[Stop, ...]:
        """What keeps the build from going live."""
        return tuple(stop for stop in self.stops if stop.gate not in self.expected)

    @property
    def why(self) -> list[str]:
        """The same in words, a sentence for each gate."""
        return [f"{stop.gate}: {stop.detail}" for stop in self.unexpected]

    def total(self, name: str) -> int:
        """Of all categories: `gone`, `new` or `moved`."""
        return sum(getattr(each, name) for each in self.categories)

    @property
    def before(self) -> int:
        """Items of the build that it is compared with."""
        return sum(each.before.items for each in self.categories)

    @property
    def after(self) -> int:
        """Items of the build."""
        return sum(each.after.items for each in self.categories)


def diff_name(prefix: IndexPrefix) -> str:
    """Where the diff of a build stands."""
    return f"diffs/{prefix.index}/{prefix.build}.json"


def parse_build_diff(data: bytes, prefix: IndexPrefix) -> BuildDiff:
    """Read the diff of a build; raises `DocumentMalformed`."""
    fields = parse_document(data, diff_name(prefix), limit=DIFF_LIMIT)
    fields.schema_version(_SCHEMA)
    if fields.parsed("build", IndexPrefix.parse) != prefix:
        fields.refuse("is of another build; a diff must stand where it says")
    expected = tuple(Gate(name) for name in fields.texts("expected") if name in set(Gate))
    return read(BuildDiff, fields, prefix=prefix, expected=expected)


def format_build_diff(diff: BuildDiff) -> bytes:
    """Write a diff: parse(format(x)) == x."""
    return format_document({"schema_version": _SCHEMA, "build": str(diff.prefix), **written(diff, "prefix")})
