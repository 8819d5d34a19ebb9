"""What `kubectl describe` tells of a Deployment: each verdict once, and never at the cost of one."""

from __future__ import annotations

import pytest

from model_repository.errors import TransientError
from tests.cd_webhook import fake_cluster as pods
from tests.cd_webhook.webhook_scene import Scene, request


def test_each_verdict_is_told_once_of_the_deployment_with_the_pods_own_reason() -> None:
    scene = Scene()
    scene.serve(1)
    scene.cluster.fates["2"] = pods.ended(65, "the index is malformed")
    scene.serve(2)
    told = [(name, reason, warning) for name, reason, _, warning in scene.cluster.notes]
    assert told == [("home-store", "IndexServed", False), ("home-store", "IndexUndone", True)]
    assert "as commit 2: " in scene.cluster.notes[1][2]
    assert "the index is malformed" in scene.cluster.notes[1][2]
    scene.look_until_finished()
    assert len(scene.cluster.notes) == 2


def test_a_webhook_that_dies_between_receipt_and_event_leaves_the_event_to_the_next_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Died(BaseException):
        pass

    def dies(*_: object, **__: object) -> None:
        raise Died

    scene = Scene()
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(scene.cluster, "note", dies)
        with pytest.raises(Died):
            scene.serve(1)
    assert scene.outcomes() == {1: "served"}
    scene.look_until_finished(scene.webhook())
    assert [reason for _, reason, _, _ in scene.cluster.notes] == ["IndexServed"]


def test_a_cluster_that_takes_no_events_changes_no_verdict() -> None:
    scene = Scene()

    def refused(*_: object, **__: object) -> None:
        raise TransientError("events are forbidden")

    scene.cluster.note = refused  # type: ignore[method-assign]
    scene.serve(1)
    assert scene.outcomes() == {1: "served"}
    assert "no Event" in scene.lines.getvalue()
    scene.deliver(request(2))
    scene.look_until_finished()
    assert scene.outcomes()[2] == "served"
