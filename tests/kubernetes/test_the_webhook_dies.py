"""The webhook is killed with SIGKILL in the middle of a rollout, all replicas of it: the next ones finish or undo it."""

from __future__ import annotations

import time

import pytest
from installation import NAMESPACE, WEBHOOK
from kube import Object, until
from node_scene import INDEX, Scene, unbroken

from local_stack.demo.sabotage import shuffle_item_ids
from manifests import annotations as marks

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(300)]


def annotation(scene: Scene, mark: str) -> str:
    return str(scene.deployment(INDEX)["metadata"]["annotations"].get(mark, ""))


def began(scene: Scene, generation: int) -> bool:
    return annotation(scene, marks.COMMIT_GENERATION) == str(generation)


def at_once(_scene: Scene, _generation: int) -> bool:
    """Perhaps before the event has arrived: the function must try again."""
    return True


def taken_up(scene: Scene, generation: int) -> bool:
    return began(scene, generation)


def pulling(scene: Scene, generation: int) -> bool:
    return any(_container(pod, "initContainerStatuses") for pod in scene.pods(INDEX, generation))


def proving(scene: Scene, generation: int) -> bool:
    return any("running" in _container(pod, "containerStatuses") for pod in scene.pods(INDEX, generation))


def decided(scene: Scene, generation: int) -> bool:
    """The Deployment says how it ended; its receipt may be owed still."""
    return began(scene, generation) and annotation(scene, marks.ROLLOUT) != "in-progress"


def _container(pod: Object, kind: str) -> Object:
    return next((status.get("state") or {} for status in pod["status"].get(kind, [])), {})


@pytest.mark.parametrize("step", [at_once, taken_up, pulling, proving, decided])
@pytest.mark.parametrize("good", [True, False], ids=["good-build", "bad-build"])
def test_killed_at_this_step_the_rollout_ends_with_exactly_one_receipt(scene: Scene, step: object, good: bool) -> None:
    before = scene.settled(scene.build)
    prefix = scene.copy("mortal") if good else scene.copy("shuffled", change=shuffle_item_ids)
    with scene.asking(INDEX) as client:
        generation = scene.commit(prefix)
        until(lambda: step(scene, generation), f"the step at which to kill: {step}")  # type: ignore[operator]
        scene.kube.kill(scene.webhooks())
        receipt = scene.receipt(INDEX, generation, 120.0)
        assert receipt.outcome == ("served" if good else "undone"), receipt.detail
        scene.alone(INDEX)
    unbroken(client.traffic)
    time.sleep(1)  # whoever would write a second receipt
    assert scene.times_written(INDEX, generation) == 1
    assert annotation(scene, marks.RECEIPTS_OWED) == "[]"
    assert int(scene.search(INDEX).status()["generation"]) == (generation if good else before)
    scene.kube.rolled_out(NAMESPACE, WEBHOOK)
