"""What is told, given what was told and what should be said: one table."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notify.decide import Kind, Step, decide, interval, remember
from notify.state import Stage, State, Told, format_state, parse_state
from notify.statements import Statement
from tests.builds import NOW

HOUR = timedelta(hours=1)
OPEN, BAD, DONE = Stage.OPEN, Stage.BAD, Stage.DONE
POST, UPDATE, REPLY, ALARM = Kind.POST, Kind.UPDATE, Kind.REPLY, Kind.ALARM


def told(text: str, stage: Stage, repeats: int = 0, *, ago: timedelta = timedelta(0)) -> Told:
    return Told("k", "C1 1.0", text, stage, NOW - ago, NOW - ago, repeats, NOW - ago)


def said(
    text: str, stage: Stage, *, ago: timedelta = timedelta(0), repeats: bool = False, first: bool = True
) -> Statement:
    return Statement("k", text, stage, NOW - ago, repeats, first)


@dataclass(frozen=True)
class Case:
    why: str
    told: Told | None
    said: Statement | None
    steps: list[tuple[Kind, str]]


TABLE = [
    Case("nothing to say of nothing", None, None, []),
    Case("a commit that was just posted", None, said("a", OPEN), [(POST, "a")]),
    Case("one that ended before it was heard of", None, said("a", DONE), [(POST, "a")]),
    Case("one that failed before it was heard of calls people by being new", None, said("a", BAD), [(POST, "a")]),
    Case("the past", None, said("a", BAD, ago=25 * HOUR), []),
    Case("what nobody needs to hear of", None, said("a", DONE, first=False), []),
    Case("told already: open", told("a", OPEN), said("a", OPEN), []),
    Case("told already: done", told("a", DONE), said("a", DONE), []),
    Case("told already: done long ago", told("a", DONE, ago=99 * HOUR), said("a", DONE), []),
    Case("told already: bad", told("a", BAD), said("a", BAD), []),
    Case("told already: bad, by a clock that was ahead", told("a", BAD, ago=-HOUR / 2), said("a", BAD), []),
    Case("and far ahead", told("a", BAD, ago=-99 * HOUR), said("a", BAD), [(REPLY, "Still")]),
    Case("it rolls out", told("a", OPEN), said("b", OPEN), [(UPDATE, "b")]),
    Case("it serves", told("a", OPEN), said("b", DONE), [(UPDATE, "b")]),
    Case("it was undone", told("a", OPEN), said("b", BAD), [(ALARM, "b"), (UPDATE, "b")]),
    Case("after all it serves", told("a", BAD), said("b", DONE), [(UPDATE, "b")]),
    Case("an older look", told("b", DONE), said("a", OPEN), []),
    Case("an older look at what failed", told("b", DONE), said("a", BAD), []),
    Case("other words for what is over", told("a", DONE), said("b", DONE), [(UPDATE, "b")]),
    Case("other words for what fails", told("a", BAD), said("b", BAD), [(UPDATE, "b")]),
    Case("it failed again", told("a", BAD, ago=HOUR / 2), said("b", BAD, repeats=True), [(REPLY, "b"), (UPDATE, "b")]),
    Case("it failed before, which is heard of late", told("a", BAD), said("b", BAD, ago=HOUR, repeats=True), []),
    Case("a run that failed, and took hours", None, said("a", BAD, ago=3 * HOUR, repeats=True), [(POST, "a")]),
    Case("bad for 59 minutes", told("a", BAD, ago=HOUR * 0.98), said("a", BAD), []),
    Case("bad for an hour", told("a", BAD, ago=HOUR), said("a", BAD), [(REPLY, "Still")]),
    Case("bad for an hour, and nobody says more of it", told("a", BAD, ago=HOUR), None, [(REPLY, "Still")]),
    Case(
        "bad for an hour, in other words each time",
        told("a", BAD, ago=HOUR),
        said("b", BAD),
        [(UPDATE, "b"), (REPLY, "Still")],
    ),
    Case("said again, 3 hours ago", told("a", BAD, 1, ago=3 * HOUR), said("a", BAD), []),
    Case("said again, 4 hours ago", told("a", BAD, 1, ago=4 * HOUR), said("a", BAD), [(REPLY, "Still")]),
    Case("open for ever is no alarm", told("a", OPEN, ago=99 * HOUR), None, []),
]


@pytest.mark.parametrize("case", TABLE, ids=lambda case: case.why)
def test_what_is_told(case: Case) -> None:
    state = State((case.told,) if case.told else ())
    steps = decide(state, [case.said] if case.said else [], NOW)
    assert [
        (step.kind, step.text[: len(text)]) for step, (_, text) in zip(steps, case.steps, strict=True)
    ] == case.steps


STATEMENTS = st.builds(
    Statement,
    key=st.sampled_from(["commit 1", "commit 2", "batch b1"]),
    text=st.sampled_from("abc"),
    stage=st.sampled_from(Stage),
    since=st.integers(0, 50).map(lambda hours: NOW - hours * HOUR),
    repeats=st.booleans(),
).map(lambda each: replace(each, text=f"{each.stage} {each.text}"))


def applied(state: State, steps: list[Step]) -> State:
    kept = {each.key: each for each in state.told} | {step.after.key: step.after for step in steps}
    return State(remember(kept.values()))


@given(st.lists(STATEMENTS, max_size=8))
def test_whoever_looks_again_at_once_has_nothing_to_tell(found: list[Statement]) -> None:
    state = State(())
    for each in found:
        state = applied(state, decide(state, [each], NOW))
        assert decide(state, [each], NOW) == []


@given(st.lists(STATEMENTS, max_size=4), st.integers(0, 3))
def test_whoever_is_stopped_between_two_steps_goes_on_with_the_rest(found: list[Statement], stop: int) -> None:
    state = State(())
    for each in found:
        steps = decide(state, [each], NOW)
        half = applied(state, steps[:stop])
        rest = decide(half, [each], NOW)
        assert [(step.kind, step.id) for step in rest] == [(step.kind, step.id) for step in steps[stop:]]
        state = applied(state, steps)


def test_intervals_grow_to_a_day() -> None:
    assert [interval(repeats) / HOUR for repeats in range(6)] == [1, 4, 16, 24, 24, 24]


def test_what_is_bad_is_not_forgotten_for_what_is_new() -> None:
    many = [Told(f"k{number}", "m", "t", DONE, NOW, NOW, 0, NOW) for number in range(100)]
    kept = remember([told("a", BAD), *many])
    assert kept[0].key == "k"
    assert [each.key for each in kept[1:]] == [f"k{number}" for number in range(60, 100)]


MOMENTS = st.datetimes(min_value=datetime(2000, 1, 1), max_value=datetime(2100, 1, 1)).map(  # noqa: DTZ001 - made aware
    lambda moment: moment.replace(tzinfo=NOW.tzinfo)
)
WORDS = st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=50)


@given(
    st.builds(
        State,
        told=st.lists(
            st.builds(
                Told,
                key=WORDS,
                message=WORDS,
                text=st.text(st.characters(exclude_categories=["Cs"])),
                stage=st.sampled_from(Stage),
                since=MOMENTS,
                at=MOMENTS,
                repeats=st.integers(0, 99),
                repeated=MOMENTS,
            ),
            max_size=5,
        ).map(tuple),
        busy_until=st.none() | MOMENTS,
        unsure_since=st.none() | MOMENTS,
    )
)
def test_the_record_reads_as_it_was_written(state: State) -> None:
    assert parse_state(format_state(state), "a name") == state
