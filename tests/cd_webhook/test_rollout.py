"""The judgement of a rollout, and the sentence that a person reads."""

from __future__ import annotations

import copy
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cd_webhook.rules.rollout import Failed, Progressing, Served, Verdict, judge
from manifests.render import render
from tests.cd_webhook import fake_cluster as pods
from tests.cd_webhook.webhook_scene import request, values

START = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def deployment(wanted: int = 1, **status: Any) -> dict[str, Any]:
    value = copy.deepcopy(render(request(5), values()).deployment)
    value["metadata"]["generation"] = 2
    value["spec"]["replicas"] = wanted
    value["status"] = {"observedGeneration": 2, "replicas": 1, "updatedReplicas": 1, **status}
    return value


def pod(fate: pods.Fate, generation: int = 5, name: str = "p1") -> dict[str, Any]:
    template = render(request(generation), values()).deployment["spec"]["template"]
    return {"metadata": {**copy.deepcopy(template["metadata"]), "name": name}, "status": fate()}


def verdict(deployed: dict[str, Any], *found: dict[str, Any], seconds: float = 1) -> Verdict:
    watched = timedelta(seconds=seconds)
    return judge(deployed, found, watched=watched, now=START + watched)


def test_it_serves_when_every_pod_is_new_and_available() -> None:
    assert isinstance(verdict(deployment(availableReplicas=1), pod(pods.ready)), Served)


def test_it_does_not_serve_while_an_old_pod_is_still_there() -> None:
    status = {"replicas": 3, "updatedReplicas": 2, "availableReplicas": 3, "readyReplicas": 3}
    found = verdict(deployment(2, **status), pod(pods.ready))
    assert found == Progressing("2 of 2 pods are new, 3 ready, 1 old still there")


def test_a_status_from_before_the_write_says_nothing() -> None:
    stale = deployment(availableReplicas=1, observedGeneration=1)
    assert verdict(stale) == Progressing("waiting for the cluster to take note of the new Deployment")


@pytest.mark.parametrize("container", ["pull", "search-server"])
def test_a_pod_that_refuses_its_data_fails_the_rollout_at_once_with_its_own_words(container: str) -> None:
    found = verdict(deployment(), pod(pods.ended(65, "categories/lamps.ann: crc32c differs", container=container)))
    assert found == Failed(
        "pod-refused-data", f"pod p1: {container} refused the build: categories/lamps.ann: crc32c differs"
    )


def test_a_misconfigured_pod_fails_the_rollout_at_once() -> None:
    found = verdict(deployment(), pod(pods.ended(64, "INDEX_PREFIX is not set")))
    assert found == Failed("pod-misconfigured", "pod p1: pull is misconfigured: INDEX_PREFIX is not set")


def test_a_pull_that_may_pass_is_waited_for_however_often_it_restarts() -> None:
    found = verdict(deployment(), pod(pods.ended(75, "bucket: 503", restarts=9)))
    assert found == Progressing("pod p1: pull tries again: bucket: 503")


def test_a_crash_is_waited_for_and_a_crash_loop_is_not() -> None:
    crash = pods.ended(1, "Traceback", container="search-server", restarts=1)
    assert verdict(deployment(), pod(crash)) == Progressing(
        "pod p1: search-server ended with 1 for the 2nd time: Traceback"
    )
    loop = pods.ended(1, "Traceback", container="search-server", restarts=3)
    assert verdict(deployment(), pod(loop)) == Failed(
        "crash-loop", "pod p1: search-server ended with 1 for the 4th time: Traceback"
    )


