"""Refusals through Google's own client to a Pub/Sub behind gRPC."""

from __future__ import annotations

import json

import pytest

from local_stack.pubsub import Topics
from model_repository import notify
from model_repository.names import IndexPrefix
from model_repository.notify import Event, Notice, NotifyRefused, NotifyUnavailable, PubSubNotifier
from tests.on_commit.doubles import TOPIC

REFUSAL = Notice(
    Event.REJECTED,
    bucket="a-bucket",
    name="commits/staging/home.json",
    generation=5,
    environment="staging",
    index="home",
    index_prefix=IndexPrefix("home", "b1"),
    code="build-incomplete",
    detail="a file is missing",
)


def test_a_refusal_arrives_with_attributes_to_filter_on(refusals: Topics) -> None:
    notifier = PubSubNotifier(TOPIC)
    notifier.publish(REFUSAL)
    notifier.publish(REFUSAL)
    first, _second = refusals.messages(TOPIC)
    assert first.attributes == {
        "outcome": "rejected",
        "code": "build-incomplete",
        "environment": "staging",
        "index": "home",
    }
    assert json.loads(first.data)["detail"] == "a file is missing"
    assert json.loads(first.data)["commit"] == "gs://a-bucket/commits/staging/home.json#5"


def test_a_topic_that_is_not_there_is_permanent(refusals: Topics) -> None:
    gone = f"{TOPIC}-gone"
    assert not refusals.exists(gone)
    notifier = PubSubNotifier(gone)
    with pytest.raises(NotifyRefused, match=gone):
        notifier.publish(REFUSAL)
    with pytest.raises(NotifyRefused, match="no such topic"):
        notifier.check()


def test_a_topic_that_is_there_checks_well(refusals: Topics) -> None:
    PubSubNotifier(TOPIC).check()
    assert refusals.messages(TOPIC) == ()


def test_a_pubsub_that_does_not_answer_is_transient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", "127.0.0.1:1")
    monkeypatch.setattr(notify, "_PUBLISH_SECONDS", 0.5)
    with pytest.raises(NotifyUnavailable):
        PubSubNotifier(TOPIC).publish(REFUSAL)
    with pytest.raises(NotifyUnavailable):
        PubSubNotifier(TOPIC).check()
