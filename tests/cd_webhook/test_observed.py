"""Deadlines count by the clock of who watches: machines' clocks differ by minutes, and webhooks are away for hours."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta

import pytest

from cd_webhook.canary import canaries
from cd_webhook.delivery.observed import Observed
from cd_webhook.state import Deployed, Rollout
from model_repository.errors import AccessDenied, BucketUnavailable
from tests.cd_webhook import fake_cluster as pods
from tests.cd_webhook.canary_scene import serving
from tests.cd_webhook.webhook_scene import Scene, request

START = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
ROLLING = Deployed(5, rollout=Rollout.IN_PROGRESS, started=START)


def test_looks_add_up_and_what_nobody_watched_counts_for_nothing() -> None:
    observed, now = Observed(), START
    assert observed.watched("home", ROLLING, now) == timedelta(0)
    for seconds, expected in ((20, 20), (20, 40), (3600, 100), (-600, 100), (5, 105)):
        now += timedelta(seconds=seconds)
        observed.looked("home")
        assert observed.watched("home", ROLLING, now) == timedelta(seconds=expected)


def test_the_time_after_a_look_that_failed_counts_for_nothing() -> None:
    observed = Observed()
    for minutes in range(60):  # a bucket that is away for an hour
        assert observed.watched("home", ROLLING, START + timedelta(minutes=minutes)) == timedelta(0)


def test_a_healthy_canary_is_not_undone_because_the_bucket_was_away(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = serving()
    scene.commit(2)
    scene.look(1)
    with monkeypatch.context() as away:
        away.setattr(canaries, "read_build", _denied)
        for _ in range(600):
            with contextlib.suppress(AccessDenied):
                scene.delivery.advance("home-store")
            scene.pass_seconds(5)
    scene.finish()
    assert scene.outcomes()[2] == "served"


def _denied(*_: object) -> None:
    raise AccessDenied("403")


def test_another_commit_and_a_promotion_count_anew() -> None:
    observed = Observed()
    later = START + timedelta(minutes=1)
    promoted = Deployed(5, rollout=Rollout.IN_PROGRESS, started=START, promoted=later)
    for other in (promoted, Deployed(6, rollout=Rollout.IN_PROGRESS)):
        observed.watched("home", ROLLING, START)
        assert observed.watched("home", other, later) == timedelta(0)


def test_a_webhook_whose_clock_is_minutes_ahead_undoes_no_good_rollout() -> None:
    scene = Scene()
    scene.serve(1)
    scene.cluster.fates["2"] = pods.starting
    scene.deliver(request(2))
    scene.clock.moment += timedelta(minutes=5)  # the other webhook's clock
    other = scene.webhook()
    assert not other.advance("home-store").finished
    scene.cluster.fates["2"] = pods.ready
    scene.look_until_finished(other)
    assert scene.outcomes() == {1: "served", 2: "served"}


def test_an_image_that_is_missing_for_a_moment_undoes_nothing_whatever_the_pods_clock_says() -> None:
    scene = Scene()
    scene.serve(1)
    scene.cluster.fates["2"] = pods.waiting("ImagePullBackOff", started="2026-11-21T11:30:00Z")
    scene.deliver(request(2))
    for _ in range(2):
        assert not scene.delivery.advance("home-store").finished
        scene.clock.moment += timedelta(seconds=31)
    scene.look_until_finished()
    assert scene.receipt(2).code == "image-unavailable"


def test_a_healthy_canary_is_not_undone_because_every_webhook_was_away() -> None:
    scene = serving()
    scene.commit(2)
    scene.look(4)
    scene.clock.moment += timedelta(hours=3)
    scene.finish(scene.webhook())
    assert scene.outcomes()[2] == "served"


def test_a_rollout_that_ended_while_every_webhook_was_away_serves() -> None:
    scene = Scene()
    scene.serve(1)
    scene.cluster.fates["2"] = pods.starting
    scene.deliver(request(2))
    scene.delivery.advance("home-store")
    scene.cluster.fates["2"] = pods.ready
    scene.clock.moment += timedelta(days=1)
    scene.look_until_finished(scene.webhook())
    assert scene.outcomes()[2] == "served"


def test_who_stalled_before_creating_takes_it_back_when_another_commit_is_live_by_then() -> None:
    scene = Scene()
    stat = scene.store.stat
    asked: list[str] = []

    def stalled(name: str) -> object:
        found = stat(name)
        asked.append(name)
        if len(asked) == 1:  # read, and then it stalls: another commit comes, is deployed, and is deleted
            scene.store.commit(request(2).target, 2)
        return found

    scene.store.stat = stalled  # type: ignore[method-assign,assignment]
    scene.store.commit(request(1).target, 1)
    assert scene.delivery.deliver(request(1)).outcome == "superseded"
    assert scene.cluster.deployments() == []
    assert scene.receipt(1).outcome == "superseded"


def test_a_bucket_that_does_not_answer_after_the_creation_leaves_what_was_created() -> None:
    scene = Scene()
    stat, asked = scene.store.stat, []

    def away(name: str) -> object:
        asked.append(name)
        if len(asked) == 2:
            raise BucketUnavailable(name)
        return stat(name)

    scene.store.stat = away  # type: ignore[method-assign,assignment]
    scene.store.commit(request(1).target, 1)
    try:
        scene.delivery.deliver(request(1))
    except BucketUnavailable:
        scene.look_until_finished()
    assert scene.outcomes() == {1: "served"}
