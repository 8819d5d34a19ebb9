"""A sweep looks at every commit, which repairs lost events."""

from __future__ import annotations

import pytest

from model_repository.errors import BucketUnavailable
from model_repository.names import Target
from model_repository.repository import write_receipt
from tests import builds
from tests.on_commit.scene import HOME, Scene


def test_a_sweep_finds_the_commit_whose_event_was_lost(scene: Scene) -> None:
    garden = Target("production", "garden")
    scene.publish("b1")
    scene.publish(index="garden")
    scene.commit()
    scene.commit(target=garden)
    scene.store.write("commits/staging/Not_A_Commit.json", b"", if_generation_match=0)
    scene.sweep()
    assert {request.target for request in scene.webhook.asked} == {HOME, garden}


def test_a_sweep_is_quiet_about_what_was_refused_before(scene: Scene) -> None:
    scene.commit("nowhere")
    scene.look()
    scene.sweep()
    scene.sweep()
    assert len(scene.notifier.refusals) == 1


def test_a_sweep_refuses_what_nobody_has_refused_yet(scene: Scene) -> None:
    generation = scene.commit("nowhere")
    scene.sweep()
    scene.refusal(generation)


def test_one_target_in_trouble_does_not_stop_the_sweep_but_brings_it_back(scene: Scene) -> None:
    for index in ("garden", "home", "office"):
        scene.publish(index=index)
        scene.commit(target=Target("staging", index))
    scene.store.fail = lambda _kind, name: BucketUnavailable("503") if name == "indexes/home/b1/" else None
    with pytest.raises(BucketUnavailable):
        scene.sweep()
    assert [request.target.index for request in scene.webhook.asked] == ["garden", "office"]


def test_a_sweep_asks_again_for_what_serves_and_hears_that_all_is_well(scene: Scene) -> None:
    scene.publish()
    generation = scene.commit()
    scene.look()
    write_receipt(scene.store, builds.receipt(generation))
    scene.sweep()
    assert len(scene.webhook.asked) == 2
    assert "already-deployed" in scene.stream.getvalue()
