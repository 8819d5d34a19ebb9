"""Redeploy, rollback, a new build, ten commits in a row: callers don't notice."""

from __future__ import annotations

import pytest

from local_stack.demo import checks
from model_repository.names import IndexPrefix
from tests.kubernetes.installation import NAMESPACE
from tests.kubernetes.node_scene import INDEX, Scene, unbroken

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(300)]


def replaced(scene: Scene, prefix: IndexPrefix) -> None:
    """Commit `prefix` under a client's load, until the old pods are gone."""
    before = scene.settled(scene.build)
    with scene.asking(INDEX) as client:
        assert client.wait_for(before, 10)
        after = scene.serve(prefix)
        assert client.wait_for(after, 30)
        scene.alone(INDEX)
    unbroken(client.traffic)
    checks.moved_on(client.traffic, before, after)
    status = scene.search(INDEX).status()
    assert (int(status["generation"]), status["index_prefix"]) == (after, str(prefix))


def test_the_same_commit_uploaded_again_rolls_out_again_and_no_request_fails(scene: Scene) -> None:
    replaced(scene, scene.build)


def test_a_new_build_and_then_the_older_one_again_and_no_request_fails(scene: Scene) -> None:
    replaced(scene, scene.copy("second"))
    replaced(scene, scene.build)  # older by name, newer by generation: a rollback


def test_of_ten_commits_in_a_row_the_last_one_serves_and_only_newer_ones_replaced_older(scene: Scene) -> None:
    before = scene.settled(scene.build)
    builds = [scene.copy(f"row-{number}") for number in range(10)]
    with scene.asking(INDEX) as client, scene.kube.recorded(NAMESPACE, INDEX) as history:
        generations = [scene.commit(prefix) for prefix in builds]
        assert scene.receipt(INDEX, generations[-1], 120.0).outcome == "served"
        assert client.wait_for(generations[-1], 30)
        scene.alone(INDEX)
    unbroken(client.traffic)
    assert history.only_grew(), history.versions
    seen = client.traffic.generations
    assert list(seen) == sorted(seen)
    assert (seen[0], seen[-1]) == (before, generations[-1])
    assert scene.search(INDEX).status()["index_prefix"] == str(builds[-1])
    outcomes = [scene.receipts(INDEX).get(generation) for generation in generations]
    assert outcomes[-1] == "served"
    assert set(outcomes[:-1]) <= {"superseded", "served", None}  # None: the event found a newer commit live already
    for generation, outcome in zip(generations, outcomes, strict=True):
        assert scene.times_written(INDEX, generation) == (outcome is not None)
