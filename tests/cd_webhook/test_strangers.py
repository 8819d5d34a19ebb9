"""The listener of a real webhook process: what strangers can't do to it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from model_repository.deployment import PAYLOAD_LIMIT

ROOT = Path(__file__).resolve().parents[2]
URL = "/webhooks/webhook/indexpush"
TOKEN = "a-very-long-secret"
VALUES = "namespace: n\nimage: i\nservice_account: s\nreplicas: 1\n"


class Webhook:
    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process = process
        self.port = port

    def get(self, path: str) -> int:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=30) as answer:
            return int(answer.status)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def ask(self, *fields: str, body: bytes = b"") -> bytes:
        """Send a request, and read until the webhook ends the connection."""
        with self.connect() as wire:
            wire.sendall("\r\n".join([f"POST {URL} HTTP/1.1", "host: x", *fields, "", ""]).encode() + body)
            answer = b""
            while chunk := wire.recv(65536):
                answer += chunk
        return answer


def started(folder: Path, *, ulimit: str, port: int = 0) -> Webhook:
    """A webhook in a process that the shell's `ulimit <ulimit>` came before; it logs to log.txt in the folder."""
    (folder / "test.yaml").write_text(VALUES)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = port or int(probe.getsockname()[1])
    variables = {
        "ENVIRONMENT": "test",
        "ENVIRONMENTS": str(folder),
        "MODEL_REPOSITORY": "gs://memory",
        "STORAGE_EMULATOR_HOST": "http://127.0.0.1:1",
        "CLUSTER": "tests.cd_webhook.idle_cluster:connect",
        "WEBHOOK_TOKEN": TOKEN,
        "HOST": "127.0.0.1",
        "PORT": str(port),
    }
    command = ["sh", "-c", f'ulimit {ulimit} && exec "$0" -m cd_webhook', sys.executable]
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=os.environ | variables, stdout=log, stderr=log)
    return Webhook(process, port)


@contextmanager
def running(folder: Path, *, ulimit: str) -> Iterator[Webhook]:
    webhook = started(folder, ulimit=ulimit)
    log = folder / "log.txt"
    try:
        end = time.monotonic() + 60
        while not _ready(webhook):
            assert webhook.process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.05)
        yield webhook
    finally:
        webhook.process.terminate()
        assert webhook.process.wait(60) == 0, log.read_text()


def _ready(webhook: Webhook) -> bool:
    try:
        return webhook.get("/readyz") == 200
    except (urllib.error.URLError, OSError):
        return False


@pytest.fixture(scope="module")
def webhook(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Webhook]:
    with running(tmp_path_factory.mktemp("webhook"), ulimit="-n 256") as found:
        yield found


@pytest.mark.parametrize(
    "said",
    [b"", b"GET /livez HTTP/1.1\r\n", b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n"],
    ids=["nothing", "begun", "asked"],
)
def test_probes_are_answered_while_more_strangers_are_connected_than_files_may_be_open(
    webhook: Webhook, said: bytes
) -> None:
    with ExitStack() as strangers:
        for number in range(300):
            strangers.enter_context(webhook.connect()).sendall(said)
            if number % 20 == 0:
                assert webhook.get("/livez") == 200
        for path in ("/livez", "/readyz", "/metrics") * 5:
            assert webhook.get(path) == 200


def test_a_caller_is_checked_before_a_byte_of_the_body_is_read(webhook: Webhook) -> None:
    answer = webhook.ask("authorization: Bearer guess", "content-length: 60000")  # of which none comes
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert b"connection: close" in answer.lower()
    assert b"unauthenticated" in answer


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ([f"content-length: {PAYLOAD_LIMIT + 1}"], 413, "body-too-large"),
        (["x-long: " + "x" * 40_000], 431, "head-too-large"),
        (["content-length: minus one"], 400, "request-malformed"),
    ],
)
def test_what_passes_a_bound_is_refused_without_a_verdict(
    webhook: Webhook, fields: list[str], status: int, code: str
) -> None:
    head, _, body = webhook.ask(f"authorization: Bearer {TOKEN}", *fields).partition(b"\r\n\r\n")
    said = json.loads(body)
    assert (int(head.split()[1]), said["code"]) == (status, code)
    assert "outcome" not in said


def test_a_port_that_is_taken_is_75(webhook: Webhook, tmp_path: Path) -> None:
    assert started(tmp_path, ulimit="-n 256", port=webhook.port).process.wait(60) == 75
    assert "can-not-listen" in (tmp_path / "log.txt").read_text()


def test_it_opens_as_many_files_as_it_may_however_few_it_was_started_with(tmp_path: Path) -> None:
    with running(tmp_path, ulimit="-S -n 64") as webhook:
        limits = Path(f"/proc/{webhook.process.pid}/limits").read_text().splitlines()
        (soft, hard) = next(line.split()[3:5] for line in limits if line.startswith("Max open files"))
        assert soft == hard
