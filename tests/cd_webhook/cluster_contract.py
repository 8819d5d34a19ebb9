"""What every implementation of `cluster.Cluster` must do, as functions: also for a real Kubernetes."""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from cd_webhook.cluster import Cluster, ClusterRefused, Conflict, Object, version_of
from manifests import metadata as marks
from manifests.canary import canary_of
from model_repository.documents.receipts.address import parse_url

Make = Callable[[str, int], tuple[Object, Object]]
"""From an index' name and a generation to its Deployment and Service."""


def check_all(cluster: Cluster, make: Make, name: str) -> None:
    """Every check, each with an index of its own."""
    for position, check in enumerate(CHECKS):
        check(cluster, make, f"{name}-{position}")


def an_unknown_deployment_is_none(cluster: Cluster, make: Make, name: str) -> None:  # noqa: ARG001 - as all checks
    assert cluster.deployment(name) is None


def what_was_created_is_there(cluster: Cluster, make: Make, name: str) -> None:
    deployment, service = make(name, 1)
    cluster.apply(service, resource_version=None)
    created = cluster.create(deployment)
    live = cluster.deployment(name)
    assert live is not None
    assert created["metadata"]["name"] == live["metadata"]["name"] == name
    assert live["metadata"]["annotations"][marks.COMMIT_GENERATION] == "1"
    assert name in [found["metadata"]["name"] for found in cluster.deployments()]


def a_service_has_a_url_as_soon_as_it_is_there(cluster: Cluster, make: Make, name: str) -> None:
    assert cluster.url(name) is None
    cluster.apply(make(name, 1)[1], resource_version=None)
    found = cluster.url(name)
    assert found is not None
    assert parse_url(found).startswith("http://")


def the_second_of_two_creators_meets_a_conflict(cluster: Cluster, make: Make, name: str) -> None:
    first, _ = make(name, 1)
    second, _ = make(name, 2)
    cluster.create(first)
    with pytest.raises(Conflict):
        cluster.create(second)
    assert _generation(cluster, name) == "1"


def a_write_decided_on_an_old_version_meets_a_conflict(cluster: Cluster, make: Make, name: str) -> None:
    cluster.create(make(name, 1)[0])
    _retried(cluster, name, lambda version: cluster.apply(make(name, 2)[0], resource_version=version))
    with pytest.raises(Conflict):
        cluster.apply(make(name, 3)[0], resource_version="1")
    assert _generation(cluster, name) == "2"


def an_apply_to_what_is_gone_meets_a_conflict(cluster: Cluster, make: Make, name: str) -> None:
    with pytest.raises(Conflict):
        cluster.apply(make(name, 1)[0], resource_version="12345")
    assert cluster.deployment(name) is None


