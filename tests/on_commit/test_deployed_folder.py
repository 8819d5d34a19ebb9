"""The folder as Cloud Run functions gets it: copied alone, its locked requirements in a clean environment, the real
functions-framework as a process, events over HTTP, a real bucket server, a real Pub/Sub and a real webhook."""

from __future__ import annotations

import base64
import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from local_stack.pubsub import Topics
from model_repository.commit import Commit
from model_repository.gcs_store import GcsStore
from model_repository.names import IndexPrefix, Target
from model_repository.receipt import Outcome
from model_repository.repository import read_receipt, write_commit

ROOT = Path(__file__).resolve().parents[2]
FUNCTION = ROOT / "functions" / "on_commit"
TOPIC = "projects/tests/topics/refusals"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@dataclass(frozen=True)
class Deployed:
    """The folder alone, and the Python that has its requirements and nothing else."""

    folder: Path
    python: Path

    def environment(self, **variables: str) -> dict[str, str]:
        """A bare environment."""
        return {"PATH": f"{self.python.parent}:/usr/bin:/bin", "LANG": "C.UTF-8"} | variables


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Deployed:
    top = tmp_path_factory.mktemp("deployed")
    folder = top / "on_commit"
    ignored = [
        line.strip("/ ") for line in (FUNCTION / ".gcloudignore").read_text().splitlines() if not line.startswith("#")
    ]
    shutil.copytree(FUNCTION, folder, ignore=shutil.ignore_patterns(*ignored))
    vendor = [sys.executable, str(ROOT / "functions" / "vendor.py"), str(folder)]
    subprocess.run(vendor, check=True, capture_output=True)
    uv = shutil.which("uv") or str(Path(sys.executable).parent / "uv")
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, str(top / "venv")], check=True)
    python = top / "venv" / "bin" / "python"
    install = [uv, "pip", "install", "--quiet", "--python", str(python), "--require-hashes", "-r", "requirements.txt"]
    subprocess.run(install, check=True, cwd=folder)
    return Deployed(folder, python)


