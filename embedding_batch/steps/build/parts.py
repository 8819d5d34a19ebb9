"""What the tasks of `build` are: a function of how many items each category has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from embedding_batch.errors import CatalogueMalformed
from model_repository.documents.files import FILES_LIMIT

if TYPE_CHECKING:
    from embedding_batch.config import Config

MOST_PARTS: Final = (FILES_LIMIT - 1) // 2
"""Partitions of an index, at least one for each category: each has two files in a build, beside the lookup."""


@dataclass(frozen=True, slots=True)
class Piece:
    """What becomes a partition: so many items of a category, by id from the one at `start` on."""

    category: str
    start: int
    items: int


@dataclass(frozen=True, slots=True)
class Part:
    """What one task makes: partitions of one model. shares: that they are searched exactly, in files they share."""

    model: int | None
    pieces: tuple[Piece, ...]
    shares: bool = False

    @property
    def items(self) -> int:
        """Of all its pieces."""
        return sum(piece.items for piece in self.pieces)


def plan_parts(sizes: Mapping[str, int], models: Mapping[str, int | None], config: Config) -> list[Part]:
    """Cut the categories into parts of at most `config.part_items` items.

    sizes: items of each category. models: of each category its model's place. A large one has one or several parts of
    its own, in the order of their names; after those the small ones of each model go together. Raises
    CatalogueMalformed for more than an index may have.
    """
    own, small = list[Part](), dict[int | None, list[Piece]]()
    for category, items in sorted(sizes.items()):
        if config.shares(category, items):
            small.setdefault(models[category], []).append(Piece(category, 0, items))
        else:
            own += [Part(models[category], (piece,)) for piece in _cut(category, items, config.part_items)]
    together = [
        Part(model, pieces, shares=True)
        for model, of_model in small.items()
        for pieces in _packed(of_model, config.part_items)
    ]
    if (partitions := sum(len(part.pieces) for part in own + together)) > MOST_PARTS:
        raise CatalogueMalformed(
            f"{partitions} parts, an index may have {MOST_PARTS}; allow more items in one: --part-items"
        )
    return own + together


def _cut(category: str, items: int, most: int) -> Iterator[Piece]:
    """Into as few as may be, none larger than another by more than one."""
    count = -(-items // most)
    each, larger = divmod(items, count)
    for number in range(count):
        yield Piece(category, number * each + min(number, larger), each + (number < larger))


def _packed(pieces: list[Piece], most: int) -> Iterator[tuple[Piece, ...]]:
    """Those that follow each other, together as long as there is room."""
    packed, items = list[Piece](), 0
    for piece in pieces:
        if packed and items + piece.items > most:
            yield tuple(packed)
            packed, items = [], 0
        packed.append(piece)
        items += piece.items
    yield tuple(packed)
