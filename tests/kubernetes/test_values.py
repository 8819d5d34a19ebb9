"""What values may add to pods, on a real node: a mesh, an authority of one's own, an agent, a volume for each."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from manifests import metadata as marks
from model_repository.names import IndexPrefix
from tests.kubernetes.installation import (
    ENVIRONMENT,
    NAMESPACE,
    SEARCH_IMAGE,
    STAND_INS,
    VALUES,
    WEBHOOK,
    second_webhook,
)
from tests.kubernetes.kube import Kube, Object, processes_of, until
from tests.kubernetes.node_scene import Scene, unbroken
from tests.kubernetes.sidecar import ADDRESS, INJECT, injector

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(300)]

MOUNT = {"name": "authorities", "mountPath": "/etc/authorities", "readOnly": True}
TRUST = {"name": "SSL_CERT_FILE", "value": "/etc/authorities/ca.crt"}
AGENT = {
    "name": "agent",
    "image": SEARCH_IMAGE,
    "command": ["python", "-c", "import time; time.sleep(86400)"],
    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
}
MESHED: dict[str, Any] = {
    "env": {"STORAGE_EMULATOR_HOST": ADDRESS},  # the bucket, by way of the sidecar alone
    "pod_annotations": {INJECT: "true"},
    "pod_patch": {
        "metadata": {"labels": {"mesh.example/rev": "stable"}},
        "spec": {
            "hostAliases": [{"ip": "192.0.2.7", "hostnames": ["storage.example"]}],
            "volumes": [{"name": "authorities", "configMap": {"name": "authorities"}}],
            "initContainers": [{"name": "pull", "env": [TRUST], "volumeMounts": [MOUNT]}],
            "containers": [{"name": "search-server", "env": [TRUST], "volumeMounts": [MOUNT]}, AGENT],
        },
    },
}


def ask(scene: Scene, prefix: IndexPrefix, address: str) -> int:
    """Commit a build, hand it to that webhook, and wait until it serves; gives the generation."""
    generation = scene.upload(prefix)
    assert scene.post(scene.request(prefix, generation), address)["outcome"] == "accepted"
    receipt = scene.receipt(prefix.index, generation, 180.0)
    assert receipt.outcome == "served", receipt.detail
    return generation


@pytest.fixture
def meshed(scene: Scene, authority: tuple[Path, Path]) -> Iterator[str]:
    """A webhook whose pods get a sidecar of admission, and trust its authority."""
    kube = scene.kube
    (webhook,) = kube.pods(NAMESPACE, {marks.NAME: WEBHOOK})[:1]
    if not processes_of(webhook):
        pytest.skip("the node's API server can't reach this process: it isn't on this machine")
    head = {"apiVersion": "v1", "metadata": {"namespace": NAMESPACE}}
    kube.apply(
        _named(head, "ConfigMap", "authorities") | {"data": {"ca.crt": authority[0].read_text()}},
        _named(head, "Secret", "mesh-key") | {"stringData": {"server.pem": authority[1].read_text()}},
    )
    google = kube.service_address(STAND_INS, "google")
    assert google
    with injector(kube, authority, google), second_webhook(kube, "webhook-meshed", MESHED) as address:
        yield address
        kube.kubectl("-n", NAMESPACE, "delete", "deployment", "meshed", "--ignore-not-found", "--wait=false")


def _named(head: Object, kind: str, name: str) -> Object:
    return {**head, "kind": kind, "metadata": {**head["metadata"], "name": name}}


def test_behind_a_mesh_the_pull_waits_for_the_proxy_and_trusts_the_authority_that_values_name(
    scene: Scene, meshed: str
) -> None:
    build = scene.copy("good", "meshed")
    first = ask(scene, build, meshed)
    scene.answers("meshed", first)
    (pod,) = scene.pods("meshed")
    assert [each["name"] for each in pod["spec"]["initContainers"]] == ["mesh-init", "mesh-proxy", "pull"]
    assert [each["name"] for each in pod["spec"]["containers"]] == ["search-server", "agent"]
    assert pod["metadata"]["labels"]["mesh.example/rev"] == "stable"
    assert all(each["ready"] for each in pod["status"]["containerStatuses"])
    logs = scene.kube.kubectl("-n", NAMESPACE, "logs", pod["metadata"]["name"], "-c", "mesh-proxy")
    assert "a connection" in logs
    assert scene.status("meshed")["drift"] == [], "what admission and values added is nobody's change by hand"

    with scene.asking("meshed") as client:  # and a rollout loses no request
        second = ask(scene, build, meshed)
        scene.answers("meshed", second)
        scene.alone("meshed")
    unbroken(client.traffic)


@pytest.fixture
def disks(scene: Scene, tmp_path: Path) -> Iterator[Path]:
    """A storage class, and two disks of this node for it: one for the old pod, one for the new."""
    (webhook,) = scene.kube.pods(NAMESPACE, {marks.NAME: WEBHOOK})[:1]
    if not processes_of(webhook):
        pytest.skip("the node's disks aren't on this machine")
    node = webhook["spec"]["nodeName"]
    there = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
    names = [f"{tmp_path.name.replace('_', '-')}-{number}" for number in range(2)]
    made: list[Object] = [
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {"name": "local-disks"},
            "provisioner": "kubernetes.io/no-provisioner",
            "volumeBindingMode": "WaitForFirstConsumer",
        }
    ]
    for name in names:
        folder = tmp_path / name
        folder.mkdir(mode=0o755)
        made.append(
            {
                "apiVersion": "v1",
                "kind": "PersistentVolume",
                "metadata": {"name": name},
                "spec": {
                    "capacity": {"storage": "1Gi"},
                    "accessModes": ["ReadWriteOnce"],
                    "storageClassName": "local-disks",
                    "local": {"path": str(folder)},
                    "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [there]}]}},
                },
            }
        )
    scene.kube.apply(*made)
    yield tmp_path
    scene.kube.kubectl("-n", NAMESPACE, "delete", "deployment", "on-disks", "--ignore-not-found")
    until(lambda: not scene.pods("on-disks"), "the pods to leave their disks")
    scene.kube.kubectl("delete", "persistentvolume", *names, "--ignore-not-found")
    scene.kube.kubectl("delete", "storageclass", "local-disks")
    for name in names:
        shutil.rmtree(tmp_path / name)


def test_each_pod_gets_a_volume_of_the_class_that_values_name_and_it_goes_with_the_pod(
    scene: Scene, disks: Path
) -> None:
    def claims() -> list[Object]:
        path = f"/api/v1/namespaces/{NAMESPACE}/persistentvolumeclaims"
        return list(scene.kube.api.get(path, labelSelector=f"{marks.INSTANCE}=on-disks")["items"])

    build = scene.copy("good", "on-disks")
    with second_webhook(scene.kube, "webhook-on-disks", {"storage_class": "local-disks"}) as address:
        first = ask(scene, build, address)
        scene.answers("on-disks", first)
        (claim,) = claims()
        (pod,) = scene.pods("on-disks")
        volume = scene.request(build, first).footprint.volume_mib
        assert claim["metadata"]["ownerReferences"][0]["uid"] == pod["metadata"]["uid"]
        assert claim["spec"]["resources"]["requests"] == {"storage": f"{volume + volume // 8 + 64}Mi"}
        pulled = [json.loads(file.read_bytes()) for file in (disks / claim["spec"]["volumeName"]).rglob("index.json")]
        assert [manifest["index"] for manifest in pulled] == ["on-disks"]
        assert scene.status("on-disks")["drift"] == []

        with scene.asking("on-disks") as client:
            second = ask(scene, build, address)
            scene.answers("on-disks", second)
            scene.alone("on-disks")
        unbroken(client.traffic)
        until(lambda: [each["metadata"]["name"] for each in claims()] != [claim["metadata"]["name"]], "its own claim")
        until(lambda: len(claims()) == 1, "the first claim to go with its pod")


def checked(kube: Kube, **values: Any) -> dict[str, str]:
    """What the installed webhook's own --check says of other values; by the first words of each line."""
    (pod,) = kube.pods(NAMESPACE, {marks.NAME: WEBHOOK})[:1]
    folder = "/dev/shm/values"  # all else of a pod is read-only
    script = (
        f"mkdir -p {folder} && cat > {folder}/{ENVIRONMENT}.yaml && "
        f"(ENVIRONMENTS={folder} python -m cd_webhook --check || true)"
    )
    name = pod["metadata"]["name"]
    text = kube.kubectl(
        "-n", NAMESPACE, "exec", "-i", name, "--", "sh", "-c", script, stdin=yaml.safe_dump({**VALUES, **values})
    )
    return {" ".join(line.partition(": ")[0].split()): line.partition(": ")[2] for line in text.splitlines()}


def test_with_the_shipped_role_check_has_the_cluster_try_out_what_values_make(scene: Scene) -> None:
    assert checked(scene.kube, **MESHED)["ok manifests"] == "the cluster takes a Deployment of these values"
    mistyped = {"spec": {"containers": [{**AGENT, "imagee": "x"}]}}
    said = checked(scene.kube, pod_patch=mistyped)
    assert 'unknown field "spec.template.spec.containers[1].imagee"' in said["WRONG manifests"]
    assert scene.kube.deployment(NAMESPACE, "indexpush-check") is None


def test_a_patch_of_the_image_is_refused_by_name(scene: Scene) -> None:
    patch = {"spec": {"containers": [{"name": "search-server", "image": "localhost/busybox:1"}]}}
    said = checked(scene.kube, pod_patch=patch)["WRONG values"]
    assert "pod_patch: spec.containers[search-server].image: the values' `image` names it" in said
