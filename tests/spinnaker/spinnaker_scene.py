"""A Spinnaker to deliver requests to: Echo's stand-in, then the real Orca, then a cluster's stand-in."""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
import uuid
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from manifests.spinnaker import Installation
from model_repository.deployment import DeploymentRequest
from model_repository.names import IndexPrefix, Target
from tests import builds
from tests.spinnaker.clouddriver_stand_in import Clouddriver
from tests.spinnaker.echo_stand_in import triggered

Fields = dict[str, Any]

TARGET = Target("production", "home-store")
BUCKET = "acme.models"
INSTALLATION = Installation(
    application="indexpush",
    account="prod-gke",
    source="indexpush",
    email="team@example.com",
    slack="indexes",
    run_as="",
)
SERVED_GENERATION = "indexpush.dev/served-generation"
"""The Service's annotation of what served last, as the pipeline writes it."""
PATIENCE = 300
"""Seconds that nothing needs, however busy the machine is."""
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
_UNFINISHED = {"NOT_STARTED", "BUFFERED", "RUNNING"}


def request_for(generation: int, build: str = "20261121t1200z", **fields: Any) -> DeploymentRequest:
    asked = builds.request(
        generation,
        TARGET,
        bucket=BUCKET,
        index_prefix=IndexPrefix("home-store", build),
        by="ann",
        reason="a better model",
    )
    return replace(asked, **fields)


class Refused(Exception):
    """Orca's answer outside of 2xx."""

    def __init__(self, status: int, body: str) -> None:
        super().__init__(f"{status}: {body}")
        self.status = status
        self.body = body


@dataclass(frozen=True)
class Run:
    """One execution of a pipeline, as Orca tells it."""

    fields: Fields

    @property
    def status(self) -> str:
        return str(self.fields["status"])

    def stage(self, name: str) -> Fields:
        (found,) = (stage for stage in self.fields["stages"] if stage["name"] == name)
        return dict(found)

    def statuses(self) -> dict[str, str]:
        """By the names that the pipeline gives its stages, not those that Orca puts in."""
        return {s["name"]: s["status"] for s in self.fields["stages"] if not s.get("parentStageId")}

    def messages(self) -> str:
        return json.dumps([stage["context"] for stage in self.fields["stages"]])


@dataclass
class Orca:
    """The orchestrator's two calls."""

    url: str

    def start(self, pipeline: Fields) -> str:
        """The path of the run. Raises `Refused`."""
        return str(self._call("/orchestrate", json.dumps(pipeline).encode())["ref"])

    def look(self, ref: str) -> Run:
        return Run(self._call(ref))

    def _call(self, path: str, body: bytes | None = None) -> Fields:
        request = urllib.request.Request(f"{self.url}{path}", body, {"Content-Type": "application/json"})
        try:
            with DIRECT.open(request, timeout=60) as answer:
                return dict(json.load(answer))
        except urllib.error.HTTPError as error:
            raise Refused(error.code, error.read().decode()) from None

    def finished(self, ref: str) -> Run:
        deadline = time.monotonic() + PATIENCE
        while (run := self.look(ref)).status in _UNFINISHED and time.monotonic() < deadline:
            time.sleep(0.1)
        assert run.status not in _UNFINISHED, run.statuses()
        return run


@dataclass(frozen=True)
class Posted:
    """What came of a webhook. refs: the runs that it started, or is another delivery of."""

    event_id: str
    refs: list[str]


@dataclass
class Spinnaker:
    """A Spinnaker in which the generated pipelines are saved: the webhook service before Orca before a cluster."""

    orca: Orca
    cluster: Clouddriver
    pipelines: list[Fields]

    def post(self, source: str, body: Fields) -> Posted:
        """POST /webhooks/webhook/`source`. Raises `Refused` if Orca refuses, which a sender is not told."""
        event = str(uuid.uuid4())
        sent = json.loads(json.dumps(body))  # nothing but JSON comes through
        return Posted(event, [self.orca.start(each) for each in triggered(self.pipelines, source, sent, event)])

    def send(self, request: DeploymentRequest) -> str:
        """Deliver a request that starts one run, or is another delivery of it; returns the run's path."""
        (ref,) = self.post(INSTALLATION.source, request.to_payload()).refs
        return ref

    def deliver(self, request: DeploymentRequest) -> Run:
        """Deliver a request and see its run end."""
        return self.orca.finished(self.send(request))


class Gate:
    """Gate's webhook door: 200 and an event id, whatever becomes of it.

    posted: what came of each delivery; None: Orca refused it.
    """

    def __init__(self, spinnaker: Spinnaker) -> None:
        self.posted: list[Posted | None] = []
        gate = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                try:
                    posted = spinnaker.post(self.path.rpartition("/")[2], body)
                except Refused:
                    posted = None
                gate.posted.append(posted)
                event = posted.event_id if posted else str(uuid.uuid4())
                answer = json.dumps({"eventProcessed": True, "eventId": event}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None: ...

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}/webhooks/webhook/{INSTALLATION.source}"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
