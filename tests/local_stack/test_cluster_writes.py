"""Writes to the local cluster: guarded, waited for, and refused by name."""

from __future__ import annotations

import time

import pytest

from tests.local_stack.cluster_scene import (
    Client,
    deployment,
    set_in,
)

CONTAINER = "spec.template.spec.containers[0]"
FIELD_PATH = f"{CONTAINER}.env[0].valueFrom.fieldRef.fieldPath"


def test_a_write_decided_on_an_older_version_is_a_conflict(cluster: Client) -> None:
    cluster.apply(deployment("guarded"))
    live = cluster.until_served("guarded")
    version = live["metadata"]["resourceVersion"]

    changed = deployment("guarded")
    changed["metadata"]["annotations"]["by"] = "me"
    cluster.apply(changed, version)
    status, answer = cluster.call("PATCH", f"/apply?resourceVersion={version}", deployment("guarded", "3"))

    assert status == 409
    assert answer["reason"] == "Conflict"
    assert cluster.get("/deployments/guarded")["metadata"]["annotations"]["by"] == "me"
    status, _ = cluster.call("PATCH", f"/apply?resourceVersion={version}", deployment("never-there"))
    assert status == 409


def test_applying_the_same_again_changes_nothing(cluster: Client) -> None:
    cluster.apply(deployment("same"))
    before = cluster.until_served("same")

    assert cluster.apply(deployment("same")) == before
    annotated = deployment("same")
    annotated["metadata"]["annotations"]["note"] = "only metadata"
    after = cluster.apply(annotated)
    assert after["metadata"]["generation"] == before["metadata"]["generation"]
    assert after["metadata"]["resourceVersion"] != before["metadata"]["resourceVersion"]
    assert len(cluster.pods("same")) == 1


def test_wait_returns_at_once_when_something_has_changed_and_late_when_not(cluster: Client) -> None:
    cluster.apply(deployment("waiting"))
    version = cluster.until_served("waiting")["metadata"]["resourceVersion"]

    found = cluster.get("/changes?timeout=300&resourceVersion=1")
    assert "waiting" in found["deployments"]
    newest = found["resourceVersion"]
    assert int(newest) >= int(version)
    while True:  # until nothing moves any more
        began = time.monotonic()
        later = cluster.get(f"/changes?timeout=0.3&resourceVersion={newest}")
        if later == {"resourceVersion": newest, "deployments": []}:
            break
        newest = later["resourceVersion"]
    assert time.monotonic() - began > 0.3


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("spec.template.spec.hostNetwork", True, ""),
        ("spec.template.spec.restartPolicy", "Never", ""),
        ("spec.template.spec.volumes[0].hostPath", {"path": "/"}, ""),
        ("spec.replicaz", 1, ""),
        ("spec.replicas", -1, ""),
        ("spec.replicas", "1", ""),
        ("spec.strategy.type", "Recreate", ""),
        ("spec.strategy.rollingUpdate.maxSurge", 0, ""),
        ("spec.strategy.rollingUpdate.maxUnavailable", 1, ""),
        ("metadata.finalizers", ["x"], ""),
        (f"{CONTAINER}.envFrom", [], ""),
        (f"{CONTAINER}.env[0].valueFrom", {"secretKeyRef": {}}, f"{CONTAINER}.env[0].valueFrom.secretKeyRef"),
        (f"{CONTAINER}.command", ["sh", "-c", "true"], ""),
        (f"{CONTAINER}.startupProbe.exec", {"command": ["true"]}, ""),
        (f"{CONTAINER}.startupProbe.httpGet.port", "metrics", ""),
        (f"{CONTAINER}.volumeMounts[0].subPath", "x", ""),
        (f"{CONTAINER}.lifecycle.preStop.exec", {"command": ["sleep", "1"]}, ""),
        ("spec.selector.matchLabels", {"app": "other"}, "spec.selector"),
        ("kind", "DaemonSet", ""),
        ("kind", None, ""),
        ("metadata.name", "Capital", ""),
        ("spec.selector.matchLabels", None, ""),
        ("spec.template.spec.containers", [], ""),
        ("spec.template.spec.initContainers[0].name", "web", "spec.template.spec.containers"),
        ("spec.template.spec.initContainers[0].readinessProbe", {"httpGet": {"port": 1}}, ""),
        (f"{CONTAINER}.command", [], ""),
        (f"{CONTAINER}.env[0].valueFrom", {"fieldRef": {"fieldPath": "spec.hostIP"}}, FIELD_PATH),
        (f"{CONTAINER}.livenessProbe", {"periodSeconds": 1}, f"{CONTAINER}.livenessProbe.httpGet"),
        (f"{CONTAINER}.volumeMounts[0].name", "nowhere", ""),
        (f"{CONTAINER}.volumeMounts[0].mountPath", "/", ""),
    ],
)
def test_what_it_does_not_understand_is_refused_by_name(cluster: Client, path: str, value: object, named: str) -> None:
    status, answer = cluster.call("PATCH", "/apply", set_in(deployment("refused"), path, value))

    assert status == 422
    assert answer["details"]["causes"][0]["field"] == (named or path)
    assert answer["message"].startswith(named or path)
    assert cluster.call("GET", "/deployments/refused")[0] == 404
