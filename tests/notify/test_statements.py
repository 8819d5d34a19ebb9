"""The words: what is escaped, and that every command can be typed as it stands."""

from __future__ import annotations

import re
import shlex
from datetime import timedelta

import pytest

from model_repository.documents.commit import Commit
from model_repository.documents.incidents import Incident
from model_repository.documents.receipts.receipt import Outcome
from model_repository.names import IndexPrefix, Target
from notify.state import TEXT_LIMIT, Stage, State, Told
from notify.statements import Facts, LiveCommitFacts, Report, statements
from notify.subject import Subject
from operator_cli.arguments import parse_arguments
from operator_cli.output.people import took
from tests import builds
from tests.builds import NOW

HOME, TARGET = Subject("staging", "home"), Target("staging", "home")
LIVE = LiveCommitFacts(5, Commit(IndexPrefix("home", "b1")), NOW)


def texts(facts: Facts, state: State = State(())) -> list[str]:  # noqa: B008 - frozen
    return [each.text for each in statements(facts, state, NOW + timedelta(hours=1), timedelta(minutes=30))]


def of_receipt(outcome: Outcome, **fields: str) -> str:
    receipt = builds.receipt(5, TARGET, outcome=outcome, **fields)
    return texts(Facts("a-bucket", HOME, LIVE, {5: receipt}))[0]


@pytest.mark.parametrize(
    "text",
    [
        of_receipt(Outcome.UNDONE),
        of_receipt(Outcome.REJECTED),
        *texts(Facts("a-bucket", HOME, LIVE)),
        *texts(Facts("a-bucket", HOME, incidents=(Incident("c", "d", NOW, told=True),))),
        *texts(Facts("a-bucket", Subject("staging"), incidents=(Incident("c", "d", NOW, told=True),))),
        *texts(Facts("a-bucket", HOME, report=Report(IndexPrefix("home", "b1"), "stopped", NOW))),
    ],
)
def test_every_command_is_one_that_the_command_line_takes(text: str) -> None:
    commands = re.findall(r"`(indexpush [^`]*)`", text)
    assert commands
    for command in commands:
        said = parse_arguments(shlex.split(command)[1:])
        assert said.repository == "gs://a-bucket"


def test_words_of_others_mention_nobody_and_stay_within_bounds() -> None:
    text = of_receipt(Outcome.UNDONE, detail="<!channel> `x` & " + "<" * 9999)
    assert "&lt;!channel&gt; 'x' &amp;" in text
    assert "<" not in text
    assert len(text) <= TEXT_LIMIT


@pytest.mark.parametrize("words", ["x", "&", "<&>", "\n"])
def test_the_longest_words_of_others_leave_room_for_what_to_type(words: str) -> None:
    long = {"by": (words * 200)[:200], "reason": (words * 1000)[:1000]}
    text = of_receipt(Outcome.UNDONE, detail=words * 9999, code="c" * 60, **long)
    assert text.endswith("`indexpush redeploy home --environment staging --repository gs://a-bucket`")
    assert "&a..." not in text
    errors = tuple(("c" * 60, words * 9999) for _ in range(3))
    report = Report(IndexPrefix("home", "b1"), "stopped", NOW, errors)
    assert texts(Facts("a-bucket", HOME, report=report))[0].endswith("reports/home/b1.html")


def test_a_commit_that_nobody_can_read_is_named_so() -> None:
    (text,) = texts(Facts("a-bucket", HOME, LiveCommitFacts(5, None, NOW)))
    assert "a commit that can't be read" in text


def test_a_commit_that_was_replaced_before_it_was_heard_of_makes_no_message() -> None:
    receipt = builds.receipt(4, TARGET, outcome=Outcome.UNDONE)
    (old, _live) = statements(Facts("a-bucket", HOME, LIVE, {4: receipt}), State(()), NOW, timedelta(minutes=30))
    assert not old.first


def test_a_commit_without_a_receipt_that_somebody_replaced_is_done() -> None:
    told = Told("commit 4", "m", "No receipt", Stage.BAD, NOW, NOW, 0, NOW)
    found = {each.key: each for each in statements(Facts("b", HOME, LIVE), State((told,)), NOW, timedelta(minutes=30))}
    assert (found["commit 4"].stage, found["commit 4"].text) == (Stage.DONE, "No receipt\nNo longer live.")


def test_no_commit_took_less_than_no_time_where_two_webhooks_clocks_differ() -> None:
    served = builds.receipt(5, TARGET, started=NOW, finished=NOW - timedelta(minutes=5))
    assert texts(Facts("a-bucket", HOME, LIVE, {5: served}))[0].endswith("Served after 0 s.")
    assert "-" not in took(served)
