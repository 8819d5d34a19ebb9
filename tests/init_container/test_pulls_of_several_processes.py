"""Whole pulls by several processes, and what is left when one of them ends."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

from tests.init_container.faulty_bucket import FaultyBucket, Reply
from tests.init_container.process_scene import children, exists, wait_for
from tests.init_container.pull_scene import MIB, Build, Puller


@pytest.mark.parametrize("processes", ["3"], indirect=True)
def test_as_many_processes_pull_as_are_asked_for(bucket: FaultyBucket, build: Build, puller: Puller) -> None:
    bucket.rate = 1e6
    process = puller.start(CONNECTIONS="6", RANGE_MIB="1")
    wait_for(lambda: len(children(process.pid)) == 2, "two workers")
    outcome = puller.finish(process)
    assert outcome.code == 0
    puller.check_whole(build)
    last = outcome.lines[-1]
    assert last["fetched"] == sum(map(len, build.objects.values()))
    assert last["retries"] == 0
    assert 3 <= bucket.most <= 6


@pytest.mark.parametrize("processes", ["16"], indirect=True)
def test_the_most_processes_that_may_be_asked_for_all_have_connections(
    bucket: FaultyBucket, build: Build, puller: Puller
) -> None:
    bucket.rate = 2e5
    assert puller.run().code == 0
    puller.check_whole(build)
    assert bucket.most >= 16


@pytest.mark.parametrize("processes", ["2"], indirect=True)
def test_one_connection_is_one_process(bucket: FaultyBucket, build: Build, puller: Puller) -> None:
    assert puller.run(CONNECTIONS="1").code == 0
    puller.check_whole(build)
    assert bucket.most == 1


def _start_with_worker(bucket: FaultyBucket, puller: Puller) -> tuple[subprocess.Popen[str], int]:
    """A pull of some seconds that has a worker at work."""
    bucket.rate = 1e6
    process = puller.start(CONNECTIONS="4", RANGE_MIB="1")
    wait_for(lambda: len(children(process.pid)) == 1 and bucket.sent > MIB, "a worker at work")
    return process, children(process.pid)[0]


@pytest.mark.parametrize("processes", ["2"], indirect=True)
def test_a_worker_that_is_killed_costs_time_and_nothing_else(
    bucket: FaultyBucket, build: Build, puller: Puller
) -> None:
    process, worker = _start_with_worker(bucket, puller)
    os.kill(worker, signal.SIGKILL)
    assert puller.finish(process).code == 0
    puller.check_whole(build)
    assert bucket.sent < 1.3 * sum(map(len, build.objects.values()))


@pytest.mark.parametrize("processes", ["2"], indirect=True)
def test_workers_end_with_a_puller_that_is_killed(bucket: FaultyBucket, build: Build, puller: Puller) -> None:
    process, worker = _start_with_worker(bucket, puller)
    process.kill()
    process.wait(10)
    wait_for(lambda: not exists(worker), "the worker's end")
    bucket.rate = 1e9
    assert puller.run().code == 0
    puller.check_whole(build)


@pytest.mark.parametrize("processes", ["2"], indirect=True)
def test_sigterm_leaves_no_worker(bucket: FaultyBucket, puller: Puller) -> None:
    process, worker = _start_with_worker(bucket, puller)
    process.terminate()
    outcome = puller.finish(process)
    assert outcome.code == os.EX_TEMPFAIL
    assert len(outcome.lines) == 1
    assert not exists(worker)


@pytest.mark.parametrize("processes", ["2"], indirect=True)
def test_what_only_a_worker_can_t_get_ends_the_pull(bucket: FaultyBucket, puller: Puller) -> None:
    firsts: list[object] = []

    def first(reply: Reply) -> None:
        firsts.append(reply.connection.getpeername())
        reply.whole()

    def gone_for_workers(reply: Reply) -> None:
        if reply.connection.getpeername() in firsts:
            reply.whole()
        else:
            reply.status(404)

    bucket.rate = 2e6
    bucket.fail(first, match="index.json")
    bucket.fail(gone_for_workers, times=float("inf"), match="big.ann")
    outcome = puller.run(CONNECTIONS="2", RANGE_MIB="1")
    assert outcome.code == os.EX_DATAERR
    assert "big.ann" in outcome.message
    assert len(outcome.lines) == 1
    puller.check_nothing_there()