@dataclass
class Running:
    """The function as a process, and all that is around it."""

    url: str
    log: Path
    bucket: str
    store: GcsStore
    webhook: Any
    refusals: Topics

    def post(self, headers: dict[str, str], body: bytes) -> int:
        """Deliver an event; returns the status."""
        request = urllib.request.Request(self.url, body, headers, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    def storage_event(self, name: str, body: bytes | None = None, **headers: str) -> int:
        """Deliver Cloud Storage's own event, in HTTP's binary mode."""
        data = {"kind": "storage#object", "bucket": self.bucket, "name": name, "generation": "1"}
        return self.post(
            {
                "Content-Type": "application/json",
                "ce-specversion": "1.0",
                "ce-id": uuid.uuid4().hex,
                "ce-type": "google.cloud.storage.object.v1.finalized",
                "ce-source": f"//storage.googleapis.com/projects/_/buckets/{self.bucket}",
                "ce-subject": f"objects/{name}",
            }
            | headers,
            json.dumps(data).encode() if body is None else body,
        )

    def message(self, **attributes: str) -> dict[str, Any]:
        """A Pub/Sub message as a push carries it."""
        data = base64.b64encode(b"{}").decode()
        return {"message": {"attributes": attributes, "data": data, "messageId": "7"}, "subscription": "s"}

    def notification(self, name: str) -> dict[str, Any]:
        """A bucket's notification, as a push carries it."""
        return self.message(eventType="OBJECT_FINALIZE", bucketId=self.bucket, objectId=name)

    def pubsub_event(self, push: dict[str, Any], **attributes: str) -> int:
        """Deliver a Pub/Sub message as a CloudEvent, in HTTP's structured mode."""
        event = {
            "specversion": "1.0",
            "id": uuid.uuid4().hex,
            "type": "google.cloud.pubsub.topic.v1.messagePublished",
            "source": "//pubsub.googleapis.com/projects/tests/topics/commits",
            "data": push,
        } | attributes
        return self.post({"Content-Type": "application/cloudevents+json"}, json.dumps(event).encode())

    def lines(self) -> list[dict[str, Any]]:
        """The log, every line of which must be JSON."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]


@pytest.fixture(scope="module")
def function(
    deployed: Deployed,
    bucket_server: str,
    tmp_path_factory: pytest.TempPathFactory,
    serve_webhook: Callable[[], AbstractContextManager[Any]],
    serve_pubsub: Callable[[], AbstractContextManager[tuple[Topics, str]]],
) -> Iterator[Running]:
    bucket = f"tests-{uuid.uuid4().hex[:12]}"
    body = json.dumps({"name": bucket}).encode()
    urllib.request.urlopen(
        urllib.request.Request(f"{bucket_server}/storage/v1/b?project=tests", body, method="POST"), timeout=10
    ).close()
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
        with _running(deployed, environment, log) as url:
            yield Running(url, log, bucket, store, webhook, topics)


@pytest.fixture(autouse=True)
def _fresh(request: pytest.FixtureRequest) -> None:
    if "function" in request.fixturenames:
        function: Running = request.getfixturevalue("function")
        function.webhook.status = 200
        function.webhook.requests.clear()


class _running(AbstractContextManager[str]):  # noqa: N801 - used as a function
    """Runs the function; the value is its URL."""

    def __init__(self, deployed: Deployed, environment: dict[str, str], log: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = [str(deployed.python.parent / "functions-framework"), "--source", "main.py", "--target", "on_commit"]
        command += ["--signature-type", "cloudevent", "--host", "127.0.0.1", "--port", str(port)]
        self._url = f"http://127.0.0.1:{port}/"
        self._log = log
        with log.open("wb") as stderr:
            self._process = subprocess.Popen(command, cwd=deployed.folder, env=environment, stderr=stderr)

    def __enter__(self) -> str:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                urllib.request.urlopen(self._url, timeout=5).close()
            except urllib.error.HTTPError as error:  # 405: it takes POSTs
                error.close()
                return self._url
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.05)
        self.__exit__()
        pytest.fail(f"the function did not start: {self._log.read_text()}")

    def __exit__(self, *_error: object) -> None:
        self._process.terminate()
        self._process.wait(20)


def commit(function: Running, index: str, build: str = "b1") -> int:
    target = Target("staging", index)
    return write_commit(function.store, target, Commit(IndexPrefix(index, build)), if_generation_match=None).generation


def test_the_event_of_cloud_storage_deploys_the_live_commit(
    function: Running, publish_build: Callable[..., Any]
) -> None:
    publish_build(function.store, "indexes/chairs/b1")
    generation = commit(function, "chairs")
    parent = f"00-{TRACE}-00f067aa0ba902b7-01"
    assert function.storage_event("commits/staging/chairs.json", traceparent=parent) == 200
    (parameters,) = function.webhook.parameters()
    assert parameters["generation"] == str(generation)
    assert parameters["index_prefix"] == "indexes/chairs/b1"
    assert function.webhook.requests[0][2]["traceparent"] == parent
    mine = [line for line in function.lines() if line.get("index") == "chairs"]
    assert {line["logging.googleapis.com/trace"] for line in mine} == {f"projects/a-project/traces/{TRACE}"}
    assert mine[-1]["outcome"] == "accepted"


def test_a_notification_in_a_pubsub_message_does_the_same(function: Running, publish_build: Callable[..., Any]) -> None:
    publish_build(function.store, "indexes/lamps/b1")
    generation = commit(function, "lamps")
    push = function.notification("commits/staging/lamps.json")
    other_trace = "a" * 32
    assert function.pubsub_event(push, traceparent=f"00-{other_trace}-00f067aa0ba902b7-01") == 200
    assert [p["generation"] for p in function.webhook.parameters()] == [str(generation)]
    assert (
        other_trace
        in [line for line in function.lines() if line.get("index") == "lamps"][-1]["logging.googleapis.com/trace"]
    )


def test_a_plain_pubsub_push_does_the_same(function: Running, publish_build: Callable[..., Any]) -> None:
    publish_build(function.store, "indexes/beds/b1")
    commit(function, "beds")
    body = json.dumps(function.notification("commits/staging/beds.json")).encode()
    headers = {"Content-Type": "application/json", "X-Cloud-Trace-Context": f"{TRACE}/1;o=1"}
    assert function.post(headers, body) == 200
    assert [p["index"] for p in function.webhook.parameters()] == ["beds"]


def test_an_event_whose_body_was_damaged_still_says_look(function: Running, publish_build: Callable[..., Any]) -> None:
    publish_build(function.store, "indexes/desks/b1")
    commit(function, "desks")
    assert function.storage_event("commits/staging/desks.json", body=b'{"bucket": "te') == 200
    assert [p["index"] for p in function.webhook.parameters()] == ["desks"]


def test_a_build_that_is_not_whole_is_acknowledged_reported_and_receipted(
    function: Running, publish_build: Callable[..., Any]
) -> None:
    publish_build(function.store, "indexes/sofas/b1")
    function.store.write("indexes/sofas/b1/chair.annoy", b"cut", if_generation_match=None)
    generation = commit(function, "sofas")
    assert function.storage_event("commits/staging/sofas.json") == 200
    assert function.webhook.requests == []
    receipt = read_receipt(function.store, Target("staging", "sofas"), generation)
    assert (receipt.outcome, receipt.code) == (Outcome.REJECTED, "build-incomplete")
    report = function.refusals.wait_for(TOPIC, lambda message: message.attributes["index"] == "sofas", 10)
    assert report is not None
    assert json.loads(report.data)["detail"] == receipt.detail
    line = [line for line in function.lines() if line.get("index") == "sofas"][-1]
    assert (line["severity"], line["code"], line["generation"]) == ("ERROR", "build-incomplete", generation)


def test_trouble_that_may_pass_brings_the_event_back_and_the_log_stays_json(
    function: Running, publish_build: Callable[..., Any]
) -> None:
    publish_build(function.store, "indexes/rugs/b1")
    commit(function, "rugs")
    function.webhook.status = 503
    assert function.storage_event("commits/staging/rugs.json") == 503
    function.webhook.status = 200
    assert function.storage_event("commits/staging/rugs.json") == 200
    assert "webhook-unavailable" in [line.get("code") for line in function.lines()]


def test_other_objects_and_garbage_are_acknowledged(function: Running) -> None:
    assert function.storage_event("indexes/chairs/b1/index.json") == 200
    assert function.storage_event("commits/staging/gone.json") == 200
    assert function.pubsub_event({"message": "garbage"}) == 200
    assert function.pubsub_event(function.message(eventType="OBJECT_DELETE")) == 200
    assert function.webhook.requests == []


def test_a_message_asks_for_a_sweep_that_finds_a_lost_commit(
    function: Running, publish_build: Callable[..., Any]
) -> None:
    publish_build(function.store, "indexes/taps/b1")
    commit(function, "taps")  # and its event is lost
    assert function.pubsub_event(function.message(sweep="true")) == 200
    assert "taps" in [parameters["index"] for parameters in function.webhook.parameters()]


def test_a_misconfigured_function_keeps_the_event_and_says_why(deployed: Deployed, tmp_path: Path) -> None:
    log = tmp_path / "stderr.txt"
    with _running(deployed, deployed.environment(MODEL_REPOSITORY="a-bucket"), log) as url:
        request = urllib.request.Request(url, b"{}", method="POST")
        request.add_header("Content-Type", "application/json")
        for name, value in (("specversion", "1.0"), ("id", "1"), ("source", "s"), ("type", "t")):
            request.add_header(f"ce-{name}", value)
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request, timeout=20)
        with caught.value as answer:
            assert answer.code == 503
    (line,) = [json.loads(line) for line in log.read_text().splitlines()]
    assert "MODEL_REPOSITORY is 'a-bucket'" in line["message"]
    assert "CD_WEBHOOK_URL is not set" in line["message"]


@pytest.mark.parametrize("entry", [["main.py"], ["-m", "on_commit"]])
def test_the_set_up_check_runs_where_the_function_does(deployed: Deployed, entry: list[str]) -> None:
    check = [str(deployed.python), *entry, "--check"]
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
    subprocess.run([sys.executable, str(ROOT / "functions" / "vendor.py"), str(tmp_path)], check=True)
    copied = {path.name: path.read_bytes() for path in (tmp_path / "model_repository").iterdir()}
    assert copied == {path.name: path.read_bytes() for path in (ROOT / "model_repository").iterdir() if path.is_file()}
