"""Brown-outs on a real node: API server or bucket don't answer for some seconds, while commits come and callers ask."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.kubernetes.kube import until
from tests.kubernetes.node_scene import INDEX, Scene, unbroken

pytestmark = [pytest.mark.brown_out, pytest.mark.timeout(1800)]

ROUNDS = int(os.environ.get("ROUNDS", "20"))
SEED = int(os.environ.get("SEED", "1"))


def api_server(kubeconfig: Path) -> int:
    """The process of this node's API server."""
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                line = (process / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if line[0].endswith(b"kube-apiserver") and any(str(kubeconfig.parent).encode() in each for each in line):
                return int(process.name)
    pytest.skip("the node's API server isn't on this machine")


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextmanager
def without_bucket(scene: Scene) -> Iterator[None]:
    scene.stand_ins("/bucket/stop", act=True)
    try:
        yield
    finally:
        scene.stand_ins("/bucket/start", act=True)


def test_after_every_brown_out_the_live_commit_serves_with_one_receipt_and_no_request_fails(
    scene: Scene, kubeconfig: Path
) -> None:
    chance = random.Random(SEED)
    server = api_server(kubeconfig)
    builds = [scene.build, scene.copy("good")]
    scene.settled(scene.build)
    with scene.asking(INDEX) as client:
        for number in range(ROUNDS):
            generation = scene.commit(builds[number % 2])
            time.sleep(chance.uniform(0, 4))  # at any step of the rollout
            with frozen(server) if number % 2 else without_bucket(scene):
                time.sleep(chance.uniform(1, 5))
            receipt = scene.receipt(INDEX, generation, 120.0)
            assert receipt.outcome == "served", (number, receipt.detail)
            scene.answers(INDEX, generation, 60.0)
            until(lambda: scene.times_written(INDEX, generation) == 1, "one receipt")  # noqa: B023
            scene.alone(INDEX)
    unbroken(client.traffic)