def test_what_keeps_a_pod_waiting_beside_our_containers_is_named_and_never_final() -> None:
    ended = pod(pods.ended(64, "no licence", container="agent", restarts=30))
    assert verdict(deployment(), ended) == Progressing("pod p1: agent ended with 64: no licence")
    missing = pod(pods.waiting("ImagePullBackOff", "not found"))
    missing["status"]["initContainerStatuses"][0]["name"] = "proxy"
    said = "pod p1: proxy: ImagePullBackOff: not found"
    assert verdict(deployment(), missing, seconds=100) == Progressing(said)
    late = verdict(deployment(), missing, seconds=10_000)
    assert isinstance(late, Failed)
    assert late.code == "deadline-exceeded"
    assert said in late.sentence


def test_a_container_that_ends_as_soon_as_it_starts_may_do_so_less_often() -> None:
    def ends(seconds: int, restarts: int) -> Verdict:
        found = pod(pods.ended(1, "Traceback", restarts=restarts))
        (entry,) = found["status"]["initContainerStatuses"]
        times = {"startedAt": "2026-11-21T12:00:00Z", "finishedAt": f"2026-11-21T12:00:{seconds:02}Z"}
        entry["lastState"]["terminated"] |= times
        return verdict(deployment(), found)

    assert isinstance(ends(2, 1), Progressing)
    assert ends(2, 2) == Failed("crash-loop", "pod p1: pull ended with 1 for the 3rd time: Traceback")
    assert isinstance(ends(11, 2), Progressing)
    assert isinstance(ends(11, 3), Failed)


def test_the_third_try_that_is_running_is_no_third_failure() -> None:
    found = pod(pods.ended(1, "Traceback", restarts=2))
    (entry,) = found["status"]["initContainerStatuses"]
    entry["state"] = {"running": {}}
    assert verdict(deployment(), found) == Progressing("pod p1: pull ended with 1 for the 2nd time: Traceback")


def test_a_pod_that_needs_more_memory_than_it_has_is_told_apart() -> None:
    found = verdict(deployment(), pod(pods.ended(137, reason="OOMKilled", container="search-server", restarts=3)))
    assert found == Failed("pod-out-of-memory", "pod p1: search-server ran out of memory and was killed")


def test_an_image_that_stays_missing_fails_the_rollout_and_a_hiccup_does_not() -> None:
    missing = pod(pods.waiting("ImagePullBackOff", "not found"))
    assert isinstance(verdict(deployment(), missing, seconds=59), Progressing)
    assert verdict(deployment(), missing, seconds=61) == Failed(
        "image-unavailable", "pod p1: pull: ImagePullBackOff: not found"
    )


def test_an_image_has_its_time_from_when_the_pod_has_a_node_and_the_containers_before_are_done() -> None:
    missing = pod(pods.waiting("ErrImagePull", "a hiccup"))
    moments = ["2026-11-21T12:00:30Z", "2026-11-21T12:02:00Z", None]
    missing["status"]["conditions"] = [
        {"type": kind, "status": "True", "lastTransitionTime": moment}
        for kind, moment in zip(("PodScheduled", "Initialized", "Other"), moments, strict=True)
    ]
    assert isinstance(verdict(deployment(), missing, seconds=125), Progressing)
    assert verdict(deployment(3), missing, seconds=181) == Failed(
        "image-unavailable", "pod p1: pull: ErrImagePull: a hiccup"
    )


def test_an_image_name_that_is_none_fails_at_once() -> None:
    assert isinstance(verdict(deployment(), pod(pods.waiting("InvalidImageName", "x"))), Failed)


def test_a_pod_without_a_node_is_waited_for_until_the_deadline_that_kubernetes_counts() -> None:
    pending = pod(pods.unschedulable("0/1 nodes are available: 1 Insufficient memory."))
    assert verdict(deployment(), pending) == Progressing(
        "pod p1 has no node: 0/1 nodes are available: 1 Insufficient memory."
    )
    late = [{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}]
    assert verdict(deployment(conditions=late), pending, seconds=61) == Failed(
        "deadline-exceeded",
        "not ready within 60 s: pod p1 has no node: 0/1 nodes are available: 1 Insufficient memory.",
    )


