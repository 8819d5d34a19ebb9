"""What may pass and lasts is told once, and once when it is over; nothing of it is judged for ever."""

from __future__ import annotations

from datetime import timedelta

import pytest

from model_repository.errors import AccessDenied, BucketUnavailable, TransientError
from model_repository.notify import NotifyUnavailable
from model_repository.repository import list_receipts
from on_commit.webhook import EnvironmentUnknown, WebhookNotNow, WebhookSetup, WebhookUnavailable
from tests.on_commit.scene import HOME, Scene

FAULTS = [
    WebhookSetup("answered 401"),
    EnvironmentUnknown("no CD webhook is configured"),
    WebhookUnavailable("no answer"),
    WebhookNotNow("answered 503 (cluster-forbids: compare the Role)"),
]


def look(scene: Scene) -> None:
    with pytest.raises(TransientError):
        scene.look()


@pytest.fixture
def refused(scene: Scene) -> Scene:
    """A commit that was looked at once, and that the webhook can't take up now."""
    scene.publish()
    scene.commit()
    scene.webhook.failure = WebhookNotNow("503")
    look(scene)
    return scene


def told(scene: Scene) -> list[tuple[str, str, str]]:
    return [(notice.event.value, notice.code, notice.index) for notice in scene.notifier.notices]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.code)
def test_a_fault_on_the_way_leaves_no_receipt_and_is_told_when_it_lasts_and_when_it_is_over(
    scene: Scene, fault: TransientError
) -> None:
    scene.publish()
    scene.commit()
    scene.webhook.failure = fault
    look(scene)
    scene.clock.sleep(299)
    look(scene)
    assert told(scene) == []
    for _ in range(5):
        scene.clock.sleep(60)
        look(scene)
    index = "home" if isinstance(fault, WebhookNotNow) else ""
    assert told(scene) == [("fault", fault.code, index)]
    assert scene.notifier.notices[0].detail == str(fault)
    assert list_receipts(scene.store, HOME) == []
    scene.webhook.failure = None
    scene.look()
    scene.look()
    scene.sweep()
    if index:
        assert told(scene)[1:] == [("over", fault.code, index)]
    assert len(scene.webhook.asked) >= 1


def test_a_fault_that_was_met_by_a_clock_ahead_of_ours_is_told_when_it_lasts(scene: Scene) -> None:
    scene.publish()
    scene.commit()
    scene.webhook.failure = FAULTS[0]
    scene.clock.sleep(86400)
    look(scene)
    scene.clock.sleep(-86400)
    look(scene)
    assert told(scene) == []
    scene.clock.sleep(300)
    look(scene)
    assert told(scene) == [("fault", "webhook-setup", "")]


def test_a_fault_of_the_bucket_is_over_once_a_look_gets_past_it_whatever_is_wrong_with_the_webhook(
    scene: Scene,
) -> None:
    scene.publish()
    scene.commit()
    scene.store.fail = lambda _, name: AccessDenied("403") if name.startswith("indexes/") else None
    look(scene)
    scene.clock.sleep(300)
    look(scene)
    scene.store.fail = lambda _kind, _name: None
    scene.webhook.failure = EnvironmentUnknown("no CD webhook is configured")
    look(scene)
    assert told(scene) == [("fault", "access-denied", "home"), ("over", "access-denied", "home")]


def test_a_fault_of_the_webhook_is_not_over_because_the_bucket_does_not_answer(refused: Scene) -> None:
    refused.clock.sleep(300)
    look(refused)
    refused.store.fail = lambda _, name: BucketUnavailable("503") if name.startswith("indexes/") else None
    look(refused)
    assert told(refused) == [("fault", "webhook-not-now", "home")]
    refused.store.fail = lambda _kind, _name: None
    refused.webhook.failure = None
    refused.look()
    assert told(refused)[1:] == [("over", "webhook-not-now", "home")]


def test_what_could_not_be_told_is_told_by_the_next_look(refused: Scene) -> None:
    refused.clock.sleep(400)
    refused.notifier.failure = NotifyUnavailable("down as well")
    look(refused)
    refused.notifier.failure = None
    look(refused)
    look(refused)
    assert told(refused) == [("fault", "webhook-not-now", "home")]


def test_a_fault_that_passes_soon_is_told_to_nobody(scene: Scene) -> None:
    scene.publish()
    scene.commit()
    scene.webhook.failure = WebhookUnavailable("no answer")
    look(scene)
    scene.webhook.failure = None
    scene.look()
    scene.clock.sleep(3600)
    scene.webhook.failure = WebhookNotNow("503")
    look(scene)
    assert told(scene) == []


def test_a_hundred_indexes_behind_one_webhook_that_is_away_are_one_message(scene: Scene) -> None:
    for number in range(10):
        scene.publish(f"b{number}")
    scene.commit("b1")
    scene.webhook.failure = WebhookUnavailable("no answer")
    for _ in range(100):
        scene.clock.sleep(10)
        look(scene)
    assert told(scene) == [("fault", "webhook-unavailable", "")]
    scene.webhook.failure = None
    scene.webhook.states = {}
    scene.sweep()
    assert told(scene)[1:] == [("over", "webhook-unavailable", "")]


