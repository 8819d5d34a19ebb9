"""The schedule that rollouts are looked at by: a few workers, whatever goes on and whatever fails."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from cd_webhook.delivery.deliver import Delivery
from cd_webhook.delivery.step import Step
from cd_webhook.delivery.watcher import STUCK_SECONDS, WORKERS, Schedule, Watcher
from model_repository.errors import BucketUnavailable
from tests.cd_webhook.webhook_scene import Scene, request


class Seconds:
    """A clock that never runs backwards, and stands until it is moved."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def seconds() -> Seconds:
    return Seconds()


@pytest.fixture
def schedule(seconds: Seconds) -> Schedule:
    return Schedule(seconds)


def taken(schedule: Schedule) -> str | None:
    """What is due now; None: nothing, which a schedule that is closed says in place of waiting."""
    found = schedule.take()
    return found[0] if found else None


def test_what_is_due_longest_comes_first_and_what_is_not_due_does_not(schedule: Schedule, seconds: Seconds) -> None:
    schedule.add("a")
    seconds.now = 1
    schedule.add("b")
    assert [taken(schedule), taken(schedule)] == ["a", "b"]
    schedule.put("a", 30)
    schedule.put("b", 10)
    seconds.now = 12
    assert taken(schedule) == "b"
    schedule.close()
    assert taken(schedule) is None


def test_a_change_brings_the_next_look_forward_unless_that_must_wait(schedule: Schedule) -> None:
    for name in ("a", "b"):
        schedule.add(name)
        assert taken(schedule) == name
    schedule.put("a", 30, wakeable=False)
    schedule.put("b", 30)
    schedule.wake(frozenset({"a", "b"}))
    assert taken(schedule) == "b"
    schedule.close()
    assert taken(schedule) is None


def test_when_nobody_can_say_what_changed_everything_is_looked_at(schedule: Schedule) -> None:
    schedule.add("a")
    assert taken(schedule) == "a"
    schedule.put("a", 30)
    schedule.wake(None)
    assert taken(schedule) == "a"


def test_what_is_asked_for_during_its_last_look_is_looked_at_again(schedule: Schedule) -> None:
    schedule.add("a")
    assert taken(schedule) == "a"
    schedule.add("a")
    schedule.put("a", None)
    assert taken(schedule) == "a"
    schedule.put("a", None)
    assert len(schedule) == 0


def failing(delivery: Delivery, error: Exception) -> Delivery:
    class Failing(Delivery):
        def advance(self, name: str) -> Step:  # noqa: ARG002
            raise error

    return Failing(**{field: getattr(delivery, field) for field in Delivery.__dataclass_fields__})


def test_a_rollout_that_cannot_be_looked_at_for_hours_is_told_of_once_and_looked_at_again(
    schedule: Schedule, seconds: Seconds
) -> None:
    scene = Scene()
    watcher = Watcher(failing(scene.delivery, BucketUnavailable("down")), schedule=schedule)
    schedule.add("home-store")
    for _ in range(1500):  # twelve hours of an outage
        found = schedule.take()
        assert found is not None
        watcher.look(*found)
        seconds.now += 30
    assert seconds.now > 20 * STUCK_SECONDS
    (notice,) = scene.notifier.notices
    assert (notice.code, notice.index, notice.detail) == (
        "rollout-stuck", "home-store", "its rollout can't be taken on: down",
    )  # fmt: skip
    assert taken(schedule) == "home-store"


def test_hundreds_of_rollouts_are_watched_by_a_few_threads() -> None:
    scene = Scene()
    names = [f"index-{number}" for number in range(300)]
    for name in names:
        scene.deliver(request(1, index=name))
    before = threading.active_count()
    served = threading.Semaphore(0)
    receipts = replace(scene.delivery.receipts, on_receipt=lambda _: served.release())
    watcher = Watcher(replace(scene.delivery, receipts=receipts), sweep_seconds=3600)
    watcher.start()
    assert threading.active_count() <= before + WORKERS + 2
    for _ in names:
        assert served.acquire(timeout=120)
    watcher.stop()
    assert {scene.deployed(name).rollout.value for name in names} == {"served"}
