"""What counts as changed by hand, and when that is known."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from cd_webhook.cluster import Object
from cd_webhook.rules.drift import changes
from cd_webhook.state import Rollout
from cd_webhook.status import describe_one
from manifests.render import render
from tests.cd_webhook import fake_cluster as pods
from tests.cd_webhook.canary_scene import CANARY
from tests.cd_webhook.webhook_scene import Scene, request, values

Spec = dict[str, Any]


@pytest.fixture
def spec() -> Spec:
    found: Spec = render(request(1), values()).deployment["spec"]
    return found


def live(spec: Spec, change: Callable[[Spec], None]) -> Spec:
    value = copy.deepcopy(spec)
    change(value)
    return value


def server(spec: Spec) -> Spec:
    found: Spec = spec["template"]["spec"]["containers"][0]
    return found


CHANGES: list[tuple[Callable[[Spec], Any], str]] = [
    (lambda s: server(s).update(image="x:2"), "containers[search-server].image: 'indexpush:1' was applied"),
    (lambda s: server(s)["env"].append({"name": "DEBUG", "value": "1"}), "env[DEBUG]: added"),
    (lambda s: server(s)["env"].pop(0), "env[DATA]: was applied, is gone"),
    (lambda s: s["template"]["spec"]["volumes"][0].update(hostPath={"path": "/"}), "volumes[data].hostPath: added"),
    (lambda s: s["template"]["spec"]["volumes"].append({"name": "x", "emptyDir": {}}), "volumes[x]: added"),
    (lambda s: server(s)["securityContext"].update(readOnlyRootFilesystem=False), "readOnlyRootFilesystem: True"),
    (lambda s: server(s)["securityContext"]["capabilities"].update(drop=[]), "drop: ['ALL'] was applied"),
    (lambda s: server(s).update(command=["sh"]), "command"),
    (lambda s: s.update(replicas=5), "replicas: 1 was applied, 5 is there"),
    (lambda s: s["template"]["spec"].update(automountServiceAccountToken=True), "automountServiceAccountToken"),
]


@pytest.mark.parametrize(("change", "said"), CHANGES, ids=[said for _, said in CHANGES])
def test_what_a_person_changed_is_drift(change: Callable[[Spec], Any], said: str, spec: Spec) -> None:
    found = changes(spec, live(spec, change))
    assert len(found) == 1
    assert said in found[0]


def drift_by_hand(scene: Scene) -> tuple[list[str], list[str]]:
    """What is told before somebody changes the image, and after."""

    def change(found: Object) -> None:
        found["spec"]["template"]["spec"]["containers"][0]["image"] = "mine:2"

    told = []
    for act in (lambda: None, lambda: scene.cluster.by_hand("home-store", change)):
        act()
        status = describe_one(scene.cluster, "test", "home-store")
        assert status is not None
        told.append(status["drift"])
    return told[0], told[1]


CHANGED = ["template.spec.containers[search-server].image: 'indexpush:1' was applied, 'mine:2' is there"]


def test_drift_is_told_after_an_undo_which_applies_what_served(scene: Scene) -> None:
    scene.serve(1)
    scene.cluster.fates["2"] = pods.ended(65)
    scene.serve(2)
    assert scene.outcomes() == {1: "served", 2: "undone"}
    assert scene.deployed().unfinished  # so the next sweep has it looked at
    scene.delivery.advance("home-store")
    assert not scene.deployed().unfinished
    assert drift_by_hand(scene) == ([], CHANGED)


def test_drift_is_told_while_a_canary_goes_on(scene: Scene) -> None:
    scene.serve(1)
    scene.configure(values(CANARY))
    scene.deliver(request(2))
    scene.delivery.advance("home-store")
    assert scene.deployed().rollout is Rollout.CANARY
    assert drift_by_hand(scene) == ([], CHANGED)
