"""An overlay of kustomize/, filled in as a user would, brings up a webhook that runs by its own values."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from manifests import metadata as marks
from tests.kubernetes.installation import BUCKET, ROOT, TOKEN, WEBHOOK, WEBHOOK_IMAGE, namespace
from tests.kubernetes.kube import Kube, Object, until
from tests.kubernetes.node_scene import Scene

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(300)]

NAMESPACE = "indexpush-staging"


@pytest.fixture
def overlay(scene: Scene, tmp_path: Path) -> Iterator[Path]:
    """A copy of the repository's folders, with image and bucket filled in, and the Secret in its namespace."""
    shutil.copytree(ROOT / "kustomize", tmp_path / "kustomize")
    shutil.copytree(ROOT / "manifests" / "webhook", tmp_path / "manifests" / "webhook")
    folder = tmp_path / "kustomize" / "overlays" / "staging"
    file = folder / "kustomization.yaml"
    image, _, tag = WEBHOOK_IMAGE.rpartition(":")
    storage = f"{{name: STORAGE_EMULATOR_HOST, value: '{os.environ['STORAGE_EMULATOR_HOST']}'}}"
    bucket = "{name: MODEL_REPOSITORY, value: gs://BUCKET}"
    text = file.read_text()
    for was, now in (
        ("newName: indexpush-cd-webhook ", f"newName: {image} "),
        ("newTag: 0.1.0", f"newTag: {tag}"),
        (f"- {bucket}", f"- {bucket.replace('BUCKET', BUCKET)}\n                  - {storage}"),
    ):
        assert was in text
        text = text.replace(was, now)
    file.write_text(text)
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": WEBHOOK, "namespace": NAMESPACE}}
    scene.kube.apply(namespace(NAMESPACE))
    scene.kube.apply(secret | {"stringData": {"token": TOKEN}})
    yield folder
    scene.kube.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def webhooks(kube: Kube, running_by: str = "") -> list[Object]:
    """The webhook's pods that aren't leaving; running_by: the ConfigMap that they mount."""
    found = kube.pods(NAMESPACE, {marks.NAME: WEBHOOK})
    mounted = [pod["spec"]["volumes"][0]["configMap"]["name"] for pod in found]
    return [
        pod
        for pod, values in zip(found, mounted, strict=True)
        if not pod["metadata"].get("deletionTimestamp") and running_by in ("", values)
    ]


def values_of(kube: Kube) -> str:
    live = kube.deployment(NAMESPACE, WEBHOOK)
    assert live
    return str(live["spec"]["template"]["spec"]["volumes"][0]["configMap"]["name"])


def test_an_overlay_is_applied_and_other_values_are_new_pods_of_the_webhook(scene: Scene, overlay: Path) -> None:
    kube = scene.kube
    kube.kubectl("apply", "--server-side", "-k", str(overlay))
    kube.rolled_out(NAMESPACE, WEBHOOK)
    first = values_of(kube)
    checked = kube.kubectl(
        "-n", NAMESPACE, "exec", f"deployment/{WEBHOOK}", "--", "python", "-m", "cd_webhook", "--check"
    )
    named = ["values", "bucket", "topic", "cluster", "rights", "manifests"]
    assert [line.split()[:2] for line in checked.splitlines()] == [["ok", f"{name}:"] for name in named], checked
    assert f"namespace {NAMESPACE}" in checked

    values = overlay / "staging.yaml"
    values.write_text(values.read_text().replace("replicas: 1", "replicas: 2"))
    kube.kubectl("apply", "--server-side", "-k", str(overlay))
    kube.rolled_out(NAMESPACE, WEBHOOK)
    second = values_of(kube)
    assert first != second
    until(lambda: len(webhooks(kube)) == len(webhooks(kube, second)) == 2, "pods that mount the new values alone")
    policies = kube.api.get(f"/apis/networking.k8s.io/v1/namespaces/{NAMESPACE}/networkpolicies")["items"]
    assert {each["metadata"]["name"] for each in policies} == {
        *("indexpush-metrics", "indexpush-nobody"),
        *("indexpush-search", "indexpush-webhook"),
    }
