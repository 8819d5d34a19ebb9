"""What people and clusters do to a Deployment, on a real API server: named, and not silently undone."""

from __future__ import annotations

import io
import json

import pytest

from cd_webhook.check import LEAST_KUBERNETES
from cd_webhook.cluster import ClusterRefused
from cd_webhook.cluster.kubernetes import KubernetesCluster
from local_stack.demo.sabotage import shuffle_item_ids
from model_repository.telemetry.log import Log
from tests.kubernetes.installation import NAMESPACE
from tests.kubernetes.kube import until
from tests.kubernetes.node_scene import INDEX, Scene, unbroken

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(300)]


def test_what_kubectl_rollout_undo_puts_back_serves_on_and_a_commit_in_flight_gets_its_receipt(scene: Scene) -> None:
    scene.settled(scene.build)
    with scene.asking(INDEX) as client:
        newest = scene.serve(scene.copy("good"))
        scene.kube.kubectl("-n", NAMESPACE, "rollout", "undo", f"deployment/{INDEX}")
        until(lambda: scene.status(INDEX)["rollout"] == "rewound", "the webhook to see it")
        scene.alone(INDEX)
        assert scene.receipt(INDEX, newest).outcome == "served"  # it did
        scene.stand_ins(f"/deliver-again/commits/production/{INDEX}.json", act=True)
        assert scene.status(INDEX)["requested"] == {"generation": str(newest)}
        assert "kubectl rollout undo" in scene.status(INDEX)["detail"]
        flying = scene.commit(scene.copy("shuffled", change=shuffle_item_ids))
        until(lambda: scene.pods(INDEX, flying), "the new pod")
        scene.kube.kubectl("-n", NAMESPACE, "rollout", "undo", f"deployment/{INDEX}")
        assert scene.receipt(INDEX, flying).code in {"rewound-by-hand", "pod-refused-data"}
        assert scene.serve(scene.build) != flying
        scene.alone(INDEX)
    unbroken(client.traffic)


def test_a_foreign_service_and_a_foreign_canary_stay_as_they_are(scene: Scene) -> None:
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "theirs", "namespace": NAMESPACE}}
    service["spec"] = {"selector": {"app": "theirs"}, "ports": [{"port": 7000}]}
    pod = {"metadata": {"labels": {"app": "theirs"}}, "spec": {"containers": [{"name": "c", "image": "localhost/x:1"}]}}
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment"}
    deployment["metadata"] = {"name": f"{INDEX}.canary", "namespace": NAMESPACE}  # type: ignore[assignment]
    deployment["spec"] = {"replicas": 0, "selector": {"matchLabels": {"app": "theirs"}}, "template": pod}  # type: ignore[assignment]
    scene.kube.apply(service, deployment)

    def seen() -> list[object]:
        found = scene.kube.kubectl("-n", NAMESPACE, "get", "service/theirs", "-o", "json")
        canary = scene.kube.deployment(NAMESPACE, f"{INDEX}.canary")
        assert canary
        return [json.loads(found)["spec"], canary["spec"], canary["metadata"]["uid"]]

    before = seen()
    refused = scene.receipt("theirs", scene.commit(scene.copy("good", "theirs")))
    assert refused.outcome == "rejected"
    assert "Service theirs: isn't managed by indexpush" in refused.detail
    scene.serve(scene.build)
    assert seen() == before
    scene.kube.kubectl("-n", NAMESPACE, "delete", "service/theirs", f"deployment/{INDEX}.canary")


def test_a_scale_and_a_pause_by_hand_are_kept_and_named(scene: Scene) -> None:
    scene.settled(scene.build)
    scene.kube.kubectl("-n", NAMESPACE, "scale", f"deployment/{INDEX}", "--replicas=2")
    until(lambda: scene.deployment(INDEX)["status"].get("availableReplicas") == 2, "two pods", 90)
    generation = scene.commit(scene.build)
    receipt = scene.receipt(INDEX, generation)
    assert receipt.detail.endswith("scaled by hand to 2 pods, where the values say 1")
    scene.kube.kubectl("-n", NAMESPACE, "scale", f"deployment/{INDEX}", "--replicas=1")
    scene.alone(INDEX)
    scene.kube.kubectl("-n", NAMESPACE, "rollout", "pause", f"deployment/{INDEX}")
    assert scene.status(INDEX)["drift"] == ["paused: added: True"]
    waiting = scene.commit(scene.build)
    until(lambda: "paused the Deployment" in scene.status(INDEX)["detail"], "the pause to be named")
    scene.kube.kubectl("-n", NAMESPACE, "rollout", "resume", f"deployment/{INDEX}")
    assert scene.receipt(INDEX, waiting).outcome == "served"
    scene.alone(INDEX)


def test_additions_are_drift_and_a_deployment_that_is_being_deleted_is_waited_for(scene: Scene) -> None:
    prefix = scene.copy("good", "leaving")
    scene.serve(prefix)
    assert scene.status("leaving")["drift"] == []
    team = {"spec": {"template": {"metadata": {"annotations": {"team": "x"}}}}}
    scene.kube.kubectl("-n", NAMESPACE, "patch", "deployment/leaving", "--type=merge", "-p", json.dumps(team))
    assert scene.status("leaving")["drift"] == ["template.metadata.annotations.team: added: 'x'"]
    held = {"metadata": {"finalizers": ["example.com/held"]}}
    scene.kube.kubectl("-n", NAMESPACE, "patch", "deployment/leaving", "--type=merge", "-p", json.dumps(held))
    scene.kube.kubectl("-n", NAMESPACE, "delete", "deployment/leaving", "--wait=false")
    generation = scene.commit(prefix)

    def answered() -> bool:
        found = [each for each in scene.stand_ins("/attempts") if each["generation"] == str(generation)]
        return any(attempt["status"] == 503 for attempt in found)

    until(answered, "the function to hear that it may pass")
    free = {"metadata": {"finalizers": None}}
    scene.kube.kubectl("-n", NAMESPACE, "patch", "deployment/leaving", "--type=merge", "-p", json.dumps(free))
    assert scene.receipt("leaving", generation).outcome == "served"
    budget = json.loads(scene.kube.kubectl("-n", NAMESPACE, "get", "poddisruptionbudget/leaving", "-o", "json"))
    assert budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
    assert budget["metadata"]["ownerReferences"][0]["kind"] == "Deployment"
    scene.kube.kubectl("-n", NAMESPACE, "delete", "deployment/leaving", "service/leaving")
    budgets = f"/apis/policy/v1/namespaces/{NAMESPACE}/poddisruptionbudgets"
    until(
        lambda: "leaving" not in {each["metadata"]["name"] for each in scene.kube.api.get(budgets)["items"]},
        "the budget to go with its Deployment",
    )


def test_a_field_that_the_api_server_does_not_know_is_refused_by_name(scene: Scene) -> None:
    cluster = KubernetesCluster(scene.kube.api, NAMESPACE, Log(stream=io.StringIO()))
    assert (cluster.version() or (0, 0)) >= LEAST_KUBERNETES
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "unknown", "namespace": NAMESPACE}}
    service["spec"] = {"ports": [{"port": 80}], "fieldOfTheNextRelease": 1}
    with pytest.raises(ClusterRefused, match="fieldOfTheNextRelease"):
        cluster.create(service)
    with pytest.raises(ClusterRefused, match="fieldOfTheNextRelease"):
        cluster.apply(service, resource_version=None)
    assert cluster.read("Service", "unknown") is None
