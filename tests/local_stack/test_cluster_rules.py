from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from local_stack.cluster import progress
from local_stack.cluster.node import Node, NodeOptions
from local_stack.cluster.specification import Share
from local_stack.cluster.translation import interpreter_of, translate

SITUATION = progress.Situation(
    found="chairs-abc", now=1000.0, deadline=60, least_available=1, new_template=False, reused=False
)
STARTED = progress.Condition(progress.PROGRESSING, True, "NewReplicaSetCreated", "", updated=990.0, changed=990.0)
ROLLING = progress.Counts(wanted=1, replicas=2, updated=1, ready=1, available=1)
DONE = progress.Counts(wanted=1, replicas=1, updated=1, ready=1, available=1)


def test_a_new_template_starts_the_deadline_anew() -> None:
    late = replace(SITUATION, now=2000.0, new_template=True)

    begun = progress.progressing(STARTED, DONE, ROLLING, late)

    assert (begun.status, begun.reason, begun.updated) == (True, "NewReplicaSetCreated", 2000.0)


def test_a_rollout_without_progress_exceeds_its_deadline_once() -> None:
    before = progress.progressing(STARTED, ROLLING, ROLLING, replace(SITUATION, now=1049.9))
    late = progress.progressing(before, ROLLING, ROLLING, replace(SITUATION, now=1050.0))

    assert before == STARTED
    assert (late.status, late.reason) == (False, "ProgressDeadlineExceeded")
    assert progress.progressing(late, ROLLING, ROLLING, replace(SITUATION, now=5000.0)) == late


def test_progress_puts_the_deadline_off() -> None:
    more_ready = replace(ROLLING, ready=2)

    moved = progress.progressing(STARTED, ROLLING, more_ready, SITUATION)

    assert (moved.reason, moved.updated, moved.changed) == ("ReplicaSetUpdated", 1000.0, 990.0)
    assert progress.deadline_of(moved, 60) == 1060.0


def test_a_complete_rollout_has_no_deadline_even_when_its_pod_falls_ill() -> None:
    done = progress.progressing(STARTED, ROLLING, DONE, SITUATION)
    ill = replace(DONE, ready=0, available=0)

    assert done.reason == "NewReplicaSetAvailable"
    assert progress.deadline_of(done, 60) is None
    assert progress.progressing(done, DONE, ill, replace(SITUATION, now=9000.0)) == done


def test_available_follows_the_least_number_of_available_pods() -> None:
    yes = progress.available(None, DONE, SITUATION)
    no = progress.available(yes, replace(DONE, available=0), replace(SITUATION, now=1001.0))

    assert (yes.status, yes.reason) == (True, "MinimumReplicasAvailable")
    assert (no.status, no.reason, no.changed) == (False, "MinimumReplicasUnavailable", 1001.0)


def test_a_status_has_no_zeros_as_kubernetes_writes_it() -> None:
    assert progress.status_of(3, progress.Counts(wanted=0)) == {"observedGeneration": 3}


@pytest.mark.parametrize(
    ("share", "up", "down"),
    [(Share(2, percent=False), 2, 2), (Share(25, percent=True), 1, 0), (Share(0, percent=True), 0, 0)],
)
def test_a_percentage_of_three_pods_is_rounded_up_for_surge_and_down_for_unavailable(
    share: Share, up: int, down: int
) -> None:
    assert (share.of(3, up=True), share.of(3, up=False)) == (up, down)


@pytest.mark.parametrize(
    ("text", "translated"),
    [
        ("/data", "/pod/data"),
        ("/data/current", "/pod/data/current"),
        ("--to=/data/x", "--to=/pod/data/x"),
        ("/data/a:/data/b", "/pod/data/a:/pod/data/b"),
        ("/data/deep/x", "/deep/x"),
        ("/database", "/database"),
        ("gs://bucket/data", "gs://bucket/data"),
        ("/other/data", "/other/data"),
    ],
)
def test_only_paths_below_a_mount_are_translated(text: str, translated: str) -> None:
    assert translate(text, {"/data": Path("/pod/data"), "/data/deep": Path("/deep")}) == translated


def test_an_image_is_known_by_its_name_whatever_its_registry_port_tag_or_digest() -> None:
    images = {"indexpush": "a", "registry:5000/team/search": "b"}

    assert interpreter_of("indexpush", images) == interpreter_of("indexpush:0.1.0", images) == "a"
    assert interpreter_of("registry:5000/team/search:2@sha256:00", images) == "b"
    assert interpreter_of("registry:5000/team/other:2", images) is None
    assert interpreter_of("anything", {"*": "c"}) == "c"


def test_the_first_restart_comes_at_once_and_then_waits_double(tmp_path: Path) -> None:
    node = Node(NodeOptions(tmp_path, {}, first_restart_wait=1.0, longest_restart_wait=5.0))

    assert [node.restart_wait(restarts) for restarts in (1, 2, 3, 4, 5, 500)] == [0.0, 1.0, 2.0, 4.0, 5.0, 5.0]
