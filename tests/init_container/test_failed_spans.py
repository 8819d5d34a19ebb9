"""A pull that fails is in its commit's trace: each try of a pod, with the code and the reason."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from http import HTTPStatus

import pytest

from tests.collector import Collector, collecting
from tests.init_container.faulty_bucket import FaultyBucket, status
from tests.init_container.pull_scene import PREFIX, Build, Puller

TRACE, ROLLOUT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.fixture
def processes() -> str:
    """One is enough: what is recorded is the first one's to say."""
    return "1"


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as it:
        yield it


@pytest.fixture
def traced(puller: Puller, collector: Collector) -> Puller:
    """A puller whose Deployment names a collector and a rollout's span."""
    puller.settings |= {
        "COMMIT_GENERATION": "1764201600000001",
        "TRACEPARENT": f"00-{TRACE}-{ROLLOUT}-01",
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
    }
    return puller


def test_every_try_that_fails_has_a_span_and_the_one_that_succeeds_leaves_its_own_to_the_server(
    bucket: FaultyBucket, traced: Puller, collector: Collector
) -> None:
    bucket.fail(status(503), times=float("inf"), match="big.ann")
    before = time.time()
    tries = [traced.run(ATTEMPTS="2") for _ in range(2)]
    bucket.put(PREFIX.manifest, b"{}")
    tries.append(traced.run())
    assert [it.code for it in tries] == [os.EX_TEMPFAIL, os.EX_TEMPFAIL, os.EX_DATAERR]
    found = collector.spans
    assert [(it.name, it.trace, it.parent, it.service) for it in found] == [
        ("pull", TRACE, ROLLOUT, "indexpush-search")
    ] * 3
    assert [it.failed for it in found] == [it.message for it in tries]
    codes = [it.attributes["error.type"] for it in found]
    assert codes == [it.lines[-1]["code"] for it in tries]
    assert codes[0] == "bucket-unavailable"
    assert len({it.span for it in found}) == 3
    assert before < found[0].started < found[0].ended < found[1].started < time.time()
    about = found[0].attributes
    assert (about["indexpush.index"], about["indexpush.build"]) == ("shop", str(PREFIX))
    assert (about["indexpush.generation"], about["indexpush.outcome"]) == ("1764201600000001", "failed")
    assert about["indexpush.pod"]


def test_a_try_s_span_says_how_far_it_came(
    bucket: FaultyBucket, build: Build, traced: Puller, collector: Collector
) -> None:
    bucket.holds_at = 4e6  # there the bucket waits, and the puller for it
    process = traced.start(PROGRESS_SECONDS="0.05", STALL_SECONDS="600")
    assert process.stderr is not None
    with process.stderr as lines:
        while json.loads(lines.readline()).get("bytes", 0) < 2e6:
            pass
        process.send_signal(signal.SIGTERM)
        last = json.loads(lines.read().splitlines()[-1])
    assert process.wait() == os.EX_TEMPFAIL
    (found,) = collector.spans
    assert (found.attributes["error.type"], found.failed) == ("stopped", last["message"])
    assert 1e6 < int(found.attributes["indexpush.bytes"]) < sum(map(len, build.objects.values()))


def test_settings_that_make_no_sense_are_told_of_too(traced: Puller, collector: Collector) -> None:
    outcome = traced.run(MODEL_REPOSITORY="gs://")
    assert outcome.code == os.EX_USAGE
    (found,) = collector.spans
    assert (found.attributes["error.type"], found.failed) == ("misconfigured", outcome.message)
    assert "indexpush.build" not in found.attributes


@pytest.mark.parametrize("trouble", ["hangs", "is away", "refuses"])
def test_a_collector_in_trouble_changes_neither_exit_code_nor_last_words(
    traced: Puller, collector: Collector, trouble: str
) -> None:
    if trouble == "hangs":
        collector.going_on.clear()
    elif trouble == "refuses":
        collector.status = HTTPStatus.BAD_REQUEST
    else:
        traced.settings["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://127.0.0.1:9"
    outcome = traced.run(INDEX_DIGEST=f"sha256:{'0' * 64}", OTEL_EXPORTER_OTLP_TIMEOUT="3600")
    assert outcome.code == os.EX_DATAERR
    assert "index.json" in outcome.last_words
    assert collector.spans == []


@pytest.mark.parametrize("missing", ["TRACEPARENT", "OTEL_EXPORTER_OTLP_ENDPOINT"])
def test_without_a_collector_or_a_trace_nothing_is_told(traced: Puller, collector: Collector, missing: str) -> None:
    del traced.settings[missing]
    assert traced.run(INDEX_DIGEST=f"sha256:{'0' * 64}").code == os.EX_DATAERR
    assert collector.requests == []


def test_a_pull_that_succeeds_tells_nothing_itself(traced: Puller, collector: Collector) -> None:
    assert traced.run().code == 0
    assert collector.requests == []
