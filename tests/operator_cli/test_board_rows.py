"""The board's rows: what they say, and how they stay true."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from model_repository.documents.commit import LONGEST_HOLD
from model_repository.documents.receipts.receipt import Outcome
from model_repository.errors import BucketUnavailable
from model_repository.fields import format_moment
from model_repository.names import Target
from operator_cli.board.identity import OwnMachine
from tests import builds
from tests.memory_store import MemoryStore
from tests.operator_cli.board_scene import Running, events, looked, rows, running, shop
from tests.operator_cli.conftest import Operator


@pytest.fixture
def board(operator: Operator) -> Iterator[Running]:
    shop(operator)
    with running(operator, OwnMachine("eve@example.com")) as found:
        yield found


def test_a_row_says_what_serves_since_when_who_committed_it_and_what_its_build_is(operator: Operator) -> None:
    generations = shop(operator)
    row = rows(looked(operator))["production/clothing"]
    assert (row["state"], row["attention"]) == ("served", [])
    assert (row["commit"]["by"], row["commit"]["reason"]) == ("ada@example.com", "a new season")
    assert (row["serving"]["generation"], row["serving"]["index_prefix"]) == (
        str(generations["clothing"]),
        "indexes/clothing/b2",
    )
    assert row["build"]["created"] == format_moment(builds.NOW - timedelta(hours=1))
    assert row["build"]["items"] > 0


def test_only_what_needs_a_person_asks_for_one(operator: Operator) -> None:
    shop(operator)
    operator.commit(operator.build("w1", index="waiting"), target=Target("production", "waiting"))
    found = rows(looked(operator))
    assert {name for name, row in found.items() if row["attention"]} == {"production/toys"}
    assert "out of memory" in found["production/toys"]["attention"][0]
    assert found["production/waiting"]["state"] == "waiting"


def test_what_serves_for_too_long_asks_for_a_person_unless_it_is_on_hold(operator: Operator) -> None:
    shop(operator)
    operator.clock.moment += timedelta(hours=25)
    found = rows(looked(operator))
    (why,) = found["production/clothing"]["attention"]
    assert why == "what serves was made 27.0 hours ago, of 26.0 hours at most"
    assert operator("redeploy", "clothing", "--hold").code == 0
    assert rows(looked(operator))["production/clothing"]["attention"] == []
    (held,) = operator.store.listing("commits/production/clothing.json")
    operator.clock.moment = held.updated + LONGEST_HOLD
    assert rows(looked(operator))["production/clothing"]["attention"] == []
    operator.clock.moment += timedelta(hours=1)
    (why,) = rows(looked(operator))["production/clothing"]["attention"]
    assert "it has been on hold for" in why


def test_a_name_that_is_no_commits_and_a_commit_that_makes_no_sense_are_rows_of_their_own(operator: Operator) -> None:
    operator.store.write("commits/production/Clothing.json", b"{}", if_generation_match=None)
    operator.store.write("commits/production/hats.json", b"{", if_generation_match=None)
    found = looked(operator).rows
    assert [bool(row["attention"]) for row in found] == [True, True]
    assert [row.get("name") for row in found] == ["'commits/production/Clothing.json'", None]
    assert "can't be read" in found[1]["attention"][0]


def test_a_name_that_turns_the_direction_of_text_is_shown_as_what_it_is(operator: Operator) -> None:
    operator.store.write("commits/production/a\u202egpj.<b>\n.json", b"{}", if_generation_match=None)
    (row,) = looked(operator).rows
    assert row["name"] == r"'commits/production/a\u202egpj.<b>\n.json'"
    assert row["name"] in row["attention"][0]


class Counting(MemoryStore):
    """Counts what is asked of it, and is away when told to be."""

    asked = 0
    away = False

    def _count(self) -> None:
        self.asked += 1
        if self.away:
            raise BucketUnavailable("no answer for 15 s")

    def read(self, name: str, *, limit: int) -> Any:
        self._count()
        return super().read(name, limit=limit)

    def stat(self, name: str) -> Any:
        self._count()
        return super().stat(name)

    def listing(self, prefix: str) -> Any:
        self._count()
        return super().listing(prefix)


def test_a_look_asks_of_a_hundred_indexes_only_about_those_that_may_have_changed() -> None:
    store = Counting("shop")
    operator = Operator(store=store)
    for number in range(100):
        target = Target("production", f"index-{number}")
        operator.deployed(operator.build("b1", index=target.index), target=target)
    overview = looked(operator)
    store.asked = 0
    assert not overview.look()
    assert store.asked == 1
    target = Target("production", "index-7")
    generation = operator.commit(operator.build("b2", index="index-7"), target=target)
    assert overview.look()
    assert rows(overview)["production/index-7"]["state"] == "waiting"
    operator.receipt(generation, Outcome.SERVED, operator.build("b2", index="index-7"), target=target)
    store.asked = 0
    assert overview.look()
    assert rows(overview)["production/index-7"]["state"] == "served"
    assert store.asked < 10


def test_a_bucket_that_does_not_answer_is_said_and_what_was_known_stays() -> None:
    store = Counting("shop")
    operator = Operator(store=store)
    shop(operator)
    overview = looked(operator)
    known = overview.rows
    store.away = True
    assert overview.look()
    assert (overview.problem, overview.rows) == ("no answer for 15 s", known)
    store.away = False
    assert overview.look()
    assert overview.problem == ""


def test_rows_come_by_themselves_all_at_first_and_then_those_that_change(operator: Operator, board: Running) -> None:
    with board.client.stream("GET", "/api/events") as answer:
        said = events(answer)
        first = next(said)
        assert first["all"]
        assert set(first["rows"]) == {"production/clothing", "production/toys", "staging/clothing"}
        operator.deployed(operator.build("b3"))
        second = next(said)
        while second["rows"].get("production/clothing", {}).get("state") != "served":
            second = next(said)
        assert set(second["rows"]) == {"production/clothing"}
        assert second["rows"]["production/clothing"]["serving"]["index_prefix"] == "indexes/clothing/b3"
        operator.store.delete("commits/staging/clothing.json")
        assert next(said)["gone"] == ["staging/clothing"]


def test_an_index_whole_has_its_commits_with_their_seconds_and_builds(board: Running) -> None:
    found = board.client.get("/api/indexes/production/clothing").json()["receipts"]
    assert [row["index_prefix"] for row in found] == ["indexes/clothing/b2", "indexes/clothing/b1"]
    assert [row["seconds"] for row in found] == [2.0, 2.0]
    assert all(row["build"]["items"] > 0 for row in found)
    answer = board.client.get("/api/indexes/production/nothing")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "commit-missing")
    assert board.client.get("/api/indexes/production/No").status_code == 400
