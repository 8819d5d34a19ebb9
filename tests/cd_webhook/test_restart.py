"""A webhook that is killed at any step, and one that takes over."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest

from cd_webhook.state import Rollout
from manifests import metadata as marks
from model_repository.errors import BucketUnavailable
from tests.cd_webhook import fake_cluster as pods
from tests.cd_webhook.webhook_scene import Scene, request


class Killed(BaseException):
    """The process is gone; nothing catches this."""


class Mortal:
    """Passes calls on, until it is its turn to die: just before the call takes effect, or just after."""

    def __init__(self, inner: object, death: Death) -> None:
        self._inner = inner
        self._death = death

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if not callable(found):
            return found

        def call(*arguments: Any, **options: Any) -> Any:
            self._death.knock()
            result = found(*arguments, **options)
            self._death.knock()
            return result

        return call


class Death:
    """Comes at the `step`-th knock."""

    def __init__(self, step: int) -> None:
        self._left = step

    def knock(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise Killed


def run(scene: Scene, step: int, generation: int) -> bool:
    """A webhook that dies at `step`; True if it lived to the end."""
    death = Death(step)
    mortal = scene.webhook(Mortal(scene.cluster, death), Mortal(scene.store, death))
    with contextlib.suppress(Killed):
        scene.deliver(request(generation), mortal)
        scene.look_until_finished(mortal)
        return True
    return False


def resume(scene: Scene, generation: int) -> None:
    """The next process: it looks at what is unfinished, and the sender, who got no answer, tries again."""
    heir = scene.webhook()
    for deployment in scene.cluster.deployments():
        for _ in range(3):
            heir.advance(deployment["metadata"]["name"])
    scene.deliver(request(generation), heir)
    scene.look_until_finished(heir)


def every_step(prepare: Callable[[Scene], None], generation: int) -> list[Scene]:
    """One scene for each step at which the webhook can be killed, after another one has resumed."""
    scenes: list[Scene] = []
    for step in range(200):
        scene = Scene()
        prepare(scene)
        lived = run(scene, step, generation)
        resume(scene, generation)
        scenes.append(scene)
        if lived:
            return scenes
    pytest.fail("it never got to the end")


def test_killed_at_any_step_of_a_good_rollout_it_is_finished_with_exactly_one_receipt() -> None:
    scenes = every_step(lambda scene: scene.serve(1), 2)
    assert len(scenes) > 12
    for scene in scenes:
        assert scene.outcomes() == {2: "served", 1: "served"}
        assert (scene.deployed().rollout, scene.deployed().owed) == (Rollout.SERVED, ())
        assert [generation for generation, _ in scene.cluster.history] == sorted(g for g, _ in scene.cluster.history)


def test_killed_at_any_step_of_the_first_rollout_ever_it_is_finished() -> None:
    for scene in every_step(lambda _: None, 1):
        assert scene.outcomes() == {1: "served"}


def test_killed_at_any_step_of_a_bad_rollout_it_is_undone_with_the_reason_in_its_one_receipt() -> None:
    def prepare(scene: Scene) -> None:
        scene.serve(1)
        scene.cluster.fates["2"] = pods.ended(65, "shuffled ids")

    for scene in every_step(prepare, 2):
        assert scene.outcomes() == {2: "undone", 1: "served"}
        assert "shuffled ids" in scene.receipt(2).detail
        live = scene.cluster.deployment("home-store")
        assert live is not None
        assert live["spec"]["template"]["metadata"]["annotations"][marks.COMMIT_GENERATION] == "1"


def test_killed_at_any_step_of_replacing_a_rollout_both_get_their_receipt() -> None:
    def prepare(scene: Scene) -> None:
        scene.serve(1)
        scene.cluster.fates["2"] = pods.starting
        scene.deliver(request(2))

    for scene in every_step(prepare, 3):
        assert scene.outcomes() == {3: "served", 2: "superseded", 1: "served"}


def test_while_the_bucket_takes_no_writes_the_rollout_goes_on_and_its_receipts_are_owed() -> None:
    scene = Scene()
    scene.serve(1)

    class ReadOnly:
        bucket = "memory"
        stat = scene.store.stat

        def write(self, name: str, *_: object, **__: object) -> None:
            raise BucketUnavailable(f"{name}: down")

    poor = scene.webhook(store=ReadOnly())  # type: ignore[arg-type]
    assert scene.deliver(request(2), poor).outcome == "accepted"
    with pytest.raises(BucketUnavailable):
        scene.look_until_finished(poor)
    assert scene.deployed().rollout is Rollout.SERVED
    assert [receipt.generation for receipt in scene.deployed().owed] == [2]
    assert scene.deliver(request(3), poor).outcome == "accepted"
    again = scene.webhook().deliver(request(2))  # a duplicate, while the word that it served is on its way
    assert (again.outcome, again.detail) == ("already-deployed", "commit 2: served: indexes/home-store/b2 serves")
    scene.look_until_finished()
    assert scene.outcomes() == {3: "served", 2: "served", 1: "served"}
