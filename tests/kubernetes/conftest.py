"""A cluster with everything in it, once for all tests; each test works on an index, or in a namespace, of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kubernetes.kube import Kube
from tests.kubernetes.node_scene import Scene, install_scene


@pytest.fixture(scope="session")
def kubeconfig() -> Path:
    if not os.environ.get("KUBECONFIG"):
        pytest.fail("no cluster: run ./noxw -s kubernetes, which starts one, or set KUBECONFIG (see lab/README.md)")
    return Path(os.environ["KUBECONFIG"])


@pytest.fixture(scope="session")
def kube(kubeconfig: Path) -> Kube:
    return Kube(kubeconfig)


@pytest.fixture(scope="session")
def scene(kube: Kube, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with install_scene(kube, tmp_path_factory.mktemp("kubernetes")) as scene:
        yield scene
