"""`diffs/<index>/<build>.json`: how a build differs from the one that served when it was made; written by the batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from model_repository.fields import Fields, format_document, format_moment, parse_document
from model_repository.names import IndexPrefix

DIFF_LIMIT = 64 * 1024 * 1024
"""Most bytes of a diff."""
_SCHEMA = 1
_MANY = 100_000
_LONG_URI = 2000
_FASTEST = 1e9


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
    detail: str


@dataclass(frozen=True, slots=True)
class Alike:
    """How alike the answers of two builds to the same questions are.

    asked: how many. overlap: the mean overlap@10. rank_biased_overlap: the mean. Both 0 to 1; 1 where none is asked.
    """

    asked: int
    overlap: float
    rank_biased_overlap: float


@dataclass(frozen=True, slots=True)
class SideOfCategory:
    """A category in one of the two builds. items: 0 where it isn't in it. recall, queries_per_second: None: unknown."""

    items: int
    recall: float | None = None
    queries_per_second: float | None = None


@dataclass(frozen=True, slots=True)
class CategoryDiff:
    """One category. gone, new: items of the index. moved: items that came into it from another category.

    compared: items whose vectors in both builds were; changed: of these, that have another one.
    """

    category: str
    before: SideOfCategory
    after: SideOfCategory
    gone: int
    new: int
    moved: int
    alike: Alike
    compared: int = 0
    changed: int = 0


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
    category: str
    overlap: float
    before: tuple[str, ...]
    after: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BuildDiff:
    """How the build `prefix` differs from `against`.

    models: of either build. compared: items whose vectors in both builds were; changed: of these, have another one;
    swapped: have that which another item had, or another one has theirs. items: that were asked about, which are some
    of those; doubled: nothing tells them from another item now, and something did. golden: the answers to golden
    pictures. pictures: where those of the examples are, by id. tags: of either build, by name.
    stops: the gates that it doesn't pass, of which `expected` were announced.
    """

    prefix: IndexPrefix
    against: IndexPrefix
    created: datetime
    models_before: tuple[str, ...]
    models_after: tuple[str, ...]
    categories: tuple[CategoryDiff, ...]
    items: Alike
    changed: int
    swapped: int
    golden: Alike
    examples: tuple[Example, ...]
    pictures: Mapping[str, str]
    stops: tuple[Stop, ...] = ()
    expected: tuple[Gate, ...] = ()
    compared: int = 0
    doubled: int = 0
    tags: tuple[TagDiff, ...] = ()

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
    diff = BuildDiff(
        prefix=prefix,
        against=fields.parsed("against", IndexPrefix.parse),
        created=fields.moment("created"),
        models_before=fields.texts("models_before"),
        models_after=fields.texts("models_after"),
        categories=tuple(_category(each) for each in fields.objects("categories", most=_MANY)),
        items=_alike(fields.object("items")),
        changed=fields.whole("changed"),
        swapped=fields.whole("swapped"),
        golden=_alike(fields.object("golden")),
        examples=tuple(_example(each) for each in fields.objects("examples", most=_MANY)),
        pictures=fields.strings("pictures", most=_MANY),
        stops=tuple(_stop(each) for each in fields.objects("stops", most=100)),
        expected=tuple(Gate(name) for name in fields.texts("expected") if name in set(Gate)),
        compared=fields.whole("compared"),
        doubled=fields.whole("doubled"),
        tags=tuple(_tag(each) for each in fields.objects("tags", most=_MANY)),
    )
    fields.done()
    return diff


def format_build_diff(diff: BuildDiff) -> bytes:
    """Write a diff: parse(format(x)) == x."""
    said = asdict(diff)
    del said["prefix"]
    return format_document(
        {
            "schema_version": _SCHEMA,
            "build": str(diff.prefix),
            **said,
            "against": str(diff.against),
            "created": format_moment(diff.created),
            "categories": [_without_none(each) for each in said["categories"]],
        }
    )


def _without_none(category: dict[str, Any]) -> dict[str, Any]:
    sides = {side: {k: v for k, v in category[side].items() if v is not None} for side in ("before", "after")}
    return {**category, **sides}


def _category(fields: Fields) -> CategoryDiff:
    found = CategoryDiff(
        fields.text("category", longest=100),
        _side(fields.object("before")),
        _side(fields.object("after")),
        fields.whole("gone"),
        fields.whole("new"),
        fields.whole("moved"),
        _alike(fields.object("alike")),
        fields.whole("compared"),
        fields.whole("changed"),
    )
    fields.done()
    return found


def _tag(fields: Fields) -> TagDiff:
    found = TagDiff(fields.text("name"), fields.whole("before"), fields.whole("after"))
    fields.done()
    return found


def _side(fields: Fields) -> SideOfCategory:
    side = SideOfCategory(
        fields.whole("items"),
        fields.number("recall", least=0.0, most=1.0) if fields.has("recall") else None,
        fields.number("queries_per_second", least=0.0, most=_FASTEST) if fields.has("queries_per_second") else None,
    )
    fields.done()
    return side


def _alike(fields: Fields) -> Alike:
    alike = Alike(
        fields.whole("asked"),
        fields.number("overlap", least=0.0, most=1.0),
        fields.number("rank_biased_overlap", least=0.0, most=1.0),
    )
    fields.done()
    return alike


def _example(fields: Fields) -> Example:
    example = Example(
        fields.text("item"),
        fields.text("category", longest=100),
        fields.number("overlap", least=0.0, most=1.0),
        fields.texts("before", most=100),
        fields.texts("after", most=100),
    )
    fields.done()
    return example


def _stop(fields: Fields) -> Stop:
    stop = Stop(fields.choice("gate", Gate), fields.text("detail", longest=_LONG_URI))
    fields.done()
    return stop
