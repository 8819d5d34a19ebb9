"""Searches that are made together don't fail together."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson

from search_server.index import Hits
from search_server.messages import Request, Response
from search_server.turns import ItemSearch, Turns


class Ids:
    def at(self, positions: list[int]) -> list[bytes]:
        return [b"item-%d" % position for position in positions]


class Home:
    category = "chairs"
    ids = Ids()


class Index:
    """Finds the item itself; fails on item 3."""

    def similar(self, home: Any, position: int, k: int, partitions: Any) -> list[Hits]:
        del k, partitions
        if position == 3:
            raise MemoryError
        return [Hits(home, [position], [0.0])]


def test_a_search_that_fails_leaves_the_others_of_its_turn_alone() -> None:
    answers: dict[str, Response] = {}

    async def scenario() -> None:
        home: Any = Home()
        index: Any = Index()
        turns = Turns(index, 7, "similar", lambda _, error: Response(500, repr(error).encode(), b""))
        for n in range(100):  # more than one turn takes
            request = Request("GET", str(n).encode(), b"", {}, b"")
            search = ItemSearch(f"item-{n}", home, n, 5, (home,))
            turns.add(search, request, lambda request, response: answers.update({request.path.decode(): response}))
        for _ in range(10):
            await asyncio.sleep(0)

    asyncio.run(scenario())
    assert len(answers) == 100
    assert [name for name, response in answers.items() if response.status != 200] == ["3"]
    assert orjson.loads(answers["99"].body)["neighbors"] == [
        {"id": "item-99", "category": "chairs", "score": 1.0, "distance": 0.0}
    ]