def test_a_deadline_that_an_earlier_rollout_missed_does_not_count() -> None:
    late = [{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}]
    assert isinstance(verdict(deployment(conditions=late, observedGeneration=1), seconds=61), Progressing)
    # and where its number of pods changed, too, or a write of ours kept Kubernetes from noting that there is a new one
    assert isinstance(verdict(deployment(conditions=late, updatedReplicas=0)), Progressing)
    assert isinstance(verdict(deployment(conditions=late), pod(pods.starting), seconds=59), Progressing)


def test_a_deadline_that_kubernetes_does_not_count_is_counted() -> None:
    last = [{"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"}]
    missing = pod(pods.waiting("ErrImagePull", "not found"))
    assert isinstance(verdict(deployment(conditions=last), missing, seconds=60), Progressing)
    late = "not ready within 60 s: pod p1 has no node: 0/1 nodes are available"
    pending = pod(pods.unschedulable("0/1 nodes are available"))
    assert verdict(deployment(conditions=last), pending, seconds=61) == Failed("deadline-exceeded", late)


def test_what_got_a_pod_ready_is_left_to_kubernetes_which_counts_from_there() -> None:
    last = [{"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"}]
    found = [pod(pods.ready), pod(pods.starting, name="p2")]
    assert isinstance(verdict(deployment(2, conditions=last), *found, seconds=61), Progressing)


def test_a_rollout_ends_even_if_the_cluster_never_says_that_it_is_late() -> None:
    assert isinstance(verdict(deployment(), pod(pods.starting), seconds=149), Progressing)
    assert isinstance(verdict(deployment(), pod(pods.starting), seconds=151), Failed)


def test_a_quota_that_forbids_pods_is_told() -> None:
    full = [{"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota: memory"}]
    assert verdict(deployment(conditions=full)) == Progressing("exceeded quota: memory")


def test_why_kubernetes_makes_no_new_replica_set_is_told_though_it_notes_nothing_else() -> None:
    why = 'Failed to create new replica set "home-store-1": exceeded quota: replicasets'
    failed = [{"type": "Progressing", "status": "False", "reason": "ReplicaSetCreateError", "message": why}]
    unseen = deployment(conditions=failed, observedGeneration=1)
    assert verdict(unseen) == Progressing(why)
    assert verdict(unseen, seconds=151) == Failed("deadline-exceeded", f"not ready within 120 s: {why}")


def test_the_troubles_of_old_pods_do_not_count() -> None:
    assert isinstance(verdict(deployment(), pod(pods.ended(65, "old"), generation=4)), Progressing)


@pytest.mark.parametrize("reason", ["Terminated", "Shutdown", "NodeShutdown", "Preempting", "OutOfcpu"])
def test_pods_that_a_node_shuts_down_or_never_takes_say_nothing_of_the_build(reason: str) -> None:
    def ended() -> dict[str, Any]:
        return {"phase": "Failed", "reason": reason, "message": "in response to imminent node shutdown"}

    some = [pod(ended, name=f"p{number}") for number in range(5)]
    said = verdict(deployment(), *some)
    assert said == Progressing(f"pod p0: {reason}: in response to imminent node shutdown")


def test_pods_that_are_evicted_again_and_again_fail_the_rollout() -> None:
    def evicted() -> dict[str, Any]:
        return {"phase": "Failed", "reason": "Evicted", "message": "the node was low on ephemeral-storage"}

    some = [pod(evicted, name=f"p{number}") for number in range(3)]
    assert isinstance(verdict(deployment(), *some[:2]), Progressing)
    assert verdict(deployment(), *some) == Failed(
        "pod-evicted", "3 pods: pod p0: Evicted: the node was low on ephemeral-storage"
    )


def test_a_deployment_scaled_to_nothing_does_not_serve() -> None:
    found = verdict(deployment(0, replicas=0, updatedReplicas=0))
    assert isinstance(found, Progressing)
    assert "replicas is 0" in found.sentence
