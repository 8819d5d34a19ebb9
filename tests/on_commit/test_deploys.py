"""The rule of the function while all is well, or may soon be: an event deploys the live commit."""

from __future__ import annotations

import pytest

from model_repository.bucket.events import OtherEvent
from model_repository.deployment import AnswerOutcome
from model_repository.digests import sha256_digest
from model_repository.errors import BucketUnavailable
from model_repository.repository import list_receipts
from on_commit.webhook import WebhookAnswer, WebhookUnavailable
from tests.on_commit.scene import HOME, Scene

READ_OF_A_BUILD = (
    "indexes/home/b1/index.json",
    "indexes/home/b1/",
    "models/lite/v1/model.json",
    "models/lite/v1/",
)


def test_a_commit_of_a_whole_build_is_asked_for_with_all_that_the_webhook_needs(scene: Scene) -> None:
    manifest = scene.publish()
    generation = scene.commit(by="batch", reason="hourly")
    scene.look()
    (request,) = scene.webhook.asked
    stored = scene.store.read("indexes/home/b1/index.json", limit=10**6)
    assert (request.target, request.generation, request.bucket) == (HOME, generation, "a-bucket")
    assert (request.index_prefix, request.index_generation) == (manifest.prefix, stored.generation)
    assert request.index_digest == sha256_digest(stored.data)
    assert request.models == (manifest.models[0].prefix,)
    assert (request.by, request.reason) == ("batch", "hourly")
    assert scene.notifier.notices == []
    assert list_receipts(scene.store, HOME) == [], "what became of it is for the CD side to say"


def test_a_late_event_deploys_the_live_commit(scene: Scene) -> None:
    scene.publish("b1")
    scene.publish("b2")
    scene.commit("b1")
    newest = scene.commit("b2")
    scene.look()  # the event of the first commit, late
    scene.look()  # the event of the second
    assert [request.generation for request in scene.webhook.asked] == [newest, newest]
    assert {str(request.index_prefix) for request in scene.webhook.asked} == {"indexes/home/b2"}


def test_a_rollback_is_one_more_commit(scene: Scene) -> None:
    for build in ("b1", "b2", "b1"):
        scene.publish(build)
        scene.commit(build)
        scene.look()
    assert [request.index_prefix.build for request in scene.webhook.asked] == ["b1", "b2", "b1"]


def test_an_event_costs_eight_reads_of_the_bucket(scene: Scene) -> None:
    scene.publish()
    generation = scene.commit()
    scene.look()
    assert scene.store.reads == [
        "read commits/staging/home.json",
        f"read {HOME.receipt_name(generation)}",
        "read indexes/home/b1/index.json",
        "listing indexes/home/b1/",
        "read models/lite/v1/model.json",
        "listing models/lite/v1/",
        "stat commits/staging/home.json",
        "read incidents/staging/home.json",
    ]
    assert len(scene.webhook.asked) == 1


def test_a_commit_that_is_gone_is_nobodys_fault(scene: Scene) -> None:
    scene.look()
    assert (scene.webhook.asked, scene.notifier.notices, scene.store.listing("")) == ([], [], [])


@pytest.mark.parametrize("said", [AnswerOutcome.ACCEPTED, AnswerOutcome.ALREADY_DEPLOYED, AnswerOutcome.SUPERSEDED])
def test_any_other_answer_is_the_end_of_the_event(scene: Scene, said: AnswerOutcome) -> None:
    scene.publish()
    scene.commit()
    scene.webhook.answer = WebhookAnswer(said, "as you wish", "an-event-id")
    scene.look()
    assert scene.notifier.notices == []
    line = scene.lines()[-1]
    assert (line["outcome"], line["webhook_event_id"], line["severity"]) == (said.value, "an-event-id", "INFO")


def test_a_webhook_that_does_not_answer_makes_the_event_come_again(scene: Scene) -> None:
    scene.publish()
    scene.commit()
    scene.webhook.failure = WebhookUnavailable("503")
    with pytest.raises(WebhookUnavailable):
        scene.look()
    assert (scene.notifier.notices, list_receipts(scene.store, HOME)) == ([], [])
    scene.webhook.failure = None
    scene.look()
    assert len(scene.webhook.asked) == 1


@pytest.mark.parametrize("hiccup", ["commits/staging/home.json", *READ_OF_A_BUILD])
def test_a_bucket_that_does_not_answer_makes_the_event_come_again(scene: Scene, hiccup: str) -> None:
    scene.publish()
    scene.commit()
    scene.store.fail = lambda _kind, name: BucketUnavailable("503") if name == hiccup else None
    with pytest.raises(BucketUnavailable):
        scene.look()
    assert (scene.webhook.asked, scene.notifier.notices, list_receipts(scene.store, HOME)) == ([], [], [])


def test_what_is_not_ours_touches_nothing(scene: Scene) -> None:
    scene.handle(OtherEvent("another object"))
    assert (scene.store.reads, scene.webhook.asked, scene.notifier.notices) == ([], [], [])
