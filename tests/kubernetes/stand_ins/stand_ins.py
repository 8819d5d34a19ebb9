"""Stands for Google in the test's cluster: the bucket, Pub/Sub, and the push to the function; one process in one pod.

Besides what Google's clients speak, it says what happened, and takes the bucket down when a test asks for it:

    GET  /healthz                       ok once everything answers
    GET  /uploads                       {"<object>": how often it was written}
    GET  /notifications                 what was published on the topic "notify", oldest first
    GET  /attempts                      every delivery to the function: object, generation, status, seconds
    POST /bucket/stop, /bucket/start    no connection to the bucket in between
    POST /deliver-again/<object>        the object's newest event once more
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import urllib.request
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from local_stack.bucket_server import binary, create_bucket
from local_stack.delivery import DeliveryPolicy, PushDelivery
from local_stack.processes import base_environment
from local_stack.pubsub import Message, PubSubServer, Topics, topic_name

BUCKET_PORT, PUBSUB_PORT, CONTROL_PORT = 4443, 8085, 8090
PROJECT = "local"
NOT_DELIVERED = "text/x-not-delivered"
"""The content type of a commit that the function isn't told of: the test asks a webhook itself."""


class Bucket:
    """The bucket server as a child that can be stopped and started; its files stay."""

    def __init__(self, address: str) -> None:
        self._command = [str(binary()), "-scheme", "http", "-host", "0.0.0.0", "-port", str(BUCKET_PORT)]
        self._command += ["-backend", "filesystem", "-filesystem-root", "/data", "-log-level", "error"]
        self._command += ["-external-url", f"http://{address}", "-public-host", address]
        self._command += [
            "-event.pubsub-project-id",
            PROJECT,
            "-event.pubsub-topic",
            "changes",
            "-event.list",
            "finalize",
        ]
        self._server: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        environment = base_environment() | {"PUBSUB_EMULATOR_HOST": f"127.0.0.1:{PUBSUB_PORT}"}
        self._server = subprocess.Popen(self._command, env=environment)
        while not self._answers():
            if self._server.poll() is not None:
                raise RuntimeError(f"the bucket server ended with {self._server.returncode}")
            threading.Event().wait(0.02)

    def stop(self) -> None:
        if self._server:
            self._server.kill()
            self._server.wait()

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{BUCKET_PORT}/_internal/healthcheck", timeout=1) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


class StandIns:
    """Everything together."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.uploads: Counter[str] = Counter()
        self.topics = Topics()
        for topic in ("changes", "notify"):
            self.topics.create(topic_name(PROJECT, topic))
        self.bucket = Bucket(environment["BUCKET_ADDRESS"])
        policy = DeliveryPolicy(duplicates=0.25, longest_wait=2.0)
        self.delivery = PushDelivery(environment["FUNCTION_URL"], f"projects/{PROJECT}/subscriptions/on-commit", policy)
        self._pubsub = PubSubServer(self.topics, f"0.0.0.0:{PUBSUB_PORT}")

    def start(self, bucket: str) -> None:
        self._pubsub.start()
        self.topics.subscribe(topic_name(PROJECT, "changes"), self._changed)
        self.bucket.start()
        create_bucket(f"http://127.0.0.1:{BUCKET_PORT}", bucket)

    def _changed(self, message: Message) -> None:
        name = message.attributes.get("objectId", "")
        self.uploads[name] += 1
        quiet = json.loads(message.data or b"{}").get("contentType") == NOT_DELIVERED
        if name.startswith(("commits/", "filters/")) and not quiet:  # as two notifications of a bucket do it
            self.delivery.deliver(message)

    def say(self, path: str) -> Any:
        if path == "/uploads":
            return dict(self.uploads)
        if path == "/notifications":
            return [json.loads(message.data) for message in self.topics.messages(topic_name(PROJECT, "notify"))]
        if path == "/attempts":
            return [
                {
                    "object": attempt.message.attributes.get("objectId"),
                    "generation": attempt.message.attributes.get("objectGeneration"),
                    "status": attempt.status,
                    "began": attempt.began,
                    "seconds": attempt.seconds,
                }
                for attempt in self.delivery.attempts()
            ]
        return "ok" if path == "/healthz" else None

    def act(self, path: str) -> Any:
        acts = {"/bucket/stop": self.bucket.stop, "/bucket/start": self.bucket.start}
        if path in acts:
            acts[path]()
            return "done"
        name = path.removeprefix("/deliver-again/")
        events = [a.message for a in self.delivery.attempts() if a.message.attributes.get("objectId") == name]
        if not events:
            return None
        self.delivery.deliver(max(events, key=lambda message: message.published))
        return "done"


def handler(stand_ins: StandIns) -> type[BaseHTTPRequestHandler]:
    class Control(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(stand_ins.say(self.path))

        def do_POST(self) -> None:
            self._answer(stand_ins.act(self.path))

        def _answer(self, found: Any) -> None:
            body = json.dumps(found).encode()
            self.send_response(404 if found is None else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
            """Say nothing."""

    return Control


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    stand_ins = StandIns(dict(os.environ))
    Path("/data").mkdir(exist_ok=True)
    stand_ins.start(os.environ["BUCKET"])
    ThreadingHTTPServer(("0.0.0.0", CONTROL_PORT), handler(stand_ins)).serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
