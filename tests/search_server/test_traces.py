"""The spans of a pod's start: its server tells of its pull and its proof once they are over, and waits for nobody."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import plain_http
from tests.collector import Collector, collecting

Start = Callable[..., Any]

TRACE, ROLLOUT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
BEGAN = 1764201600.25


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as it:
        yield it


def traced(build: Any, collector: Collector, folder: Path) -> dict[str, str]:
    """The environment of a pod whose Deployment names a collector, after a pull of two seconds."""
    figures = folder / "pull-figures.json"
    figures.write_text(json.dumps({"bytes": 1234, "seconds": 2.0, "started": BEGAN}))
    return {
        **build.environment(),
        "PULL_FIGURES": str(figures),
        "TRACEPARENT": f"00-{TRACE}-{ROLLOUT}-01",
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
    }


def test_a_pod_tells_of_its_pull_and_its_proof(
    good_build: Any, start: Start, collector: Collector, tmp_path: Path
) -> None:
    start(traced(good_build, collector, tmp_path))
    found = collector.wait_for_all(lambda spans: spans if len(spans) == 6 else [])
    pull, proof = (next(span for span in found if span.name == name) for name in ("pull", "proof"))
    assert {(span.trace, span.parent) for span in (pull, proof)} == {(TRACE, ROLLOUT)}
    assert (pull.started, pull.ended, pull.attributes["indexpush.bytes"]) == (BEGAN, BEGAN + 2, "1234")
    assert proof.attributes["indexpush.outcome"] == "ready"
    steps = [span for span in found if span.parent == proof.span]
    assert sorted((span.name, span.attributes["indexpush.worker"]) for span in steps) == [
        ("golden queries", "0"),
        ("golden queries", "1"),
        ("open", "0"),
        ("open", "1"),
    ]
    assert all(proof.started <= span.started <= span.ended <= proof.ended for span in steps)


def test_a_server_that_starts_again_tells_the_same_of_the_pull(
    good_build: Any, start: Start, collector: Collector, tmp_path: Path
) -> None:
    for times in (1, 2):
        server = start(traced(good_build, collector, tmp_path))
        collector.wait_for_all(lambda spans, times=times: spans if len(spans) == 6 * times else [])
        server.stop()
    assert len({span.span for span in collector.spans if span.name == "pull"}) == 1
    assert len({span.span for span in collector.spans if span.name == "proof"}) == 2


def test_a_pod_that_can_not_prove_itself_says_why(
    build: Any, start: Start, collector: Collector, tmp_path: Path
) -> None:
    random.Random(1).shuffle(build.ids["chairs"])
    build.write_ids()
    build.seal()
    status, _ = start(traced(build, collector, tmp_path), wait=False).wait(90)
    assert status == 65
    proof = collector.wait_for(lambda span: span.name == "proof")
    assert proof.failed is not None
    assert proof.failed.startswith("golden query 'chair-0' of 'chairs'")
    assert (proof.attributes["error.type"], proof.attributes["indexpush.outcome"]) == ("proof-failed", "failed")
    assert {span.name for span in collector.spans} == {"pull", "proof", "open"}


def test_a_collector_that_hangs_keeps_no_pod_from_being_ready_or_from_leaving(
    good_build: Any, start: Start, collector: Collector, tmp_path: Path
) -> None:
    collector.going_on.clear()
    environment = traced(good_build, collector, tmp_path) | {"OTEL_EXPORTER_OTLP_TIMEOUT": "3600", "DRAIN_SECONDS": "0"}
    server = start(environment)
    with collector.arrived:
        assert collector.arrived.wait_for(lambda: collector.requests, 60)
    assert plain_http.get(f"{server.url}/readyz").status_code == 200
    server.terminate()
    assert server.wait()[0] == 0
    assert collector.spans == []


@pytest.mark.parametrize("missing", ["TRACEPARENT", "OTEL_EXPORTER_OTLP_ENDPOINT"])
def test_without_a_collector_or_a_trace_nothing_is_imported(
    good_build: Any, start: Start, collector: Collector, tmp_path: Path, missing: str
) -> None:
    environment = traced(good_build, collector, tmp_path)
    del environment[missing]
    server = start(environment)
    mapped = Path(f"/proc/{server.process.pid}/maps").read_text()
    assert "google/_upb" not in mapped, "protobuf's, which spans go by"
    assert collector.requests == []
