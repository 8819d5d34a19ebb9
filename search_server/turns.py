"""Searches about items, taken together.

A search walks through a megabyte of vectors and leaves every cache cold. If several clients ask at the same moment,
then to read all their requests, make all their searches and write all their answers costs less than to do all three
for one after the other: each piece of code is fetched once for all of them. A lone request is answered as soon as ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from search_server.answers import similar_json
from search_server.index import Hits, MappedIndex, Partition, neighbors
from search_server.messages import Reply, Request, Response, json_body_response

_MOST = 32
"""Searches in one turn; probes and new connections are looked at between two turns."""


@dataclass(slots=True)
class ItemSearch:
    """A search that was checked. home, position: where `item` stands."""

    item: str
    home: Partition
    position: int
    k: int
    partitions: tuple[Partition, ...]


class Turns:
    """Collects the searches of one turn of the event loop and makes them when all sockets were read."""

    def __init__(
        self, index: MappedIndex, generation: int, route: str, answer_error: Callable[[Request, Exception], Response]
    ) -> None:
        """Answer from `index`, in the name of `generation`, counted under `route`.

        answer_error: makes the answer to a request whose search failed.
        """
        self._index = index
        self._generation = generation
        self._route = route
        self._answer_error = answer_error
        self._waiting: list[tuple[ItemSearch, Request, Reply]] = []

    def add(self, search: ItemSearch, request: Request, reply: Reply) -> None:
        """Make a search in this turn, and answer `request` with it."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._take)
        self._waiting.append((search, request, reply))

    def _take(self) -> None:
        taken, self._waiting = self._waiting[:_MOST], self._waiting[_MOST:]
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._take)
        found = [self._search(search) for search, _, _ in taken]
        for (search, request, reply), hits in zip(taken, found, strict=True):
            reply(request, self._answer(search, request, hits))

    def _search(self, search: ItemSearch) -> list[Hits] | Exception:
        try:
            return self._index.similar(search.home, search.position, search.k, search.partitions)
        except Exception as error:  # noqa: BLE001 - the others of this turn get their answers
            return error

    def _answer(self, search: ItemSearch, request: Request, hits: list[Hits] | Exception) -> Response:
        if isinstance(hits, Exception):
            return self._answer_error(request, hits)
        try:
            body = similar_json(search.item, search.home.category, self._generation, neighbors(hits, search.k))
        except Exception as error:  # noqa: BLE001
            return self._answer_error(request, error)
        response = json_body_response(body)
        response.route = self._route
        return response
