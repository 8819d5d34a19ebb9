"""All replicas of the webhook are killed with SIGKILL in a rollout: the next ones finish it, or undo it."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from cd_webhook.state.annotations import RECEIPTS_OWED, ROLLOUT
from local_stack.demo.sabotage import shuffle_item_ids
from manifests import metadata as marks
from tests.kubernetes.installation import NAMESPACE, WEBHOOK
from tests.kubernetes.kube import Object, processes_of, until
from tests.kubernetes.node_scene import INDEX, Scene, unbroken

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(300)]


Step = Callable[[Scene, int], bool]


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
    """The pod's server runs. One that gives up within a second may never be reported as running: its process counts."""
    pods = scene.pods(INDEX, generation)
    return any("running" in _container(pod, "containerStatuses") or processes_of(pod, b"search_server") for pod in pods)


def decided(scene: Scene, generation: int) -> bool:
    """The Deployment says how it ended; its receipt may be owed still."""
    return began(scene, generation) and annotation(scene, ROLLOUT) != "in-progress"


def _container(pod: Object, kind: str) -> Object:
    return next((status.get("state") or {} for status in pod["status"].get(kind, [])), {})


STEPS = [(at_once, True), (taken_up, True), (pulling, True), (proving, True), (decided, True)]
STEPS += [(taken_up, False), (proving, False), (decided, False)]


@pytest.mark.parametrize(("step", "good"), STEPS, ids=lambda one: getattr(one, "__name__", "good" if one else "bad"))
def test_killed_at_this_step_the_rollout_ends_with_exactly_one_receipt(scene: Scene, step: Step, good: bool) -> None:
    before = scene.settled(scene.build)
    prefix = scene.copy("mortal") if good else scene.copy("shuffled", change=shuffle_item_ids)
    with scene.asking(INDEX) as client:
        generation = scene.commit(prefix)
        until(lambda: step(scene, generation), f"the step at which to kill: {step.__name__}")
        scene.kube.kill(scene.webhooks())
        receipt = scene.receipt(INDEX, generation, 120.0)
        assert receipt.outcome == ("served" if good else "undone"), receipt.detail
        scene.alone(INDEX)
    unbroken(client.traffic)
    time.sleep(1)  # whoever would write a second receipt
    assert scene.times_written(INDEX, generation) == 1
    # killed between the receipt and crossing it off, the next webhook does that once it is up
    until(lambda: annotation(scene, RECEIPTS_OWED) == "[]", "the receipt to be crossed off")
    assert int(scene.search(INDEX).status()["generation"]) == (generation if good else before)
    scene.kube.rolled_out(NAMESPACE, WEBHOOK)
