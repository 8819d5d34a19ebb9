"""What is decided is written and told once, however long bucket and topic take; meanwhile it is owed."""

from __future__ import annotations

import contextlib
import dataclasses
from datetime import timedelta

import pytest

from cd_webhook.delivery.deliver import ReceiptsOwed
from model_repository.errors import BucketUnavailable, GenerationConflict
from model_repository.notify import NotifyRefused, NotifyUnavailable
from tests.cd_webhook import fake_cluster as pods
from tests.cd_webhook.webhook_scene import Scene, request


def test_people_are_told_once_of_what_was_undone(scene: Scene) -> None:
    scene.serve(1)
    scene.cluster.fates["2"] = pods.ended(65, "shuffled ids")
    scene.serve(2)
    scene.delivery.deliver(request(2))
    scene.look_until_finished()
    (notice,) = scene.notifier.notices
    assert notice.attributes() == {
        "outcome": "undone", "code": "pod-refused-data", "environment": "test", "index": "home-store",
    }  # fmt: skip
    assert "shuffled ids" in notice.detail


def test_while_nobody_can_be_told_the_receipt_stays_owed_and_is_told_later(scene: Scene) -> None:
    scene.serve(1)
    scene.cluster.fates["2"] = pods.ended(65)
    scene.notifier.failure = NotifyUnavailable("down")
    with pytest.raises(NotifyUnavailable):
        scene.serve(2)
    assert scene.outcomes() == {1: "served", 2: "undone"}
    scene.notifier.failure = None
    scene.look_until_finished()
    assert [notice.generation for notice in scene.notifier.notices] == [2]


def test_a_topic_that_does_not_answer_keeps_no_receipt_away_and_no_commit_that_waits(scene: Scene) -> None:
    scene.serve(1)
    scene.cluster.fates |= {"2": pods.starting, "3": pods.ended(65)}
    for generation in (2, 3, 4):
        scene.deliver(request(generation))
    scene.notifier.failure = NotifyUnavailable("down")
    for _ in range(20):
        with contextlib.suppress(NotifyUnavailable):
            scene.delivery.advance("home-store")
    assert scene.outcomes() == {1: "served", 2: "superseded", 3: "undone", 4: "served"}
    scene.notifier.failure = None
    scene.look_until_finished()
    assert [notice.generation for notice in scene.notifier.notices] == [3]
    assert scene.deployed().owed == ()


def test_a_topic_that_goes_on_refusing_keeps_nothing_away(scene: Scene) -> None:
    scene.serve(1)
    scene.cluster.fates["2"] = pods.ended(65)
    scene.notifier.failure = NotifyRefused("no such topic")
    with pytest.raises(NotifyRefused):  # a grant that hasn't spread yet
        scene.serve(2)
    assert scene.outcomes() == {1: "served", 2: "undone"}
    scene.clock.moment += timedelta(minutes=5)
    scene.look_until_finished()
    assert scene.deployed().owed == ()


def test_a_receipt_that_was_not_written_and_is_not_there_stays_owed(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(name: str, _: bytes, **__: object) -> None:
        raise GenerationConflict(name, 0)  # as a proxy's or a policy's 412 is read

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(scene.store, "write", refuse)
        with pytest.raises(BucketUnavailable, match="wasn't written, and none is there"):
            scene.serve(1)
    scene.look_until_finished()
    assert scene.outcomes() == {1: "served"}


def test_nothing_new_is_taken_up_while_the_bucket_takes_no_receipts(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(name: str, _: bytes, **__: object) -> None:
        raise BucketUnavailable(f"{name}: down")

    monkeypatch.setattr(scene.store, "write", down)
    for generation in range(1, 51):
        scene.deliver(request(generation))
        with contextlib.suppress(BucketUnavailable):
            scene.look_until_finished()
    with pytest.raises(ReceiptsOwed, match="owes 50 receipts that the bucket doesn't take; let the webhook write"):
        scene.deliver(request(51))
    monkeypatch.undo()
    scene.look_until_finished()
    scene.serve(51)
    assert len(scene.outcomes()) == 51


def test_however_long_the_reasons_are_nothing_is_rejected_because_receipts_are_owed(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(name: str, *_: object, **__: object) -> None:
        raise BucketUnavailable(name)

    monkeypatch.setattr(scene.store, "write", down)
    with pytest.raises(ReceiptsOwed, match="let the webhook write"):  # noqa: PT012 - whichever is one too many
        for generation in range(1, 52):
            scene.deliver(dataclasses.replace(request(generation), by="\u732b" * 1000, reason="\u732b" * 1000))
            with contextlib.suppress(BucketUnavailable):
                scene.look_until_finished()
    monkeypatch.undo()
    scene.look_until_finished()
    assert set(scene.outcomes().values()) == {"served"}


def test_what_is_refused_when_its_turn_comes_is_told(scene: Scene) -> None:
    scene.serve(1)
    scene.cluster.fates |= {"2": pods.starting, "3": pods.starting}
    for generation in (2, 3, 4):
        scene.deliver(request(generation))
    assert scene.deployed().waiting == request(4)
    scene.cluster.others["Service", "home-store"]["metadata"]["labels"] = {"app": "theirs"}
    scene.cluster.fates["3"] = pods.ready
    scene.notifier.failure = NotifyUnavailable("not now")
    with pytest.raises(NotifyUnavailable):
        scene.look_until_finished()
    scene.notifier.failure = None
    scene.look_until_finished()
    assert scene.outcomes() == {4: "rejected", 3: "served", 2: "superseded", 1: "served"}
    (notice,) = scene.notifier.notices
    assert (notice.event, notice.generation, notice.code) == ("rejected", 4, "document-malformed")
