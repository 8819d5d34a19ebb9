"""A function's folder as Cloud Run functions gets it: copied alone, with its locked requirements and nothing else."""

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
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from local_stack.pubsub import Topics
from model_repository.bucket.gcs_store import GcsStore
from model_repository.documents.commit import Commit
from model_repository.names import IndexPrefix, Target
from model_repository.repository import write_commit
from tests import builds
from tests.on_commit.doubles import WebhookServer

ROOT = Path(__file__).resolve().parents[2]
VENDOR = ROOT / "functions" / "vendor.py"
_STARTED_SECONDS = 100
"""Within this a function answers its first request, however busy the machine is."""


@dataclass(frozen=True)
class Deployed:
    """The folder alone, and the Python that has its requirements and nothing else."""

    folder: Path
    python: Path

    def environment(self, **variables: str) -> dict[str, str]:
        """A bare environment."""
        return {"PATH": f"{self.python.parent}:/usr/bin:/bin", "LANG": "C.UTF-8"} | variables


def deploy(top: Path, function: str = "on_commit") -> Deployed:
    """Copy what gcloud would upload, put the contract beside it, and install the locked requirements."""
    folder = top / function
    source = ROOT / "functions" / function
    ignored = [
        line.strip("/ ") for line in (source / ".gcloudignore").read_text().splitlines() if not line.startswith("#")
    ]
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns(*ignored))
    subprocess.run([sys.executable, str(VENDOR), str(folder)], check=True, capture_output=True)
    uv = shutil.which("uv") or str(Path(sys.executable).parent / "uv")
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, str(top / "venv")], check=True)
    python = top / "venv" / "bin" / "python"
    install = [uv, "pip", "install", "--quiet", "--python", str(python), "--require-hashes", "-r", "requirements.txt"]
    subprocess.run(install, check=True, cwd=folder)
    return Deployed(folder, python)


@contextmanager
def running(deployed: Deployed, environment: dict[str, str], log: Path) -> Iterator[str]:
    """Run the function under functions-framework; the value is its URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        str(deployed.python.parent / "functions-framework"),
        "--source",
        "main.py",
        "--target",
        deployed.folder.name,
    ]
    command += ["--signature-type", "cloudevent", "--host", "127.0.0.1", "--port", str(port)]
    with log.open("wb") as stderr:
        process = subprocess.Popen(command, cwd=deployed.folder, env=environment, stderr=stderr)
    url = f"http://127.0.0.1:{port}/"
    try:
        _wait_until_it_answers(url, process, log)
        yield url
    finally:
        process.terminate()
        process.wait()


def _wait_until_it_answers(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _STARTED_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=_STARTED_SECONDS).close()
        except urllib.error.HTTPError as error:  # 405: it takes POSTs
            error.close()
            return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.05)
    pytest.fail(f"the function did not start: {log.read_text()}")


@dataclass
class RunningFunction:
    """A function as a process, and its bucket."""

    url: str
    log: Path
    bucket: str
    store: GcsStore

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


@dataclass
class RunningOnCommit(RunningFunction):
    """The function that hears of commits, and all that is around it."""

    webhook: WebhookServer
    refusals: Topics

    def publish(self, index: str) -> None:
        """Upload build b1 of an index."""
        builds.publish_build(self.store, IndexPrefix(index, "b1"))

    def commit(self, index: str) -> int:
        """Commit build b1 to staging; the generation of the commit."""
        commit = Commit(IndexPrefix(index, "b1"))
        return write_commit(self.store, Target("staging", index), commit, if_generation_match=None).generation
