"""The list of what should be found: a folder with `catalogue.jsonl` and the pictures that it names."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from embedding_batch.errors import CatalogueMalformed
from model_repository.documents.files import FILES_LIMIT

FILE = "catalogue.jsonl"
ID_LIMIT = 500
CATEGORY_LIMIT = 100
"""Most characters, as index.json allows."""
CATEGORIES_LIMIT = (FILES_LIMIT - 1) // 2
"""Each has two files in a build, beside the lookup."""


@dataclass(frozen=True, slots=True)
class Item:
    """One product: it belongs to exactly one category, and has one picture."""

    id: str
    category: str
    picture: Path


@dataclass(frozen=True, slots=True)
class Listed:
    """An item whose picture is there. sha256: of the encoded picture, 32 bytes."""

    item: Item
    sha256: bytes


@dataclass(frozen=True, slots=True)
class Broken:
    """An item that can't be indexed, and why."""

    item: Item
    reason: str


@dataclass(frozen=True, slots=True)
class Listing:
    """Today's items by id, and those whose picture isn't there."""

    listed: tuple[Listed, ...]
    broken: tuple[Broken, ...]

    @property
    def items(self) -> int:
        """How many the catalogue has."""
        return len(self.listed) + len(self.broken)

    @property
    def catalogue(self) -> Iterator[Item]:
        """All items."""
        yield from (entry.item for entry in self.listed)
        yield from (entry.item for entry in self.broken)

    def without(self, faults: Mapping[bytes, str], categories: Collection[str]) -> Listing:
        """The same, with those of these categories broken whose picture has a fault.

        faults: sha256 -> what is wrong with that picture, for the model of these categories.
        """
        bad = {entry for entry in self.listed if entry.sha256 in faults and entry.item.category in categories}
        found = [Broken(entry.item, faults[entry.sha256]) for entry in bad]
        return Listing(
            tuple(entry for entry in self.listed if entry not in bad),
            tuple(sorted((*self.broken, *found), key=lambda broken: broken.item.id)),
        )


def read_catalogue(folder: Path) -> tuple[Item, ...]:
    """Read `catalogue.jsonl`: an object a line, with `id`, `category` and `file` (relative to the folder), maybe more.

    The items come in the order of their ids, whatever the file's. Raises CatalogueMalformed for the first line that is
    wrong.
    """
    path = folder / FILE
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")  # other separators may stand in a name
    except (OSError, UnicodeDecodeError) as error:
        raise CatalogueMalformed(f"{path}: can't be read ({error}); name the folder that has it") from error
    items: dict[str, Item] = {}
    for number, line in enumerate(lines, start=1):
        if line.strip():
            item = _item(folder, f"{path}:{number}", line)
            if item.id in items:
                raise CatalogueMalformed(f"{path}:{number}: the id {item.id!r} stands twice")
            items[item.id] = item
    if not items:
        raise CatalogueMalformed(f"{path}: has no items")
    categories = len({item.category for item in items.values()})
    if categories > CATEGORIES_LIMIT:
        raise CatalogueMalformed(f"{path}: {categories} categories, more than the {CATEGORIES_LIMIT} of an index")
    return tuple(items[item_id] for item_id in sorted(items))


def _item(folder: Path, where: str, line: str) -> Item:
    try:
        fields = json.loads(line)
    except ValueError as error:
        raise CatalogueMalformed(f"{where}: not JSON ({error})") from error
    if not isinstance(fields, dict):
        raise CatalogueMalformed(f"{where}: expected an object")
    file = fields.get("file")  # a picture's name stands in no document: it may be what the disk takes
    if not isinstance(file, str) or not file:
        raise CatalogueMalformed(f"{where}: 'file' should be a picture's path")
    if PurePosixPath(file).is_absolute() or ".." in PurePosixPath(file).parts:
        raise CatalogueMalformed(f"{where}: file {file!r} must lie within the catalogue's folder")
    return Item(
        _text(fields, "id", where, ID_LIMIT), _text(fields, "category", where, CATEGORY_LIMIT), folder.joinpath(file)
    )


def _text(fields: Mapping[str, object], name: str, where: str, longest: int) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= longest or not value.isprintable():
        raise CatalogueMalformed(f"{where}: {name!r} should be 1 to {longest} printable characters")
    return value


def list_pictures(items: Iterable[Item]) -> Listing:
    """Look at every picture's bytes, so that a changed picture under an old name is seen as the new one that it is."""
    listed, broken = [], []
    for item in items:
        try:
            listed.append(Listed(item, hashlib.sha256(item.picture.read_bytes()).digest()))
        except (OSError, ValueError) as error:  # ValueError: no path can be called that
            broken.append(Broken(item, f"the picture can't be read: {getattr(error, 'strerror', None) or error}"))
    return Listing(tuple(listed), tuple(broken))
