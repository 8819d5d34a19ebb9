"""The demo's own checks: each step, broken on purpose, must fail."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from local_stack.demo import checks
from local_stack.demo.client import Traffic
from local_stack.demo.evaluation import Evaluation
from model_repository.documents.receipts.receipt import Outcome, Receipt
from model_repository.names import IndexPrefix, Target
from tests import builds

PREFIX = "indexes/home-store/20261121t1200z"
SERVED = builds.receipt(
    7,
    Target("production", "home-store"),
    index_prefix=IndexPrefix.parse(PREFIX),
    finished=builds.NOW + timedelta(seconds=2),
)
STATUS = {"generation": "7", "index_prefix": PREFIX}
CALM = Traffic(requests=500, failures=(), generations=(6, 7), mixed=0)
FIVE = [{"id": f"chair-{n}", "score": 1 - n / 10} for n in range(5)]
REFUSED = replace(SERVED, outcome=Outcome.REJECTED, code="build-incomplete", detail="a.ann: missing")


def test_a_commit_that_serves_passes() -> None:
    checks.went_live(SERVED, STATUS, PREFIX)


@pytest.mark.parametrize("outcome", [Outcome.UNDONE, Outcome.REJECTED, Outcome.SUPERSEDED])
def test_a_commit_that_did_not_serve_fails(outcome: Outcome) -> None:
    with pytest.raises(checks.Misbehaved, match="should have gone live"):
        checks.went_live(replace(SERVED, outcome=outcome), STATUS, PREFIX)


@pytest.mark.parametrize("status", [STATUS | {"generation": "6"}, STATUS | {"index_prefix": "indexes/home-store/old"}])
def test_a_service_that_answers_with_something_else_fails(status: dict[str, str]) -> None:
    with pytest.raises(checks.Misbehaved, match="should name generation 7"):
        checks.went_live(SERVED, status, PREFIX)


def test_shares_that_do_not_add_up_fail() -> None:
    checks.add_up([0.1, 0.5, 2.3], 2.96)
    with pytest.raises(checks.Misbehaved, match=r"add up to 2\.96 s, but make 3\.88 s"):
        checks.add_up([0.56, 0.84, 2.34, 0.14], 2.96)


@pytest.mark.parametrize("neighbors", [FIVE[:4], [*FIVE[:4], FIVE[0]], FIVE[::-1]])
def test_an_answer_that_is_short_or_repeats_or_is_out_of_order_fails(neighbors: list[dict[str, object]]) -> None:
    checks.answered(FIVE, 5, "item")
    with pytest.raises(checks.Misbehaved):
        checks.answered(neighbors, 5, "item")


def test_a_picture_that_does_not_find_its_own_item_fails() -> None:
    checks.found_itself(FIVE, "chair-0", "picture")
    for neighbors in (FIVE[1:], []):
        with pytest.raises(checks.Misbehaved, match="should give chair-0 first"):
            checks.found_itself(neighbors, "chair-0", "picture")


def test_a_twin_with_the_same_picture_may_come_before_an_item_and_no_other_may() -> None:
    twins = [{"id": f"twin-{n}", "score": 1.0} for n in range(3)]
    checks.found_itself([twins[0], {"id": "chair-0", "score": 0.99999}, *FIVE[1:]], "chair-0", "vector")
    checks.found_itself(twins, "chair-0", "vector")  # there are more than were asked for
    for neighbors in ([twins[0], {"id": "chair-0", "score": 0.9}], [twins[0]], [*twins, FIVE[1]]):
        with pytest.raises(checks.Misbehaved, match="should give chair-0 first"):
            checks.found_itself(neighbors, "chair-0", "vector")


def region(category: str, *items: str) -> dict[str, object]:
    return {"category": category, "score": 0.7, "neighbors": [{"id": item, "score": 0.9} for item in items]}


ROOM = [region("Living room", "chair-1", "sofa-1"), region("Living room", "sofa-1"), region("Office", "desk-3")]
NAMED = {"chair-1": "chair", "sofa-1": "sofa", "desk-3": "desk"}


@pytest.mark.parametrize("regions", [ROOM[1:], ROOM[:2], [], [*ROOM[:2], region("Office", "sofa-1", "desk-3")]])
def test_a_room_in_which_a_thing_is_missed_or_taken_for_another_fails(regions: list[dict[str, object]]) -> None:
    things = {"Living room": "chair", "Office": "desk"}
    checks.found_things(ROOM, things, NAMED)
    with pytest.raises(checks.Misbehaved, match=r"in the photo of a room a (chair|desk) should be found"):
        checks.found_things(regions, things, NAMED)


def test_a_model_no_better_than_colours_fails() -> None:
    histogram = Evaluation(278, 0.4, 0.3)
    checks.beats_histogram(Evaluation(278, 0.8, 0.65), histogram)
    with pytest.raises(checks.Misbehaved, match="colour histogram"):
        checks.beats_histogram(Evaluation(278, 0.5, 0.35), histogram)


@pytest.mark.parametrize(
    "traffic", [replace(CALM, failures=("chair: 503",)), replace(CALM, mixed=1), replace(CALM, requests=3)]
)
def test_one_failed_or_mixed_answer_fails_and_so_does_a_client_that_hardly_asked(traffic: Traffic) -> None:
    checks.was_uninterrupted(CALM)
    with pytest.raises(checks.Misbehaved):
        checks.was_uninterrupted(traffic)


@pytest.mark.parametrize("seen", [(6,), (7,), (7, 6), (6, 8, 7), ()])
def test_a_client_that_did_not_see_the_old_then_the_new_generation_fails(seen: tuple[int, ...]) -> None:
    checks.moved_on(CALM, 6, 7)
    with pytest.raises(checks.Misbehaved, match=r"generations \(6, 7\)"):
        checks.moved_on(replace(CALM, generations=seen), 6, 7)


def test_a_bad_build_that_answers_one_query_fails() -> None:
    checks.stayed(replace(CALM, generations=(6,)), 6)
    with pytest.raises(checks.Misbehaved, match="generation 6"):
        checks.stayed(CALM, 6)


def test_embedding_everything_again_fails() -> None:
    checks.embedded_only_new(20, 20)
    with pytest.raises(checks.Misbehaved, match="20 pictures were new"):
        checks.embedded_only_new(770, 20)


@pytest.mark.parametrize("seen", [("committed", 7), ("unchanged", 8)])
def test_an_unchanged_catalogue_that_makes_a_build_fails(seen: tuple[str, int]) -> None:
    checks.was_unchanged({"outcome": "unchanged", "generation": 7}, 7)
    with pytest.raises(checks.Misbehaved, match="should leave generation 7 as it is"):
        checks.was_unchanged(dict(zip(("outcome", "generation"), seen, strict=True)), 7)


@pytest.mark.parametrize(
    "receipt",
    [
        SERVED,
        replace(REFUSED, code="object-missing"),
        replace(REFUSED, outcome=Outcome.UNDONE),
        replace(REFUSED, detail=""),
    ],
)
def test_a_bad_build_refused_for_another_reason_or_not_at_all_fails(receipt: Receipt) -> None:
    checks.was_refused(REFUSED, Outcome.REJECTED, "build-incomplete")
    with pytest.raises(checks.Misbehaved):
        checks.was_refused(receipt, Outcome.REJECTED, "build-incomplete")


def test_a_refusal_that_nobody_hears_of_fails() -> None:
    checks.was_reported([{"generation": "7"}], 7)
    with pytest.raises(checks.Misbehaved, match="NOTIFY_TOPIC"):
        checks.was_reported([{"generation": "6"}], 7)
