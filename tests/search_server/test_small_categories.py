"""Thousands of small categories that share files: searched as one, they answer as each by itself does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from model_repository.documents.index_manifest import Engine, Storage
from model_repository.names import IndexPrefix
from search_server.build.index import MappedIndex, open_index
from search_server.build.partitions import Block, search, to_item
from search_server.config import Limits
from search_server.errors import ParameterRefused
from search_server.filters.masks import NOTHING_HIDDEN, Masks
from search_server.filters.restricts import Restriction
from search_server.queries.find_neighbors import FindNeighbors
from search_server.queries.searches import Searches
from search_server.queries.turns import Turns
from tests.search_server.vector_builds import make_vector_build
from vector_index import Visible

EXACT = (Engine.EXACT, Storage.FLOAT32)
DIMENSIONS = 8
SIZES = {f"c{number}": 1 + number % 4 for number in range(40)} | {"large": 30} | {f"d{n}": 1 + n % 3 for n in range(9)}
ITEMS = [(category, f"{category}-{n}") for category, count in SIZES.items() for n in range(count)]
RED = {item for number, (_, item) in enumerate(ITEMS) if number % 3 == 0}


def opened(folder: Path, catalogue: Mapping[str, int], **how: Any) -> MappedIndex:
    said = make_vector_build(folder, catalogue, DIMENSIONS, kind=EXACT, width=1000, **how)
    return open_index(Path(said["DATA"]) / "index", IndexPrefix.parse(said["INDEX_PREFIX"]), said["INDEX_DIGEST"])


@pytest.fixture(scope="module")
def mixed_index(tmp_path_factory: pytest.TempPathFactory) -> MappedIndex:
    """Forty small categories, a large one between them, and nine more small ones in the same file."""
    tags = {item: ["red"] if item in RED else ["blue"] for _, item in ITEMS}
    return opened(tmp_path_factory.mktemp("mixed"), SIZES, tags=tags, alone=["large"])


@pytest.fixture
def index(mixed_index: MappedIndex) -> Iterator[MappedIndex]:
    yield mixed_index
    mixed_index.hide(NOTHING_HIDDEN)


def nearest(index: MappedIndex, query: NDArray[np.float32], k: int, among: Callable[[str, str], bool]) -> list[str]:
    """By comparing all."""
    vectors = np.array([index.vector(item) for _, item in ITEMS], np.float32)
    far = np.linalg.norm(vectors - query / np.linalg.norm(query), axis=1)
    return [ITEMS[place][1] for place in np.argsort(far, kind="stable") if among(*ITEMS[place])][:k]


def answer(index: MappedIndex, *queries: Mapping[str, Any]) -> list[list[tuple[str, str]]]:
    """Of findNeighbors: of each query the ids and categories, nearest first."""

    async def main() -> bytes:
        pieces = FindNeighbors(index, Searches(index, Limits()), Limits(), lambda: False).pieces(
            json.dumps({"queries": queries}).encode()
        )
        return b"".join([piece async for piece in pieces])

    said = json.loads(asyncio.run(main()))["nearestNeighbors"]
    of_each = ([one["datapoint"] for one in found["neighbors"]] for found in said)
    return [[(one["datapointId"], one["crowdingTag"]["crowdingAttribute"]) for one in found] for found in of_each]


def query(vector: Sequence[float], k: int, *restricts: Mapping[str, Any]) -> dict[str, Any]:
    return {"datapoint": {"featureVector": list(vector), "restricts": restricts}, "neighborCount": k}


def categories(allow: Sequence[str] = (), deny: Sequence[str] = ()) -> dict[str, Any]:
    return {"namespace": "category", "allowList": allow, "denyList": deny}


def hide(index: MappedIndex, hidden: set[str]) -> None:
    """As the masks of a filter do."""
    positions = [
        np.array([n for n in range(count) if f"{category}-{n}" in hidden], np.int64)
        for category, count in SIZES.items()
    ]
    visible = [
        Visible.but_for(of, size) if len(of) else None for of, size in zip(positions, SIZES.values(), strict=True)
    ]
    index.hide(Masks(5, len(hidden), len(hidden), tuple(visible)))


RED_ONLY = {"namespace": "tag", "allowList": ["red"]}
NOT_RED = {"namespace": "tag", "denyList": ["red"]}
HIDDEN = {item for number, (_, item) in enumerate(ITEMS) if number % 7 in (0, 1)} | {"c3-0", "c3-1", "c3-2", "c3-3"}
ALLOWED = ["c1", "c2", "large", "d4"]
ASKED = [
    ((), lambda _, __: True),
    ((RED_ONLY,), lambda _, item: item in RED),
    ((NOT_RED,), lambda _, item: item not in RED),
    ((categories(allow=ALLOWED),), lambda category, _: category in ALLOWED),
    ((categories(deny=["c5", "large", "d8"]),), lambda category, _: category not in ("c5", "large", "d8")),
    (
        (categories(deny=["c5"]), categories(deny=["d0"]), RED_ONLY),
        lambda c, item: c not in ("c5", "d0") and item in RED,
    ),
    ((categories(allow=ALLOWED), categories(allow=["c2", "c3"])), lambda category, _: category == "c2"),
    ((categories(allow=ALLOWED, deny=["c2"]), NOT_RED), lambda c, i: c in ALLOWED and c != "c2" and i not in RED),
]


@pytest.mark.parametrize("hidden", [set(), HIDDEN, {item for _, item in ITEMS} - {"c7-1", "d2-0"}], ids=len)
@pytest.mark.parametrize("restricts", range(len(ASKED)))
def test_whatever_is_asked_is_answered_as_by_comparing_all(
    index: MappedIndex, hidden: set[str], restricts: int
) -> None:
    hide(index, hidden)
    said, among = ASKED[restricts]
    for seed, k in ((1, 1), (2, 7), (3, 60), (4, 1000)):
        vector = np.random.default_rng(seed).standard_normal(DIMENSIONS).astype(np.float32)
        (found,) = answer(index, query(vector.tolist(), k, *said))
        right = nearest(index, vector, k, lambda c, item: among(c, item) and item not in hidden)
        assert [item for item, _ in found] == right
        assert all(item.startswith(f"{category}-") for item, category in found)


@pytest.mark.parametrize("item", ["c0-0", "c7-2", "large-4", "d0-0", "d8-2"])
def test_an_item_is_no_neighbour_of_itself_wherever_it_stands(index: MappedIndex, item: str) -> None:
    home, position = index.place(item)
    for hidden in (set[str](), {item}, HIDDEN):
        hide(index, hidden)
        vector = np.array(index.vector(item), np.float32)
        for category in (None, home.category, "c7"):
            partitions = index.comparable(home, category)
            found = search(partitions, to_item(home, position, partitions), 1000)
            everything = nearest(index, vector, 1000, lambda _, __: True)
            shown = [one for one in everything if one not in {item, *hidden}]
            right = [one for one in shown if category is None or one.startswith(f"{category}-")]
            assert [one.decode() for one in found.ids] == right


def test_categories_of_one_file_are_one_search(index: MappedIndex) -> None:
    assert [type(block) for block in index.blocks] == [Block, type(index.partitions[40]), Block]
    assert [block.promise.items for block in index.blocks] == [100, 30, 18]
    assert index.select("c5") == (index.partitions[5],)


def test_tags_hide_within_a_category_of_a_shared_file_too(index: MappedIndex) -> None:
    async def found(category: str) -> list[str]:
        searches = Searches(index, Limits())
        partitions = await searches.restricted(index.select(category), Restriction((("tag=red",),)), lambda: False)
        vector = index.vector("c0-0")
        return [one.decode() for one in (await searches.nearest(vector, 1000, partitions, lambda: False)).ids]

    for category in ("c2", "c7", "large", "d5"):
        expected = {item for its, item in ITEMS if its == category and item in RED}
        assert set(asyncio.run(found(category))) == expected


def test_a_list_of_what_is_left_passes_over_what_is_hidden(index: MappedIndex) -> None:
    hide(index, HIDDEN)
    left = [(item, category) for category, item in ITEMS if item not in HIDDEN]
    assert index.listed(None, None, 1000) == left
    assert index.listed(None, left[20][0], 5) == left[21:26]
    hidden = next(place for place, (_, item) in enumerate(ITEMS) if place > 40 and item in HIDDEN)
    after = [(item, category) for category, item in ITEMS[hidden + 1 :] if item not in HIDDEN]
    assert index.listed(None, ITEMS[hidden][1], 5) == after[:5]


def test_a_list_looks_at_no_category_in_which_all_is_hidden(
    index: MappedIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide(index, {item for _, item in ITEMS[:-1]})
    looked_at: list[int] = []
    after = Visible.after

    def noted(self: Visible, start: int) -> Iterator[int]:
        looked_at.append(self.size)
        return after(self, start)

    monkeypatch.setattr(Visible, "after", noted)
    assert index.listed(None, None, 10) == [(ITEMS[-1][1], ITEMS[-1][0])]
    assert looked_at == [SIZES["d8"]]
    assert index.listed(None, "c0-0", 10) == [(ITEMS[-1][1], ITEMS[-1][0])]


def test_thousands_of_categories_are_asked_in_few_turns_whatever_is_denied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = opened(tmp_path, {f"c{number}": 1 for number in range(1500)})
    turns = 0
    take = Turns.take

    async def counted(self: Turns, work: Callable[[], Any], gone: Callable[[], bool]) -> Any:
        nonlocal turns
        turns += 1
        return await take(self, work, gone)

    monkeypatch.setattr(Turns, "take", counted)
    vector = index.vector("c7-0")
    (found,) = answer(index, query(vector, 1000))
    assert len(found) == 1000
    assert turns <= 5  # one of them reads the body
    deny = [categories(deny=[f"c{10 * restrict + n}" for n in range(10)]) for restrict in range(10)]
    (found,) = answer(index, query(vector, 1000, *deny))
    assert not {item for item, _ in found} & {f"c{n}-0" for n in range(100)}
    assert turns <= 10


def test_a_query_names_no_more_tags_than_there_is_time_for(index: MappedIndex) -> None:
    restricts = [{"namespace": "tag", "allowList": [f"t{60 * group + n}" for n in range(60)]} for group in range(2)]
    with pytest.raises(ParameterRefused, match="120 tags are asked for, at most 100"):
        answer(index, query(index.vector("c0-0"), 5, *restricts))


def test_masks_of_many_tagged_items_count_as_work(index: MappedIndex) -> None:
    restricts = index.restricts
    assert restricts.cost(Restriction()) < restricts.cost(Restriction((("tag=red",),)))
    assert restricts.cost(Restriction((("tag=none",),))) < restricts.cost(Restriction((("tag=red",),)))