def test_a_bucket_that_denies_for_a_while_is_no_verdict(scene: Scene) -> None:
    scene.publish()
    generation = scene.commit()
    scene.store.fail = lambda _kind, name: AccessDenied("403") if name.startswith("indexes/") else None
    look(scene)
    scene.clock.sleep(400)
    look(scene)
    assert told(scene) == [("fault", "access-denied", "home")]
    scene.store.fail = lambda _kind, _name: None
    scene.look()
    assert [request.generation for request in scene.webhook.asked] == [generation]
    assert told(scene)[1:] == [("over", "access-denied", "home")]


def test_a_bucket_that_takes_no_record_keeps_nothing_from_being_deployed(scene: Scene) -> None:
    scene.publish()
    scene.commit()
    scene.store.fail = lambda _kind, name: BucketUnavailable("503") if name.startswith("incidents/") else None
    scene.look()
    assert len(scene.webhook.asked) == 1


def test_a_record_that_nobody_understands_is_written_anew(scene: Scene) -> None:
    scene.publish()
    scene.commit()
    scene.store.write(HOME.incidents_name, b"{", if_generation_match=None)
    scene.webhook.failure = WebhookNotNow("503")
    look(scene)
    scene.clock.sleep(400)
    look(scene)
    assert told(scene) == [("fault", "webhook-not-now", "home")]


def replaced_while_its_build_is_checked(scene: Scene) -> int:
    """Look at a commit in whose place another one is uploaded meanwhile; its generation."""
    scene.publish("b1")
    scene.publish("b2")
    first = scene.commit("b1")

    def replaced(kind: str, name: str) -> None:
        if (kind, name) == ("listing", "models/lite/v1/"):
            scene.store.fail = lambda _kind, _name: None
            scene.commit("b2")

    scene.store.fail = replaced  # type: ignore[assignment]
    scene.look()
    return first


def test_a_spinnaker_is_not_asked_for_a_commit_that_is_replaced_meanwhile(scene: Scene) -> None:
    first = replaced_while_its_build_is_checked(scene)
    assert scene.webhook.asked == []
    assert list_receipts(scene.store, HOME) == [first]
    scene.look()
    assert [str(request.index_prefix) for request in scene.webhook.asked] == ["indexes/home/b2"]


def test_a_cd_webhook_says_what_became_of_a_commit_that_is_replaced_meanwhile(scene: Scene) -> None:
    scene.webhook.states = {}
    replaced_while_its_build_is_checked(scene)  # a duplicate: it may be rolling out, and yet serve
    assert [str(request.index_prefix) for request in scene.webhook.asked] == ["indexes/home/b1"]
    assert list_receipts(scene.store, HOME) == []


def test_the_receipt_of_an_oversized_commit_is_of_the_generation_that_was_read(scene: Scene) -> None:
    generation = scene.store.write(HOME.commit_name, b"x" * 70_000, if_generation_match=0).generation
    scene.publish()
    publish = scene.notifier.publish

    def corrected_meanwhile(notice: object) -> None:
        scene.commit()
        publish(notice)  # type: ignore[arg-type]

    scene.notifier.publish = corrected_meanwhile  # type: ignore[method-assign,assignment]
    scene.look()
    assert list_receipts(scene.store, HOME) == [generation]
    scene.look()
    assert len(scene.webhook.asked) == 1


def test_a_fault_is_remembered_by_whoever_starts_next(scene: Scene) -> None:
    scene.publish()
    scene.commit()
    scene.webhook.failure = WebhookNotNow("503")
    look(scene)  # each look is of a function that was started anew
    scene.clock.sleep(timedelta(minutes=6).total_seconds())
    look(scene)
    assert told(scene) == [("fault", "webhook-not-now", "home")]


def test_a_function_that_is_killed_between_noting_and_telling_leaves_it_to_whoever_looks_a_minute_later(
    refused: Scene,
) -> None:
    class Killed(BaseException):
        pass

    refused.clock.sleep(400)
    publish = refused.notifier.publish

    def killed(_: object) -> None:
        raise Killed

    refused.notifier.publish = killed  # type: ignore[method-assign,assignment]
    with pytest.raises(Killed):
        refused.look()
    refused.notifier.publish = publish  # type: ignore[method-assign]
    look(refused)  # perhaps it isn't dead
    assert told(refused) == []
    refused.clock.sleep(60)
    look(refused)
    look(refused)
    assert told(refused) == [("fault", "webhook-not-now", "home")]


def test_what_others_find_while_somebody_tells_has_nobody_told_twice(refused: Scene) -> None:
    refused.clock.sleep(400)
    publish = refused.notifier.publish

    def others_look_meanwhile(notice: object) -> None:
        refused.notifier.publish = publish  # type: ignore[method-assign]
        for number in range(3):
            refused.webhook.failure = WebhookNotNow(f"503, in other words {number}")
            look(refused)
        publish(notice)  # type: ignore[arg-type]

    refused.notifier.publish = others_look_meanwhile  # type: ignore[method-assign,assignment]
    look(refused)
    for _ in range(3):
        refused.clock.sleep(60)
        look(refused)
    assert told(refused) == [("fault", "webhook-not-now", "home")]
