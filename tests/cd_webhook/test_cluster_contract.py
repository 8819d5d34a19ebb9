"""One contract, every cluster: in memory, and the local stack's over HTTP."""

from __future__ import annotations

import dataclasses
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cd_webhook.cluster import Cluster, ClusterUnavailable, Object
from cd_webhook.cluster.api import KubernetesApi
from cd_webhook.cluster.kubernetes import KubernetesCluster
from local_stack.webhook_cluster import LocalCluster
from manifests.render import render
from model_repository.telemetry.log import Log
from tests.cd_webhook import cluster_contract
from tests.cd_webhook.fake_cluster import FakeCluster
from tests.cd_webhook.webhook_scene import request, values

RUN = f"{int(time.time()) % 100_000:05}"
NAMESPACE = f"indexpush-contract-{RUN}"


def make(name: str, generation: int) -> tuple[Object, Object]:
    rendered = render(request(generation, index=name), values())
    return rendered.deployment, rendered.service


@pytest.fixture(scope="module")
def local_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """The local stack's cluster, as a process of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tmp_path_factory.mktemp("cluster")
    command = [sys.executable, "-m", "local_stack.cluster", "--port", str(port), "--state", str(folder)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    cluster = LocalCluster(f"http://127.0.0.1:{port}")
    try:
        end = time.monotonic() + 60
        while True:
            try:
                cluster.deployments()
                break
            except ClusterUnavailable:
                assert time.monotonic() < end, (folder / "log").read_text()
                time.sleep(0.1)
        yield cluster
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


@pytest.mark.parametrize("check", cluster_contract.CHECKS, ids=lambda check: check.__name__)
def test_in_memory(check: Callable[..., None]) -> None:
    check(FakeCluster(), make, "home-store")


@pytest.mark.parametrize(
    "check", [*cluster_contract.CHECKS, *cluster_contract.REFUSALS], ids=lambda check: check.__name__
)
def test_the_local_stack(check: Callable[..., None], local_stack: Cluster) -> None:
    check(local_stack, make, check.__name__.replace("_", "-")[:40].strip("-"))


@pytest.fixture(scope="module")
def kubernetes() -> Iterator[KubernetesCluster]:
    """The cluster that KUBECONFIG names, in a namespace that is made for these tests, and goes with them."""
    kubeconfig = os.environ.get("KUBECONFIG")
    if not kubeconfig:
        pytest.skip("KUBECONFIG names no cluster; ./noxw -s kubernetes runs these on a node of its own")
    api = KubernetesApi.connect(Path(kubeconfig))
    api.post("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    # without it the cluster refuses to make pods, and nobody but an event says so
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": values().service_account}}
    api.post(f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts", account)
    yield KubernetesCluster(api, NAMESPACE, Log())
    api.delete(f"/api/v1/namespaces/{NAMESPACE}", {"propagationPolicy": "Background"})


@pytest.mark.kubernetes
@pytest.mark.parametrize(
    "check", [*cluster_contract.CHECKS, *cluster_contract.REFUSALS], ids=lambda check: check.__name__
)
def test_a_real_kubernetes(check: Callable[..., None], kubernetes: Cluster) -> None:
    def make_here(name: str, generation: int) -> tuple[Object, Object]:
        chosen = dataclasses.replace(values(), namespace=NAMESPACE)
        rendered = render(request(generation, index=name), chosen)
        return rendered.deployment, rendered.service

    check(kubernetes, make_here, f"c{RUN}-{check.__name__.replace('_', '-')[:28]}".strip("-"))


def test_a_cluster_that_does_not_answer_may_pass() -> None:
    with pytest.raises(ClusterUnavailable, match="no answer from the local cluster"):
        LocalCluster("http://127.0.0.1:9").deployments()
