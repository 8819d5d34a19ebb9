"""The deployed folder as a process: the real functions-framework, events over HTTP, and real servers around it."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from local_stack.bucket_server import create_bucket
from model_repository.bucket.gcs_store import GcsStore
from model_repository.documents.receipts.receipt import Outcome
from model_repository.names import Target
from model_repository.repository import read_receipt
from tests.collector import collecting
from tests.on_commit.deployed_folder import ROOT, VENDOR, Deployed, RunningOnCommit, deploy, running
from tests.on_commit.doubles import TOPIC, serve_pubsub, serve_webhook

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Deployed:
    return deploy(tmp_path_factory.mktemp("deployed"))


@pytest.fixture(scope="module")
def function(
    deployed: Deployed,
    bucket_server: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[RunningOnCommit]:
    bucket = f"tests-{uuid.uuid4().hex[:12]}"
    create_bucket(bucket_server, bucket)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STORAGE_EMULATOR_HOST", bucket_server)
        store = GcsStore(bucket)
    with serve_webhook() as webhook, serve_pubsub() as (topics, pubsub_address):
        environment = deployed.environment(
            MODEL_REPOSITORY=f"gs://{bucket}",
            CD_WEBHOOK_URL=webhook.url,
            NOTIFY_TOPIC=TOPIC,
            STORAGE_EMULATOR_HOST=bucket_server,
            PUBSUB_EMULATOR_HOST=pubsub_address,
            GOOGLE_CLOUD_PROJECT="a-project",
        )
        log = tmp_path_factory.mktemp("function") / "stderr.txt"
        with running(deployed, environment, log) as url:
            yield RunningOnCommit(url, log, bucket, store, webhook, topics)


@pytest.fixture(autouse=True)
def _fresh(request: pytest.FixtureRequest) -> None:
    if "function" in request.fixturenames:
        function: RunningOnCommit = request.getfixturevalue("function")
        function.webhook.status = 200
        function.webhook.requests.clear()


def test_the_event_of_cloud_storage_deploys_the_live_commit(function: RunningOnCommit) -> None:
    function.publish("chairs")
    generation = function.commit("chairs")
    parent = f"00-{TRACE}-00f067aa0ba902b7-01"
    assert function.storage_event("commits/staging/chairs.json", traceparent=parent) == 200
    (parameters,) = function.webhook.parameters()
    assert parameters["generation"] == str(generation)
    assert parameters["index_prefix"] == "indexes/chairs/b1"
    assert function.webhook.requests[0].headers["traceparent"] == parent
    mine = [line for line in function.lines() if line.get("index") == "chairs"]
    assert {line["logging.googleapis.com/trace"] for line in mine} == {f"projects/a-project/traces/{TRACE}"}
    assert mine[-1]["outcome"] == "accepted"


def test_a_notification_in_a_pubsub_message_does_the_same(function: RunningOnCommit) -> None:
    function.publish("lamps")
    generation = function.commit("lamps")
    push = function.notification("commits/staging/lamps.json")
    other_trace = "a" * 32
    assert function.pubsub_event(push, traceparent=f"00-{other_trace}-00f067aa0ba902b7-01") == 200
    assert [p["generation"] for p in function.webhook.parameters()] == [str(generation)]
    assert (
        other_trace
        in [line for line in function.lines() if line.get("index") == "lamps"][-1]["logging.googleapis.com/trace"]
    )


def test_a_plain_pubsub_push_does_the_same(function: RunningOnCommit) -> None:
    function.publish("beds")
    function.commit("beds")
    body = json.dumps(function.notification("commits/staging/beds.json")).encode()
    headers = {"Content-Type": "application/json", "X-Cloud-Trace-Context": f"{TRACE}/1;o=1"}
    assert function.post(headers, body) == 200
    assert [p["index"] for p in function.webhook.parameters()] == ["beds"]


def test_an_event_whose_body_was_damaged_still_says_which_commit(function: RunningOnCommit) -> None:
    function.publish("stools")
    function.commit("stools")
    assert function.storage_event("commits/staging/stools.json", body=b'{"bucket": "te') == 200
    assert [p["index"] for p in function.webhook.parameters()] == ["stools"]


def test_a_build_that_is_not_whole_is_acknowledged_reported_and_receipted(function: RunningOnCommit) -> None:
    function.publish("sofas")
    function.store.write("indexes/sofas/b1/0.annoy", b"cut", if_generation_match=None)
    generation = function.commit("sofas")
    assert function.storage_event("commits/staging/sofas.json") == 200
    assert [asked[:2] for asked in function.webhook.requests] == [("GET", "/v1/deployments")]
    receipt = read_receipt(function.store, Target("staging", "sofas"), generation)
    assert (receipt.outcome, receipt.code) == (Outcome.REJECTED, "build-incomplete")
    refusal = function.refusals.wait_for(TOPIC, lambda message: message.attributes["index"] == "sofas", 60)
    assert refusal is not None
    assert json.loads(refusal.data)["detail"] == receipt.detail
    line = [line for line in function.lines() if line.get("index") == "sofas"][-1]
    assert (line["severity"], line["code"], line["generation"]) == ("ERROR", "build-incomplete", generation)


def test_trouble_that_may_pass_brings_the_event_back_and_the_log_stays_json(function: RunningOnCommit) -> None:
    function.publish("rugs")
    function.commit("rugs")
    function.webhook.status = 503
    assert function.storage_event("commits/staging/rugs.json") == 503
    function.webhook.status = 200
    assert function.storage_event("commits/staging/rugs.json") == 200
    assert "webhook-unavailable" in [line.get("code") for line in function.lines()]


def test_other_objects_and_garbage_are_acknowledged(function: RunningOnCommit) -> None:
    assert function.storage_event("indexes/chairs/b1/index.json") == 200
    assert function.storage_event("commits/staging/gone.json") == 200
    assert function.pubsub_event({"message": "garbage"}) == 200
    assert function.pubsub_event(function.message(eventType="OBJECT_DELETE")) == 200
    assert function.webhook.requests == []


def test_a_message_asks_for_a_sweep_that_finds_a_lost_commit(function: RunningOnCommit) -> None:
    function.publish("taps")
    function.commit("taps")  # and its event is lost
    assert function.pubsub_event(function.message(sweep="true")) == 200
    assert "taps" in [parameters["index"] for parameters in function.webhook.parameters()]


def test_a_misconfigured_function_keeps_the_event_and_says_why(deployed: Deployed, tmp_path: Path) -> None:
    log = tmp_path / "stderr.txt"
    with running(deployed, deployed.environment(MODEL_REPOSITORY="a-bucket"), log) as url:
        request = urllib.request.Request(url, b"{}", method="POST")
        request.add_header("Content-Type", "application/json")
        for name, value in (("specversion", "1.0"), ("id", "1"), ("source", "s"), ("type", "t")):
            request.add_header(f"ce-{name}", value)
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request, timeout=60)
        with caught.value as answer:
            assert answer.code == 503
    (line,) = [json.loads(line) for line in log.read_text().splitlines()]
    assert "MODEL_REPOSITORY: 'a-bucket': expected gs://<bucket>" in line["message"]
    assert "CD_WEBHOOK_URL is not set" in line["message"]


def test_the_set_up_check_runs_where_the_function_does(deployed: Deployed) -> None:
    check = [str(deployed.python), "main.py", "--check"]
    found = subprocess.run(
        check, cwd=deployed.folder, env=deployed.environment(), capture_output=True, text=True, check=False
    )
    assert found.returncode == 64
    assert [line.split()[:2] for line in found.stdout.splitlines()] == [
        ["WRONG", "MODEL_REPOSITORY"],
        ["WRONG", "CD_WEBHOOK_URL"],
    ]


def test_a_copy_of_an_older_contract_is_replaced_whole(tmp_path: Path) -> None:
    (tmp_path / "model_repository").mkdir()
    (tmp_path / "model_repository" / "gone.py").write_text("")
    subprocess.run([sys.executable, str(VENDOR), str(tmp_path)], check=True)
    copied, original = tmp_path / "model_repository", ROOT / "model_repository"
    assert contents(copied) == contents(original)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.py")}


def test_its_spans_reach_a_collector_and_one_that_hangs_keeps_no_event_waiting(
    function: RunningOnCommit, deployed: Deployed, bucket_server: str, tmp_path: Path
) -> None:
    parent = f"00-{TRACE}-00f067aa0ba902b7-01"
    function.publish("sofas")
    function.commit("sofas")
    with collecting() as collector:
        environment = deployed.environment(
            MODEL_REPOSITORY=f"gs://{function.bucket}",
            CD_WEBHOOK_URL=function.webhook.url,
            STORAGE_EMULATOR_HOST=bucket_server,
            OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
            OTEL_EXPORTER_OTLP_TIMEOUT="3600",  # seconds, should anybody wait for it
        )
        collector.going_on.clear()
        with running(deployed, environment, tmp_path / "stderr.txt") as url:
            traced = RunningOnCommit(
                url, tmp_path / "stderr.txt", function.bucket, function.store, function.webhook, function.refusals
            )
            assert traced.storage_event("commits/staging/sofas.json", traceparent=parent) == 200
            assert collector.spans == []
            collector.going_on.set()
            asked = collector.wait_for(lambda span: span.name == "ask webhook")
    assert asked.trace == TRACE
    _, _, headers, body = function.webhook.requests[0]
    assert headers["traceparent"] == f"00-{TRACE}-{asked.span}-01"
    assert json.loads(body)["parameters"]["traceparent"] == headers["traceparent"], "for a Spinnaker's pods"
