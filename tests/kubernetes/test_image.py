"""The one image: small, the same for every index, and nothing is built for a commit."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.kubernetes.installation import SEARCH_IMAGE
from tests.kubernetes.kube import Kube
from tests.kubernetes.node_scene import INDEX, Scene

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(300)]

MOST_MB = 250


def test_without_its_python_base_the_image_is_at_most_250_mb(
    kubeconfig: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    socket = kubeconfig.parent / "containerd.sock"
    if not socket.exists():
        pytest.skip("the node's images are elsewhere")
    index = _content(socket, _digest(socket, SEARCH_IMAGE))
    manifest = index if "layers" in index else _content(socket, index["manifests"][0]["digest"])
    base, *ours = [layer["size"] / 1e6 for layer in manifest["layers"]]
    assert "gzip" not in manifest["layers"][0]["mediaType"]  # sizes as unpacked
    with capsys.disabled():
        print(f"\nthe image is {sum(ours):.0f} MB unpacked, on a Python base of {base:.0f} MB")  # noqa: T201
    assert sum(ours) <= MOST_MB


def test_two_indexes_and_two_commits_run_the_same_image_and_none_is_made_for_them(scene: Scene, kube: Kube) -> None:
    before = _images(kube)
    scene.settled(scene.build)
    other = scene.copy("good", "other")
    scene.serve(other)
    scene.serve(scene.copy("another"))
    ids = {
        status["imageID"]
        for pod in (*scene.pods(INDEX), *scene.pods("other"))
        for kind in ("initContainerStatuses", "containerStatuses")
        for status in pod["status"][kind]
    }
    assert len(ids) == 1
    assert _images(kube) == before


def _images(kube: Kube) -> set[str]:
    nodes = kube.api.get("/api/v1/nodes")["items"]
    return {name for node in nodes for image in node["status"]["images"] for name in image.get("names") or []}


def _digest(socket: Path, image: str) -> str:
    lines = _ctr(socket, "images", "ls", f"name=={image}").splitlines()[1:]
    return next(word for word in lines[0].split() if word.startswith("sha256:"))


def _content(socket: Path, digest: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(_ctr(socket, "content", "get", digest))
    return found


def _ctr(socket: Path, *arguments: str) -> str:
    command = ["ctr", "--address", str(socket), "--namespace", "k8s.io", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
