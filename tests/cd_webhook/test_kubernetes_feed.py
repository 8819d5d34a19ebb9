"""What the webhook notices of changes on Kubernetes: watches that break, expire and resume."""

from __future__ import annotations

import io
import json
import math
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cd_webhook.cluster import feed
from cd_webhook.cluster.feed import ChangeFeed
from model_repository.telemetry.log import Log
from tests.cd_webhook.api_server import DEPLOYMENTS, PODS, ApiServer


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiServer]:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    server = ApiServer()
    yield server
    server.http.shutdown()


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_wait_ends_with_the_change_and_says_of_what(server: ApiServer) -> None:
    go = threading.Event()

    def script(handler: Any) -> None:
        go.wait(60)
        handler.event("MODIFIED", "101")
        go.clear()
        go.wait(60)  # the watch stays open: it isn't its end that ends the wait

    server.scripts = [script]
    cluster = server.cluster()
    cluster.wait_for_changes(0)
    until(lambda: server.watched == {DEPLOYMENTS, PODS})
    assert cluster.wait_for_changes(0) is None  # both lists were read: anything may have changed
    go.set()
    assert cluster.wait_for_changes(60) == {"shop"}
    go.set()


def test_a_watch_that_ends_or_breaks_is_taken_up_where_it_was(server: ApiServer) -> None:
    def ends(handler: Any) -> None:
        handler.event("MODIFIED", "101")
        handler.event("BOOKMARK", "150")

    def breaks(handler: Any) -> None:
        handler.event("MODIFIED", "160")
        handler.chunk(b'{"type": "MODI')
        handler.connection.shutdown(socket.SHUT_RDWR)

    server.scripts = [ends, breaks]
    server.cluster().wait_for_changes(0.1)
    until(lambda: len(server.watches) >= 3)
    assert [query["resourceVersion"] for query in server.watches[:3]] == ["100", "150", "160"]
    assert all(query["allowWatchBookmarks"] == "true" for query in server.watches)


def test_a_watch_whose_version_is_too_old_lists_anew(server: ApiServer) -> None:
    def gone(handler: Any) -> None:
        body = {"type": "ERROR", "object": {"code": 410, "message": "too old resource version"}}
        handler.chunk(json.dumps(body).encode() + b"\n")

    server.scripts = [gone]
    server.cluster().wait_for_changes(0.1)
    until(lambda: len(server.watches) >= 2)
    assert [query["resourceVersion"] for query in server.watches[:2]] == ["100", "100"]
    assert server.lists >= 3  # two for the two kinds, one anew


def test_a_watch_that_breaks_without_a_word_lists_anew(server: ApiServer) -> None:
    """As from a version that a cluster, restored from a backup, hasn't come to again."""
    server.scripts = [lambda handler: handler.connection.shutdown(socket.SHUT_RDWR)] * 2
    server.cluster().wait_for_changes(0.1)
    until(lambda: len(server.watches) >= 4)
    assert server.lists >= 4  # two for the two kinds, two anew


def test_while_the_server_fails_waiting_ends_in_time_and_the_watch_comes_back(server: ApiServer) -> None:
    server.status = 503
    cluster = server.cluster()
    waiting = threading.Thread(target=cluster.wait_for_changes, args=(0.1,), daemon=True)
    waiting.start()
    waiting.join(60)
    assert not waiting.is_alive()
    server.status = 200
    until(lambda: bool(server.watches))


class Pauses:
    """In place of sleep: what was slept, and after five times for ever."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.enough = threading.Event()

    def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        if len(self.seconds) == 5:
            self.enough.set()
            threading.Event().wait()


@pytest.mark.parametrize("down", [False, True], ids=["breaks at once", "down"])
def test_a_watch_that_does_not_last_is_tried_after_ever_longer_pauses(
    server: ApiServer, monkeypatch: pytest.MonkeyPatch, *, down: bool
) -> None:
    monkeypatch.setattr(feed, "_STEADY_SECONDS", math.inf)  # however slow this machine is, none of them lasted
    server.scripts = [lambda handler: handler.connection.shutdown(socket.SHUT_RDWR)] * 10
    pauses, lines = Pauses(), io.StringIO()
    changes = ChangeFeed(server.api(), (DEPLOYMENTS,), "", Log(stream=lines), sleep=pauses)
    if down:
        server.http.shutdown()
        server.http.server_close()
    changes.wait(0)
    assert pauses.enough.wait(60)
    assert pauses.seconds == [0.2, 0.4, 0.8, 1.6, 3.2]
    assert len(lines.getvalue().splitlines()) <= 5


def test_a_watch_that_lasted_is_taken_up_soon(server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "_STEADY_SECONDS", -1.0)  # each of them lasted
    pauses = Pauses()
    ChangeFeed(server.api(), (DEPLOYMENTS,), "", Log(stream=io.StringIO()), sleep=pauses).wait(0)
    assert pauses.enough.wait(60)
    assert pauses.seconds == [0.1] * 5
