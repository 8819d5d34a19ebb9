"""What counts as changed by hand, and what Kubernetes does by itself."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from cd_webhook.rules.drift import differences
from manifests.render import render
from tests.cd_webhook.webhook_scene import request, values

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


def test_what_kubernetes_fills_in_and_rewrites_is_no_drift(spec: Spec) -> None:
    def as_kubernetes_does(value: Spec) -> None:
        value.pop("minReadySeconds")
        pod = value["template"]["spec"]
        pod |= {"restartPolicy": "Always", "dnsPolicy": "ClusterFirst", "schedulerName": "default-scheduler"}
        server(value)["resources"]["limits"]["memory"] = "300Mi"
        server(value)["livenessProbe"] |= {"successThreshold": 1}
        server(value)["livenessProbe"]["httpGet"]["scheme"] = "HTTP"

    assert differences(spec, live(spec, as_kubernetes_does)) == []


def test_another_way_to_write_a_quantity_is_no_drift() -> None:
    assert differences({"memory": "2048Mi", "cpu": "1000m"}, {"memory": "2Gi", "cpu": "1"}) == []
    assert differences({"memory": "2048Mi"}, {"memory": "3Gi"}) != []


def test_replicas_that_were_never_applied_are_no_drift(spec: Spec) -> None:
    spec.pop("replicas")
    assert differences(spec, live(spec, lambda value: value.update(replicas=7))) == []


CHANGES: list[tuple[Callable[[Spec], Any], str]] = [
    (lambda s: server(s).update(image="x:2"), "containers[search-server].image: 'indexpush:1' was applied"),
    (lambda s: server(s)["env"].append({"name": "DEBUG", "value": "1"}), "env[DEBUG]: added"),
    (lambda s: server(s)["env"].pop(0), "env[DATA]: was applied, is gone"),
    (lambda s: s["template"]["spec"]["volumes"][0].update(emptyDir=None, hostPath={"path": "/"}), "volumes[data]"),
    (lambda s: s["template"]["spec"]["volumes"].append({"name": "x", "emptyDir": {}}), "volumes[x]: added"),
    (lambda s: server(s)["securityContext"].update(readOnlyRootFilesystem=False), "readOnlyRootFilesystem: True"),
    (lambda s: server(s)["securityContext"]["capabilities"].update(drop=[]), "drop: ['ALL'] was applied"),
    (lambda s: server(s).update(command=["sh"]), "command"),
    (lambda s: s.update(replicas=5), "replicas: 1 was applied, 5 is there"),
    (lambda s: s["template"]["spec"].update(automountServiceAccountToken=True), "automountServiceAccountToken"),
]


@pytest.mark.parametrize(("change", "said"), CHANGES, ids=[said for _, said in CHANGES])
def test_what_a_person_changed_is_drift(change: Callable[[Spec], Any], said: str, spec: Spec) -> None:
    found = differences(spec, live(spec, change))
    assert len(found) == 1
    assert said in found[0]
