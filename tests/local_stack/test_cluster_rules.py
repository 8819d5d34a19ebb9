from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from local_stack.cluster import probes
from local_stack.cluster.manifest import read_manifest, surge_of
from local_stack.cluster.node import Node
from local_stack.cluster.probes import verdicts
from local_stack.cluster.progress import COMPLETE, EXCEEDED, UPDATED, Counts, Progress, progress
from local_stack.cluster.translation import interpreter_of, translate
from local_stack.processes import free_port
from tests.local_stack.cluster_scene import deployment, set_in

STARTED = Progress(UPDATED, 990.0)
ROLLING = Counts(wanted=1, replicas=2, updated=1, ready=1, available=1)
DONE = Counts(wanted=1, replicas=1, updated=1, ready=1, available=1)


def test_a_rollout_without_progress_exceeds_its_deadline_once() -> None:
    before = progress(STARTED, ROLLING, ROLLING, 1049.9, 60)
    late = progress(before, ROLLING, ROLLING, 1050.0, 60)

    assert before == STARTED
    assert late.reason == EXCEEDED
    assert progress(late, ROLLING, ROLLING, 5000.0, 60) == late


def test_progress_puts_the_deadline_off() -> None:
    moved = progress(STARTED, ROLLING, replace(ROLLING, ready=2), 1000.0, 60)

    assert moved == Progress(UPDATED, 1000.0)
    assert moved.deadline(60) == 1060.0


def test_a_complete_rollout_has_no_deadline_even_when_its_pod_falls_ill() -> None:
    done = progress(STARTED, ROLLING, DONE, 1000.0, 60)
    ill = replace(DONE, ready=0, available=0)

    assert done.reason == COMPLETE
    assert done.deadline(60) is None
    assert progress(done, DONE, ill, 9000.0, 60) == done


def test_a_status_has_no_zeros_as_kubernetes_writes_it() -> None:
    assert Counts(wanted=0).status(3) == {"observedGeneration": 3}


@pytest.mark.parametrize(("surge", "pods"), [(2, 2), ("25%", 1), ("50%", 2), ("100%", 3)])
def test_a_percentage_of_three_pods_is_rounded_up_for_surge(surge: int | str, pods: int) -> None:
    manifest = deployment("web")
    manifest["spec"]["strategy"]["rollingUpdate"]["maxSurge"] = surge

    assert surge_of(read_manifest(manifest)["spec"], 3) == pods


def test_null_is_the_same_as_absent() -> None:
    manifest = deployment("web")

    written = set_in(manifest, "spec.template.spec.containers[0].livenessProbe", None)

    assert read_manifest(set_in(written, "metadata.finalizers", None)) == read_manifest(manifest)


def test_a_probe_that_never_succeeded_is_tried_often_and_counted_once_a_period(monkeypatch: pytest.MonkeyPatch) -> None:
    port, tried = free_port(), 0
    probe = {"httpGet": {"port": port}, "periodSeconds": 1, "failureThreshold": 2, "timeoutSeconds": 60}

    def count_and_close(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal tried
        tried += 1
        writer.close()

    async def first_verdict() -> bool:
        async with await asyncio.start_server(count_and_close, "127.0.0.1", port):
            return await anext(verdicts("127.0.0.1", port, probe))

    monkeypatch.setattr(probes, "time", SimpleNamespace(monotonic=lambda: 0.4 * tried))
    assert asyncio.run(first_verdict()) is False
    assert tried == 6, "counted at 1.2 s and at 2.4 s"


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
    node = Node(tmp_path, {}, first_restart_wait=6.0)

    assert [node.restart_wait(restarts) for restarts in (1, 2, 3, 4, 5, 500)] == [0.0, 6.0, 12.0, 24.0, 30.0, 30.0]
