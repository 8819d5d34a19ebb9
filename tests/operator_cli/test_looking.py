"""What a person finds out: which builds there are, what served when, and which names there are when one is mistyped."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from model_repository.documents.incidents import Incident, format_incidents
from model_repository.documents.receipts.receipt import Outcome
from model_repository.names import Target
from model_repository.repository import write_receipt
from operator_cli.live import RECEIPTS_READ
from tests import builds
from tests.operator_cli.conftest import Operator


def test_builds_are_listed_newest_first_with_where_they_are_live(operator: Operator) -> None:
    b1, b2 = operator.build("b1", age=2), operator.build("b2", age=1)
    operator.store.write("indexes/clothing/b3/partitions/0.annoy", b"x", if_generation_match=0)
    operator.deployed(b2)
    operator.deployed(b1, target=Target("staging", "clothing"))
    rows = operator("builds", "clothing", "--output", "json").value["builds"]
    assert [row["index_prefix"] for row in rows] == [f"indexes/clothing/b{n}" for n in (3, 2, 1)]
    assert [row["live_in"] for row in rows] == [[], ["production/clothing"], ["staging/clothing"]]
    assert "no index.json" in rows[0]["problem"]
    operator.store.write("indexes/clothing/b3/index.json", b"{", if_generation_match=0)
    (b3, *_) = operator("builds", "clothing", "--output", "json").value["builds"]
    assert b3["problem"].startswith("indexes/clothing/b3/index.json: not JSON")
    assert rows[1]["items"] > 0
    text = operator("builds", "clothing", "--limit", "2").out
    assert "live in production/clothing" in text
    assert "b1" not in text


def test_an_index_without_builds_names_those_that_come_near(operator: Operator) -> None:
    operator.build("b1")
    said = operator("builds", "clothign")
    assert (said.code, said.err) == (66, "indexpush: indexes/clothign/: no builds; did you mean clothing?\n")
    assert operator("builds", "cl").err == "indexpush: indexes/cl/: no builds; builds have clothing\n"


@pytest.fixture
def served(operator: Operator) -> Operator:
    """b1 served at 12:00, b2 was undone at 13:00, b3 served at 14:00."""
    for hour, (name, outcome) in enumerate((("b1", Outcome.SERVED), ("b2", Outcome.UNDONE), ("b3", Outcome.SERVED))):
        finished = builds.NOW + timedelta(hours=hour)
        operator.deployed(operator.build(name), outcome, started=finished, finished=finished, by=f"person-{name}")
    return operator


@pytest.mark.parametrize(
    ("minutes", "expected", "after"),
    [(-1, None, "b1"), (0, "b1", "b3"), (90, "b1", "b3"), (120, "b3", None), (9999, "b3", None)],
)
def test_what_served_at_a_moment_is_known_from_receipts(
    served: Operator, minutes: int, expected: str | None, after: str | None
) -> None:
    moment = (builds.NOW + timedelta(minutes=minutes)).isoformat()
    found: dict[str, Any] = served("history", "clothing", "--at", moment, "--output", "json").value

    def build(of: str) -> str | None:
        return found[of]["index_prefix"].rpartition("/")[2] if found[of] else None

    assert (build("served"), build("next")) == (expected, after)
    text = served("history", "clothing", "--at", moment).out
    assert (f"indexes/clothing/{expected}" if expected else "no receipt says what served") in text


def test_what_was_wrong_then_and_still_is_stands_beside_what_receipts_say_served(served: Operator) -> None:
    """Where a commit is lost another one is restored, which gets no receipt."""
    lost = Incident("served-commit-lost", "commit 3 served once, and does no more", builds.NOW + timedelta(hours=3))
    served.store.write(served.target.incidents_name, format_incidents((lost,)), if_generation_match=0)
    for hours, told in ((2.5, False), (3.5, True)):
        moment = (builds.NOW + timedelta(hours=hours)).isoformat()
        found = served("history", "clothing", "--at", moment, "--output", "json").value
        assert [each["code"] for each in found["incidents"]] == ["served-commit-lost"] * told
        text = served("history", "clothing", "--at", moment).out
        assert ("INCIDENT    served-commit-lost since" in text) is told


def test_what_served_is_known_however_many_commits_came_since(served: Operator) -> None:
    since = builds.NOW + timedelta(hours=5)
    for generation in range(1, RECEIPTS_READ + 1):
        write_receipt(served.store, builds.receipt(generation, served.target, started=since, finished=since))
    found = served("history", "clothing", "--at", builds.NOW.isoformat(), "--output", "json").value
    assert found["served"]["by"] == "person-b1"


def test_a_time_that_is_none_is_refused_and_one_without_a_zone_is_utc(served: Operator) -> None:
    later = served("history", "clothing", "--at", "2999-01-01")
    assert (later.code, "2999-01-01 00:00:00Z hasn't come yet" in later.err) == (64, True)
    for time in ("Tuesday", "2026-11-24 14:05 CET", "0001-01-01T00:00+14:00"):
        said = served("history", "clothing", "--at", time)
        assert (said.code, "2026-11-24T15:05+01:00" in said.err) == (64, True), time
    found = served("history", "clothing", "--at", f"{builds.NOW:%Y-%m-%dT%H:%M}", "--output", "json").value
    assert found["served"]["by"] == "person-b1"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-e", "prodution"], "did you mean production? there are the environments production, staging"),
        (["clothign"], "did you mean clothing? there are the indexes clothing"),
    ],
)
def test_a_mistyped_name_is_no_empty_answer(operator: Operator, arguments: list[str], words: str) -> None:
    operator.environ.pop("INDEXPUSH_ENVIRONMENT")
    for target in (None, Target("staging", "clothing")):
        operator.deployed(operator.build("b1"), target=target or operator.target)
    said = operator("status", *arguments)
    assert (said.code, words in said.err) == (66, True), said.err


def test_who_did_not_say_is_said(operator: Operator) -> None:
    prefix = operator.build("b1")
    operator.receipt(operator.commit(prefix, by=""), Outcome.SERVED, prefix)
    assert "by: not stated" in operator("status").out
    assert "by: not stated" in operator("history", "clothing").out
