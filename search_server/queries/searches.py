"""How a search is made: at once if it is short, else in pieces between which others are answered."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from search_server.build.index import MappedIndex
from search_server.build.partitions import Neighbors, Partition, To, search, to_item, to_vector
from search_server.config import Limits
from search_server.filters.restricts import Restriction
from search_server.queries.turns import LongWork, Turns
from vector_index import TakesLonger

SHORT = 2e6
"""Cost of what is done in one turn on the event loop: about a millisecond."""
_LONG = 8e6
"""Cost of a search in one partition that is left to the thread."""
_MANY = 300
"""Partitions; what is left of more is put together in the thread."""

Gone = Callable[[], bool]


class Searches:
    """Searches an index for many clients at once."""

    def __init__(self, index: MappedIndex, limits: Limits) -> None:
        self.turns = Turns()
        self.long = LongWork(limits.search_cost, limits.waiting_cost)
        self._index = index

    async def restricted(
        self, partitions: Sequence[Partition], restriction: Restriction, gone: Gone, *, begun: bool = False
    ) -> Sequence[Partition]:
        """Those of `partitions` in which anything may be found by what is asked for, with that alone to be found.

        begun: see `nearest`.
        """
        if not restriction:
            return partitions
        index, masks = self._index, self._index.masks
        visible = index.restricts.known(restriction, masks)
        if visible is None:
            work, cost = partial(index.restricts.visible, restriction, masks), index.restricts.cost(restriction)
            if cost <= SHORT:
                visible = await self.turns.take(work, gone)
            else:
                with self.long.under_way(cost, begun=begun):
                    visible = await self.long.do(work, gone)
            index.restricts.keep(restriction, masks, visible)
        if len(partitions) <= _MANY:
            return index.restricted(partitions, visible)
        return await self.long.do(partial(index.restricted, partitions, visible), gone)

    async def similar(
        self, home: Partition, position: int, k: int, partitions: Sequence[Partition], gone: Gone
    ) -> Neighbors:
        """The `k` nearest in `partitions` to the item at `position` of `home`, without that item."""
        return await self._search(to_item(home, position, partitions), k, partitions, gone, begun=False)

    async def nearest(
        self, vector: Sequence[float], k: int, partitions: Sequence[Partition], gone: Gone, *, begun: bool = False
    ) -> Neighbors:
        """The `k` nearest in `partitions` to a vector of their dimensions, finite, not all 0.

        begun: this is a part of a request of which another part has been done.
        """
        return await self._search(to_vector(vector, partitions), k, partitions, gone, begun=begun)

    async def _search(self, to: To, k: int, partitions: Sequence[Partition], gone: Gone, *, begun: bool) -> Neighbors:
        cost = self._index.cost(partitions, k)
        if cost <= SHORT:
            try:
                return await self.turns.take(partial(search, partitions, to, k, SHORT), gone)
            except TakesLonger:
                cost = SHORT  # and what is more is counted when it is done
        self.long.check(cost)
        with self.long.under_way(cost, begun=begun):
            return await self._in_pieces(to, k, partitions, gone, begun=begun)

    async def _in_pieces(
        self, to: To, k: int, partitions: Sequence[Partition], gone: Gone, *, begun: bool
    ) -> Neighbors:
        best = Neighbors([], [], [])
        for piece in _pieces(partitions, k):
            work = partial(search, piece, to, k, best=best)
            if len(piece) > 1 or piece[0].cost(k) <= _LONG:
                try:
                    best = await self.turns.take(partial(work, SHORT), gone)
                    continue
                except TakesLonger:
                    more = sum(float(each.promise.items * each.promise.dimensions) for each in piece)
            else:
                more = 0.0
            with self.long.under_way(more, begun=begun or not more):
                best = await self.long.do(work, gone)
        return best


def _pieces(partitions: Sequence[Partition], k: int) -> Iterator[Sequence[Partition]]:
    """As many at a time as one turn has room for."""
    start, cost = 0, 0.0
    for end, partition in enumerate(partitions):
        own = partition.cost(k)
        if end > start and cost + own > SHORT:
            yield partitions[start:end]
            start, cost = end, 0.0
        cost += own
    yield partitions[start:]
