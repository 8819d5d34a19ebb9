"""The judgement of a canary, and the sentence that a person reads."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import Any

import pytest

from cd_webhook.canary.judgement import Aborted, Judgement, Passed, Watching, judge_canary, limit, so_far
from cd_webhook.state import Trial
from manifests.canary import Canary
from manifests.render import render
from model_repository.documents.receipts.canary_figures import CanaryFigures, TrackFigures
from tests.cd_webhook.webhook_scene import request, values

RULES = Canary(seconds=60)
FINE = TrackFigures(pods=1, probes=500, probes_failed=0, p95_ms=4.0, requests=900, errors=0, mean_ms=2.0)


def seen(seconds: float = 60, *, wrong: int = 0, restarts: int = 0, stable: Any = None, **canary: Any) -> CanaryFigures:
    mine = dataclasses.replace(FINE, **canary)
    return CanaryFigures(False, seconds, wrong, restarts, mine, dataclasses.replace(FINE, **(stable or {})))


def aborted(found: Judgement) -> tuple[str, str]:
    assert isinstance(found, Aborted), found
    return found.failed.code, found.failed.sentence


def test_a_canary_that_does_as_well_as_the_stable_pods_passes_when_its_time_is_over() -> None:
    assert isinstance(judge_canary(seen(59.5), RULES), Watching)
    found = judge_canary(seen(60), RULES)
    assert isinstance(found, Passed)
    assert found.figures.promoted
    assert found.sentence == (
        "canary passed after 60 s: canary 0 of 500 probes failed, p95 4.0 ms, 0 of 900 requests 5xx; "
        "stable 0 of 500 probes failed, p95 4.0 ms, 0 of 900 requests 5xx"
    )


def test_one_wrong_answer_to_a_golden_query_ends_it_at_once() -> None:
    code, sentence = aborted(judge_canary(seen(1, wrong=1), RULES))
    assert code == "canary-wrong-answers"
    assert "golden queries answered otherwise than the batch recorded: 1" in sentence


def test_a_restart_ends_it_at_once() -> None:
    assert aborted(judge_canary(seen(1, restarts=1), RULES))[0] == "canary-restarted"


def test_failed_probes_end_it_before_its_time_once_there_are_enough_to_tell() -> None:
    assert isinstance(judge_canary(seen(1, probes=30, probes_failed=30), RULES), Watching)
    assert isinstance(judge_canary(seen(1, probes=100, probes_failed=4), RULES), Watching)
    code, sentence = aborted(judge_canary(seen(1, probes=100, probes_failed=5), RULES))
    assert code == "canary-errors"
    assert "5.00% of its probes failed, 1.00% more than the stable pods' 0.00% are allowed" in sentence


def test_errors_that_only_callers_met_count_as_well() -> None:
    code, sentence = aborted(judge_canary(seen(requests=1000, errors=11), RULES))
    assert code == "canary-errors"
    assert "1.10% of its requests failed" in sentence


def test_errors_that_the_stable_pods_have_too_are_not_the_canarys_fault() -> None:
    both = seen(requests=1000, errors=51, stable={"requests": 1000, "errors": 50})
    assert isinstance(judge_canary(both, RULES), Passed)


def test_a_canary_that_answers_too_slowly_is_aborted_at_the_end_of_its_time() -> None:
    slow = {"p95_ms": 61.0, "stable": {"p95_ms": 30.0}}
    assert isinstance(judge_canary(seen(59, **slow), RULES), Watching)
    assert aborted(judge_canary(seen(60, **slow), RULES)) == (
        "canary-slow",
        "canary: 95 % of its answers came within 61.0 ms, of the stable pods' within 30.0 ms; 60.0 ms are allowed",
    )


def test_below_the_floor_a_ratio_is_noise() -> None:
    assert isinstance(judge_canary(seen(p95_ms=19.0, stable={"p95_ms": 0.5}), RULES), Passed)


def test_what_callers_wait_for_on_average_is_told_and_not_judged() -> None:
    assert isinstance(judge_canary(seen(mean_ms=500.0), RULES), Passed)


@pytest.mark.parametrize(
    ("figures", "expected"),
    [
        (seen(1), ("no-worse", "")),
        (seen(1, p95_ms=None), ("too-few-answers", "")),
        (seen(1, probes=100, probes_failed=2), ("worse", "2.00% of its probes failed, 1.00% more than the stable")),
        (seen(1, p95_ms=61.0, stable={"p95_ms": 30.0}), ("worse", "95 % of its answers came within 61.0 ms")),
        (seen(1, wrong=1), ("worse", "golden queries answered otherwise than the batch recorded: 1")),
    ],
)
def test_while_it_goes_on_it_is_told_what_the_judgement_would_be_now(
    figures: CanaryFigures, expected: tuple[str, str]
) -> None:
    said, why = so_far(figures, RULES)
    assert said == expected[0]
    assert why.startswith(expected[1])
    assert bool(why) is bool(expected[1])
    over = judge_canary(dataclasses.replace(figures, seconds=60), RULES)
    assert isinstance(over, {"no-worse": Passed, "worse": Aborted, "too-few-answers": Watching}[said])


@pytest.mark.parametrize(
    "few",
    [{"probes": 39, "p95_ms": None}, {"p95_ms": None}, {"stable": {"p95_ms": None}}],
    ids=["probes", "canary", "stable"],
)
def test_too_few_answers_judge_nothing_and_are_waited_for(few: dict[str, Any]) -> None:
    found = judge_canary(seen(600, **few), RULES)
    assert isinstance(found, Watching)
    assert "too few to judge" in found.sentence


def test_the_limit_holds_the_time_to_get_ready_and_twice_the_time_of_watching() -> None:
    spec = render(request(5), values()).deployment["spec"]
    assert limit(Trial(Canary(replicas=2, seconds=100), spec)) == timedelta(seconds=60 * 3 + 200 + 60)
