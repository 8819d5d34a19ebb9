"""Whatever is wrong with a commit: the last good one serves on, untouched, and receipt and pod say why."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from local_stack.demo import checks
from local_stack.demo.client import Client
from local_stack.demo.sabotage import shuffle_item_ids, truncate_vectors
from model_repository.documents.receipts.receipt import Receipt
from model_repository.repository import read_build
from tests.kubernetes.installation import NAMESPACE, second_webhook
from tests.kubernetes.kube import Object, until
from tests.kubernetes.node_scene import INDEX, Scene, ready, restarts, unbroken

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(300)]


@contextmanager
def nothing_happens_to(scene: Scene, index: str = INDEX) -> Iterator[int]:
    """What serves goes on serving in the same pods, while callers ask; and the next good commit goes live."""
    good = scene.build if index == INDEX else scene.copy("good", index)
    generation = scene.settled(good)
    before = restarts(scene.pods(index))
    with scene.asking(index) as client:
        yield generation
        until(lambda: restarts(scene.pods(index)) == before, "the failed pods to leave")
    unbroken(client.traffic)
    checks.stayed(client.traffic, generation)
    after = scene.serve(good)
    scene.answers(index, after)


def undone(receipt: Receipt, code: str, *words: str) -> None:
    assert (receipt.outcome, receipt.code) == ("undone", code), receipt.detail
    for word in words:
        assert word in receipt.detail


def test_a_build_with_a_truncated_file_is_refused_by_the_function(scene: Scene) -> None:
    with nothing_happens_to(scene):
        generation = scene.commit(scene.copy("truncated", change=truncate_vectors))
        receipt = scene.receipt(INDEX, generation)
        assert (receipt.outcome, receipt.code) == ("rejected", "build-incomplete")
        until(lambda: _reported(scene, generation) == ["build-incomplete"], "a report on the topic for people")


def test_a_build_that_answers_wrongly_is_undone_by_its_golden_queries(scene: Scene) -> None:
    with nothing_happens_to(scene):
        generation = scene.commit(scene.copy("shuffled", change=shuffle_item_ids))
        said = until(lambda: _last_words(scene.pods(INDEX, generation), "search-server"), "the pod's last words")
        receipt = scene.receipt(INDEX, generation)
        undone(receipt, "pod-refused-data", "golden", str(scene.build))
        assert any(words[:200] in receipt.detail for words in said), (said, receipt.detail)


def test_an_object_that_vanishes_after_the_check_is_undone_by_the_puller(scene: Scene) -> None:
    prefix = scene.copy("vanishing")
    file = f"{prefix}/{read_build(scene.store, prefix).manifest.partitions[0].file}"
    with nothing_happens_to(scene):
        generation = scene.upload(prefix)
        request = scene.request(prefix, generation)
        scene.store._bucket.blob(file).delete()
        assert scene.post(request)["outcome"] == "accepted"
        undone(scene.receipt(INDEX, generation), "pod-refused-data", "pull", file)


def test_while_the_bucket_is_down_a_pull_waits_and_goes_on_by_itself(scene: Scene) -> None:
    scene.settled(scene.build)
    with scene.asking(INDEX) as client:
        generation = scene.commit(scene.copy("patient"))
        until(lambda: scene.pods(INDEX, generation), "the new pod")
        scene.stand_ins("/bucket/stop", act=True)
        try:
            pod = until(lambda: _running(scene.pods(INDEX, generation), "pull"), "the pull to begin")
            time.sleep(4)
            assert not ready(pod)
        finally:
            scene.stand_ins("/bucket/start", act=True)
        receipt = scene.receipt(INDEX, generation)
        assert receipt.outcome == "served", receipt.detail
        scene.alone(INDEX)
    unbroken(client.traffic)


def test_that_the_rollout_before_was_late_says_nothing_of_this_one(scene: Scene) -> None:
    scene.settled(scene.build)
    generation = scene.commit(scene.copy("after-a-late-one"))
    until(lambda: scene.pods(INDEX, generation), "the new pod")
    _as_after_a_lost_note(scene, INDEX, "False", "ProgressDeadlineExceeded")
    receipt = scene.receipt(INDEX, generation)
    assert receipt.outcome == "served", receipt.detail
    scene.alone(INDEX)


SLOW: dict[str, tuple[dict[str, Any], dict[str, int]]] = {
    "no-memory": ({}, {"memory_mib": 4_000_000, "deadline_seconds": 15}),
    "uncounted": ({}, {"memory_mib": 4_000_000, "deadline_seconds": 15}),
    "no-image": ({"image": "localhost/nowhere:1", "image_pull_policy": "Never"}, {"deadline_seconds": 20}),
    "crashes": ({"env": {"PYTHONHASHSEED": "nonsense"}}, {"deadline_seconds": 90}),
}
"""Index: values that somebody broke (a second webhook has them), and what the request says otherwise."""


@pytest.fixture(scope="module")
def failing(scene: Scene) -> Iterator[dict[str, Failing]]:
    with ExitStack() as stack:
        committed = {index: scene.commit(scene.copy("good", index)) for index in SLOW}
        webhooks = {
            index: stack.enter_context(second_webhook(scene.kube, f"webhook-{index}", values)) if values else None
            for index, (values, _) in SLOW.items()
        }
        found: dict[str, Failing] = {}
        for index, (_, otherwise) in SLOW.items():
            assert scene.receipt(index, committed[index]).outcome == "served"
            good = scene.settled(scene.copy("good", index))
            client = stack.enter_context(scene.asking(index))
            generation = scene.upload(scene.copy("good", index))
            found[index] = Failing(index, good, generation, restarts(scene.pods(index)), client)
            request = scene.request(scene.copy("good", index), generation, **otherwise)
            assert scene.post(request, webhooks[index])["outcome"] == "accepted"
            if index == "uncounted":
                until(lambda: scene.pods("uncounted", found["uncounted"].bad), "the new pod")
                _as_after_a_lost_note(scene, index, "True", "NewReplicaSetAvailable")
        yield found


class TestOnlyTimeTells:
    """Failures that take their time to show, each in an index of its own, all at once."""

    def test_what_no_node_has_memory_for_is_undone_at_its_deadline(
        self, scene: Scene, failing: dict[str, Failing]
    ) -> None:
        receipt = failing["no-memory"].untouched(scene)
        undone(receipt, "deadline-exceeded", "Insufficient memory", "15 s")
        assert 14 <= (receipt.finished - receipt.started).total_seconds() <= 35

    def test_a_deadline_that_kubernetes_does_not_count_is_kept(self, scene: Scene, failing: dict[str, Failing]) -> None:
        receipt = failing["uncounted"].untouched(scene)
        undone(receipt, "deadline-exceeded", "Insufficient memory", "15 s")
        assert 14 <= (receipt.finished - receipt.started).total_seconds() <= 35

    def test_an_image_that_is_nowhere_is_undone(self, scene: Scene, failing: dict[str, Failing]) -> None:
        undone(failing["no-image"].untouched(scene), "deadline-exceeded", "localhost/nowhere:1")

    def test_a_pod_that_crashes_again_and_again_is_undone(self, scene: Scene, failing: dict[str, Failing]) -> None:
        receipt = failing["crashes"].untouched(scene)
        undone(receipt, "crash-loop", "PYTHONHASHSEED", "ended with 1 for the 3rd time")
        assert (receipt.finished - receipt.started).total_seconds() < 45  # long before its deadline


@dataclass(frozen=True)
class Failing:
    """A bad request of an index that served, while a client asks."""

    index: str
    good: int
    bad: int
    pods: dict[str, int]
    client: Client

    def untouched(self, scene: Scene) -> Receipt:
        """The receipt; what served before did so all the time, in the same pods, and the next commit goes live."""
        receipt = scene.receipt(self.index, self.bad)
        until(lambda: restarts(scene.pods(self.index)) == self.pods, "the failed pods to leave")
        traffic = self.client.traffic
        unbroken(traffic)
        checks.stayed(traffic, self.good)
        scene.answers(self.index, scene.serve(scene.copy("good", self.index)))
        return receipt


def _as_after_a_lost_note(scene: Scene, index: str, status: str, reason: str) -> None:
    """The condition of the rollout before stands, as when somebody writes while Kubernetes notes the new ReplicaSet."""
    conditions = scene.deployment(index)["status"]["conditions"]
    progressing = next(each for each in conditions if each["type"] == "Progressing")
    progressing |= {"status": status, "reason": reason}
    patch = json.dumps({"status": {"conditions": conditions}})
    where = ("-n", NAMESPACE, "patch", "deployment", index)
    scene.kube.kubectl(*where, "--subresource=status", "--type=merge", "-p", patch)


def _reported(scene: Scene, generation: int) -> list[str]:
    reports = scene.stand_ins("/notifications")
    return sorted({report["code"] for report in reports if report.get("generation") == str(generation)})


def _statuses(pods: list[Object], container: str) -> list[Object]:
    return [
        status
        for pod in pods
        for kind in ("initContainerStatuses", "containerStatuses")
        for status in pod["status"].get(kind, [])
        if status["name"] == container
    ]


def _last_words(pods: list[Object], container: str) -> list[str]:
    ended = [
        (status.get("state") or {}).get("terminated") or (status.get("lastState") or {}).get("terminated")
        for status in _statuses(pods, container)
    ]
    return [one["message"].strip() for one in ended if one and one.get("message")]


def _running(pods: list[Object], container: str) -> Object | None:
    for pod in pods:
        if any(s["restartCount"] or "running" in (s.get("state") or {}) for s in _statuses([pod], container)):
            return pod
    return None
