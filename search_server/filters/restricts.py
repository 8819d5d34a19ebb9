"""What a caller wants to be found: items with certain tags, among those that may be found at all."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import accumulate, chain

import numpy as np
from numpy.typing import NDArray

from model_repository.documents.items.item_tags import ItemTags
from search_server.filters.masks import Masks
from vector_index import Visible

_PER_TAGGED = 12.0
"""Cost of an item that has a tag, as numbers compared: 5 nanoseconds."""
_PER_MASK = 15_000.0
"""Cost of a mask, as numbers compared: 6 microseconds."""
_KEPT_BYTES = 16 * 1024 * 1024
"""Of masks that are kept, those asked for last; a mask of a million items has 125 kB, and as much again at most for the
positions of what is left, where that is little."""
_ASKED_BYTES = 16 * 1024
"""Of what is asked for, with the longest of which a mask is kept: a caller may write a hundred values of its own."""


@dataclass(frozen=True, slots=True)
class Restriction:
    """Tags as `parse_tag` gives them. allowed: an item has at least one of each group. denied: it has none of them.

    without: places in the build, counted through from 0, of items that mustn't be found whatever their tags are.
    """

    allowed: tuple[tuple[str, ...], ...] = ()
    denied: tuple[str, ...] = ()
    without: tuple[range, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.allowed or self.denied or self.without)

    @property
    def tags(self) -> Iterator[str]:
        """All that it names."""
        return chain(*self.allowed, self.denied)

    @property
    def bytes(self) -> int:
        """What it takes, at most, in four bytes a character."""
        return sum(100 + 4 * len(tag) for tag in self.tags) + 150 * len(self.without)


Visibles = tuple[Visible | None, ...]


class Restricts:
    """Makes masks of restrictions, and keeps some. tags: None: the build's items have none."""

    def __init__(self, tags: ItemTags | None, sizes: Sequence[int]) -> None:
        """sizes: items of each block, in the order of the build. All masks here are of blocks."""
        self.names: tuple[str, ...] = () if tags is None else tags.names
        self._tags = tags
        self._bounds: list[int] = [0, *accumulate(sizes)]
        self._kept: OrderedDict[Restriction, Visibles] = OrderedDict()
        self._masks: Masks | None = None
        self._most = max(1, _KEPT_BYTES // (self._bounds[-1] // 4 + 200 * len(sizes) + _ASKED_BYTES))

    def cost(self, restriction: Restriction) -> float:
        """What `visible` takes, as numbers that are compared: see `build.partitions.Partition.cost`."""
        tagged = sum(len(self._tags.places(tag)) for tag in restriction.tags) if self._tags is not None else 0
        passes = 2 + len(restriction.allowed) + bool(restriction.denied)
        return tagged * _PER_TAGGED + passes * self._bounds[-1] + len(self._bounds) * _PER_MASK

    def known(self, restriction: Restriction, masks: Masks) -> Visibles | None:
        """What is visible of each block, if that is kept."""
        if self._masks is not masks:
            self._kept.clear()
            self._masks = masks
        found = self._kept.get(restriction)
        if found is not None:
            self._kept.move_to_end(restriction)
        return found

    def visible(self, restriction: Restriction, masks: Masks) -> Visibles:
        """What is visible of each block while `masks` are in force."""
        flags = self._flags(restriction)
        hidden: Visibles = masks.visible or (None,) * (len(self._bounds) - 1)
        return tuple(
            _both(flags[start:end], of_filter)
            for start, end, of_filter in zip(self._bounds, self._bounds[1:], hidden, strict=False)
        )

    def keep(self, restriction: Restriction, masks: Masks, visible: Visibles) -> None:
        """Keep what `visible` gave, unless other masks are in force by now, or it was asked for at too great length."""
        if self._masks is masks and restriction.bytes <= _ASKED_BYTES:
            self._kept[restriction] = visible
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)

    def _flags(self, restriction: Restriction) -> NDArray[np.bool_]:
        """bool[items]."""
        allowed = reduce(np.logical_and, map(self._having, restriction.allowed), np.ones(self._bounds[-1], bool))
        if restriction.denied:
            allowed &= ~self._having(restriction.denied)
        for places in restriction.without:
            allowed[places.start : places.stop] = False
        return allowed

    def _having(self, tags: Iterable[str]) -> NDArray[np.bool_]:
        """Which items have at least one of these."""
        flags = np.zeros(self._bounds[-1], bool)
        for tag in tags:
            if self._tags is not None:
                flags[np.frombuffer(self._tags.places(tag), np.uint32)] = True
        return flags


def _both(flags: NDArray[np.bool_], visible: Visible | None) -> Visible | None:
    bits = np.packbits(flags, bitorder="little")
    if visible is not None:
        bits &= visible.bits
    count = int(np.bitwise_count(bits).sum())
    return None if count == len(flags) else Visible(bits, len(flags), count)
