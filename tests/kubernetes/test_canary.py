"""Canaries on a real node: promoted without a lost request, aborted when they are worse, whoever dies meanwhile.

The installed webhook's values ask for none; a second webhook in the same namespace has values that do. What goes on is
written on the Deployments, so both watch it.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest

from local_stack.demo import checks
from local_stack.demo.client import Client
from manifests import metadata as marks
from model_repository.documents.receipts.receipt import Receipt
from model_repository.names import IndexPrefix
from tests.kubernetes.installation import NAMESPACE, second_webhook
from tests.kubernetes.kube import Object, processes_of, until
from tests.kubernetes.node_scene import Scene, ready, restarts, unbroken

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(300)]

INDEX = "canaried"
CANARY = marks.canary_name(INDEX)
SECONDS = 10
RULES: dict[str, Any] = {"seconds": SECONDS, "latency_floor_ms": 200}


@dataclass(frozen=True)
class Canaries:
    """An index that serves, and a webhook that tries out what is asked of it."""

    scene: Scene
    prefix: IndexPrefix
    address: str

    def settled(self) -> int:
        """The index serves, and no canary is left; gives the generation."""
        generation = self.scene.settled(self.prefix)
        until(lambda: self.deployment() is None, "the last canary to go")
        return generation

    def deployment(self) -> Object | None:
        return self.scene.kube.deployment(NAMESPACE, CANARY)

    def pods(self, generation: int) -> list[Object]:
        found = self.scene.kube.pods(NAMESPACE, marks.deployment_selector(CANARY))
        return [p for p in found if p["metadata"]["annotations"][marks.COMMIT_GENERATION] == str(generation)]

    def stable(self) -> dict[str, int]:
        return restarts(self.scene.kube.pods(NAMESPACE, marks.deployment_selector(INDEX)))

    def ask(self, address: str | None = None) -> int:
        """Commit the build and ask the webhook for it; gives the generation."""
        generation = self.scene.upload(self.prefix)
        request = self.scene.request(self.prefix, generation)
        answer = self.scene.post(request, address or self.address)
        assert answer["outcome"] == "accepted", answer
        return generation

    def watched(self, generation: int) -> Object:
        """Wait until the canary is ready, so that it is being watched; gives its pod."""
        return until(lambda: next((p for p in self.pods(generation) if ready(p)), None), "a canary that is ready", 90)

    def receipt(self, generation: int) -> Receipt:
        return self.scene.receipt(INDEX, generation, 180.0)

    def gone(self) -> None:
        until(lambda: self.deployment() is None, "the canary to be removed")
        self.scene.alone(INDEX)


@pytest.fixture(scope="module")
def canaries(scene: Scene) -> Iterator[Canaries]:
    prefix = scene.copy("good", INDEX)
    with second_webhook(scene.kube, "webhook-canary", {"canary": RULES}) as address:
        found = Canaries(scene, prefix, address)
        found.settled()
        yield found


def test_a_good_build_is_promoted_with_figures_and_no_request_fails(canaries: Canaries) -> None:
    before = canaries.settled()
    with canaries.scene.asking(INDEX) as client:
        tried = canaries.ask()
        canaries.watched(tried)
        serving = {(one["generation"], one["pods"]) for one in canaries.scene.status(INDEX)["serving"]}
        assert serving == {(str(before), 1), (str(tried), 1)}
        with canaries.scene.asking(INDEX) as new_callers:
            receipt = canaries.receipt(tried)
            canaries.gone()
    assert receipt.outcome == "served", receipt.detail
    figures = receipt.canary
    assert figures is not None
    assert figures.promoted
    assert figures.seconds >= SECONDS
    assert (figures.wrong_answers, figures.restarts, figures.canary.probes_failed, figures.canary.errors) == (
        0,
        0,
        0,
        0,
    )
    assert figures.canary.probes >= 40
    assert figures.canary.p95_ms is not None
    assert figures.stable.requests > figures.stable.probes  # callers asked, too
    for each in (client, new_callers):
        unbroken(each.traffic)
    checks.moved_on(client.traffic, before, tried)


def test_a_canary_that_hangs_is_aborted_and_the_stable_pods_never_noticed(canaries: Canaries) -> None:
    before = canaries.settled()
    stable, spec = canaries.stable(), canaries.scene.deployment(INDEX)["spec"]
    with canaries.scene.asking(INDEX) as client:  # connected before the canary is there: these stay with the stable pod
        tried = canaries.ask()
        pids = here(canaries.watched(tried))
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        receipt = canaries.receipt(tried)
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        canaries.gone()
    aborted(receipt, "canary-errors")
    assert receipt.canary is not None
    assert receipt.canary.canary.probes_failed >= 5
    assert receipt.canary.stable.probes_failed == 0
    assert canaries.stable() == stable
    assert canaries.scene.deployment(INDEX)["spec"] == spec
    unbroken(client.traffic)
    checks.stayed(client.traffic, before)


def test_a_canary_whose_server_dies_is_aborted(canaries: Canaries) -> None:
    canaries.settled()
    stable = canaries.stable()
    tried = canaries.ask()
    pod = canaries.watched(tried)
    until(lambda: canaries.scene.status(INDEX)["detail"] == "canary: compared with the stable pods", "it to be watched")
    for pid in here(pod, b"search_server"):
        with suppress(ProcessLookupError):  # a worker ends with its supervisor
            os.kill(pid, signal.SIGKILL)
    receipt = canaries.receipt(tried)
    assert receipt.outcome == "undone"
    assert receipt.code in {"canary-restarted", "canary-errors"}, receipt.detail
    canaries.gone()
    assert canaries.stable() == stable


def test_values_that_make_pods_slow_are_found_out_by_callers_load(canaries: Canaries) -> None:
    canaries.settled()
    stable = canaries.stable()
    broken = {"canary": RULES | {"latency_floor_ms": 20}, "cpu_limit": "100m"}
    with second_webhook(canaries.scene.kube, "webhook-slow", broken) as address:
        tried = canaries.ask(address)
        pod = canaries.watched(tried)
        # Its callers ask the pod itself: which pod a Service gives a connection to is chance, and may be the stable
        # one for all of them, as a pod is ready some moments before the node's Services know of it.
        with Client(f"http://{pod['status']['podIP']}:8080", canaries.scene.items, connections=6):
            receipt = canaries.receipt(tried)
    aborted(receipt, "canary-slow", "canary-errors")
    assert receipt.canary is not None
    assert receipt.canary.canary.requests > receipt.canary.canary.probes  # callers asked, too
    canaries.gone()
    assert canaries.stable() == stable


def test_all_webhooks_are_killed_while_a_canary_is_watched_and_it_is_finished(canaries: Canaries) -> None:
    canaries.settled()
    with canaries.scene.asking(INDEX) as client:
        tried = canaries.ask()
        canaries.watched(tried)
        second = canaries.scene.kube.pods(NAMESPACE, {"app": "webhook-canary"})
        canaries.scene.kube.kill([*canaries.scene.webhooks(), *second])
        receipt = canaries.receipt(tried)
        canaries.gone()
    assert receipt.outcome == "served", receipt.detail
    assert receipt.canary is not None
    assert receipt.canary.seconds >= SECONDS
    assert canaries.scene.times_written(INDEX, tried) == 1
    unbroken(client.traffic)


def test_a_newer_commit_supersedes_a_canary_that_is_watched(canaries: Canaries) -> None:
    canaries.settled()
    (pod,) = until(lambda: canaries.scene.kube.pods(NAMESPACE, {"app": "webhook-canary"}), "the webhook")[-1:]
    address = until(lambda: _address(canaries.scene, str(pod["metadata"]["name"])), "the webhook to be ready")
    with canaries.scene.asking(INDEX) as client:
        tried = canaries.ask(address)
        canaries.watched(tried)
        newer = canaries.ask(address)
        assert canaries.receipt(tried).outcome == "superseded"
        receipt = canaries.receipt(newer)
        canaries.gone()
    assert receipt.outcome == "served", receipt.detail
    assert receipt.canary is not None
    unbroken(client.traffic)


def _address(scene: Scene, name: str) -> str | None:
    for pod in scene.kube.pods(NAMESPACE, {"app": "webhook-canary"}):
        if pod["metadata"]["name"] == name and ready(pod):
            return f"{pod['status']['podIP']}:8080"
    return None


def here(pod: Object, command: bytes = b"") -> list[int]:
    """The pod's processes, which only the machine that is the node has."""
    return processes_of(pod, command) or pytest.skip("the node's processes aren't on this machine")


def aborted(receipt: Receipt, *codes: str) -> None:
    assert receipt.outcome == "undone", receipt.detail
    assert receipt.code in codes, receipt.detail
    assert "serves on" in receipt.detail