def of_racing_writers_on_one_version_at_most_one_wins(cluster: Cluster, make: Make, name: str) -> None:
    cluster.create(make(name, 1)[0])
    live = cluster.deployment(name)
    assert live is not None
    won: list[int] = []

    def write(generation: int) -> None:
        try:
            cluster.apply(make(name, generation)[0], resource_version=version_of(live))
        except Conflict:
            return
        won.append(generation)

    threads = [threading.Thread(target=write, args=(generation,)) for generation in range(2, 8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(won) <= 1
    assert _generation(cluster, name) == str(won[0] if won else 1)


def an_annotation_changes_nothing_else(cluster: Cluster, make: Make, name: str) -> None:
    cluster.create(make(name, 1)[0])
    before = cluster.deployment(name)
    _retried(
        cluster,
        name,
        lambda version: cluster.mark(name, {"annotations": {"indexpush.dev/x": "y"}}, resource_version=version),
    )
    after = cluster.deployment(name)
    assert before is not None
    assert after is not None
    assert after["metadata"]["annotations"]["indexpush.dev/x"] == "y"
    assert after["metadata"]["annotations"][marks.COMMIT_GENERATION] == "1"
    assert after["spec"] == before["spec"]
    # metadata.generation may move: Kubernetes counts a Deployment's annotations as part of what is wanted


def an_annotation_decided_on_an_old_version_meets_a_conflict(cluster: Cluster, make: Make, name: str) -> None:
    cluster.create(make(name, 1)[0])
    _retried(
        cluster,
        name,
        lambda version: cluster.mark(name, {"annotations": {"indexpush.dev/x": "y"}}, resource_version=version),
    )
    with pytest.raises(Conflict):
        cluster.mark(name, {"annotations": {"indexpush.dev/x": "z"}}, resource_version="1")


def replicas_that_are_left_out_are_left_alone(cluster: Cluster, make: Make, name: str) -> None:
    first = copy.deepcopy(make(name, 1)[0])
    first["spec"].pop("replicas", None)
    cluster.create(first)
    second = copy.deepcopy(make(name, 2)[0])
    second["spec"].pop("replicas", None)
    _retried(cluster, name, lambda version: cluster.apply(second, resource_version=version))
    live = cluster.deployment(name)
    assert live is not None
    assert live["spec"].get("replicas", 1) == 1


def its_pods_carry_the_generation(cluster: Cluster, make: Make, name: str) -> None:
    cluster.create(make(name, 7)[0])

    def pods() -> list[dict[str, Any]]:
        cluster.wait_for_changes(0.5)
        assert cluster.deployment(name) is not None
        return cluster.pods(name)

    found = _eventually(pods)
    assert {pod["metadata"]["annotations"][marks.COMMIT_GENERATION] for pod in found} == {"7"}
    assert all(pod["metadata"]["labels"].items() >= marks.selector(name).items() for pod in found)


def a_wait_ends_when_something_changes_and_says_of_what(cluster: Cluster, make: Make, name: str) -> None:
    cluster.wait_for_changes(0)  # from here on it listens
    cluster.create(make(name, 1)[0])
    for _ in range(100):
        found = cluster.wait_for_changes(60)
        if found is None or name in found:
            return
    raise AssertionError(f"it never said that {name} changed")


def what_is_only_validated_is_not_there(cluster: Cluster, make: Make, name: str) -> None:
    cluster.validate(make(name, 1)[0])
    assert cluster.deployment(name) is None
    cluster.create(make(name, 1)[0])
    cluster.validate(make(name, 2)[0])
    assert _generation(cluster, name) == "1"


def a_field_that_nobody_knows_is_not_valid(cluster: Cluster, make: Make, name: str) -> None:
    value = copy.deepcopy(make(name, 1)[0])
    value["spec"]["template"]["spec"]["containers"][0]["imagee"] = "x"
    with pytest.raises(ClusterRefused, match="imagee"):
        cluster.validate(value)


def what_kubernetes_would_refuse_is_refused(cluster: Cluster, make: Make, name: str) -> None:
    value = copy.deepcopy(make(name, 1)[0])
    value["spec"]["template"]["spec"]["containers"] = []
    with pytest.raises(ClusterRefused):
        cluster.create(value)


def a_canary_has_pods_of_its_own(cluster: Cluster, make: Make, name: str) -> None:
    stable = make(name, 1)[0]
    cluster.create(stable)
    cluster.create(canary_of(make(name, 2)[0], 2))
    found = _eventually(lambda: _pods(cluster, marks.canary_name(name)))
    assert {pod["metadata"]["annotations"][marks.COMMIT_GENERATION] for pod in found} == {"2"}
    others = _eventually(lambda: _pods(cluster, name))
    assert {pod["metadata"]["annotations"][marks.COMMIT_GENERATION] for pod in others} == {"1"}


def what_was_deleted_is_gone_and_leaves_others_alone(cluster: Cluster, make: Make, name: str) -> None:
    cluster.create(make(name, 1)[0])
    canary = canary_of(make(name, 2)[0], 1)
    cluster.create(canary)
    _eventually(lambda: _pods(cluster, marks.canary_name(name)))

    def delete(version: str) -> None:
        live = cluster.deployment(marks.canary_name(name))
        assert live is not None
        live["metadata"]["resourceVersion"] = version
        cluster.delete(live)

    with pytest.raises(Conflict):
        delete("1")
    _retried(cluster, marks.canary_name(name), delete)
    assert cluster.deployment(marks.canary_name(name)) is None
    assert cluster.deployment(name) is not None
    cluster.create(canary)  # the name is free at once, also while the pods of the first are on their way out
    cluster.delete({"metadata": {**canary["metadata"], "name": f"{name}-2", "uid": "u", "resourceVersion": "1"}})


CHECKS: list[Callable[[Cluster, Make, str], None]] = [
    an_unknown_deployment_is_none,
    what_was_created_is_there,
    a_service_has_a_url_as_soon_as_it_is_there,
    the_second_of_two_creators_meets_a_conflict,
    a_write_decided_on_an_old_version_meets_a_conflict,
    an_apply_to_what_is_gone_meets_a_conflict,
    of_racing_writers_on_one_version_at_most_one_wins,
    an_annotation_changes_nothing_else,
    an_annotation_decided_on_an_old_version_meets_a_conflict,
    replicas_that_are_left_out_are_left_alone,
    its_pods_carry_the_generation,
    what_is_only_validated_is_not_there,
    a_wait_ends_when_something_changes_and_says_of_what,
    a_canary_has_pods_of_its_own,
    what_was_deleted_is_gone_and_leaves_others_alone,
]
REFUSALS = [what_kubernetes_would_refuse_is_refused, a_field_that_nobody_knows_is_not_valid]


def _retried(cluster: Cluster, name: str, write: Callable[[str], object]) -> None:
    """The controller writes the status meanwhile: decide anew until it holds still."""
    end = time.monotonic() + 90
    while time.monotonic() < end:
        live = cluster.deployment(name)
        assert live is not None
        try:
            write(version_of(live))
        except Conflict:
            time.sleep(0.05)
        else:
            return
    pytest.fail("always a conflict")


def _pods(cluster: Cluster, name: str) -> list[Object]:
    assert cluster.deployment(name) is not None
    return cluster.pods(name)


def _generation(cluster: Cluster, name: str) -> str:
    live = cluster.deployment(name)
    assert live is not None
    return str(live["metadata"]["annotations"][marks.COMMIT_GENERATION])


def _eventually(look: Callable[[], list[Any]], seconds: float = 90) -> list[Any]:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := look():
            return found
        time.sleep(0.05)
    pytest.fail("it never came")
