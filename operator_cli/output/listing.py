"""A list as a person at a terminal sees it: columns, and below a line what is too long for one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

GAP = 2
"""Cells between two columns."""


@dataclass(frozen=True, slots=True)
class Column:
    """right: numbers. verdict: its words have colours. spare: goes below the line, by its name, for want of room."""

    name: str
    right: bool = False
    verdict: bool = False
    spare: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """A cell for each column, which is never cut or broken, and notes, which the terminal breaks."""

    cells: tuple[str, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Listing:
    """A list."""

    columns: tuple[Column, ...]
    lines: tuple[Line, ...]


def fit(listing: Listing, width: int, measure: Callable[[str], int]) -> Listing:
    """What `width` cells have room for: without columns that are empty, and with spare ones below, the last first.

    measure: the cells that a text takes. What one has to copy is in no spare column: it may be wider than `width`.
    """
    kept = [place for place in range(len(listing.columns)) if any(line.cells[place] for line in listing.lines)]
    below: list[int] = []

    def widest(place: int) -> int:
        return max(
            measure(text) for text in (listing.columns[place].name, *(line.cells[place] for line in listing.lines))
        )

    spare = [place for place in kept if listing.columns[place].spare]
    while spare and sum(widest(place) + GAP for place in kept) - GAP > width:
        below.insert(0, spare.pop())
        kept.remove(below[0])
    lines = []
    for line in listing.lines:
        words = (f"{listing.columns[place].name} {line.cells[place]}" for place in below if line.cells[place])
        moved = (" " * GAP).join(words)
        notes = (moved, *line.notes) if moved else line.notes
        lines.append(Line(tuple(line.cells[place] for place in kept), notes))
    return Listing(tuple(listing.columns[place] for place in kept), tuple(lines))
