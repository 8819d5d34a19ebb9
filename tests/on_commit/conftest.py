"""Builds to commit; doubles that behave; a real webhook server and a real Pub/Sub."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from local_stack.pubsub import PubSubServer, Topics
from model_repository.deployment import AnswerOutcome, DeploymentRequest
from model_repository.digests import sha256_digest
from model_repository.files import File
from model_repository.index_manifest import (
    IndexManifest,
    ModelReference,
    Partition,
    Recall,
    format_index_manifest,
)
from model_repository.model_manifest import ModelManifest, format_model_manifest
from model_repository.names import IndexPrefix, ModelPrefix
from model_repository.store import ObjectInfo, Store, StoredObject
from on_commit.notify import Report
from on_commit.webhook import Answer
from tests.memory_store import MemoryStore

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def upload(store: Store, prefix: object, contents: dict[str, bytes]) -> tuple[File, ...]:
    """Upload files; returns what a manifest says of them."""
    infos = {name: store.write(f"{prefix}/{name}", data, if_generation_match=None) for name, data in contents.items()}
    return tuple(File(name, info.size, info.crc32c) for name, info in sorted(infos.items()))


@pytest.fixture(scope="session")
def publish_model() -> Callable[..., ModelReference]:
    """Uploads a model of so many dimensions; returns the reference that builds make to it."""

    def publish(store: Store, prefix: str = "models/lite/1", *, dimensions: int = 4) -> ModelReference:
        where = ModelPrefix.parse(prefix)
        files = upload(store, where, {"model.onnx": b"weights of " + prefix.encode()})
        manifest = ModelManifest(where, NOW, "onnx", "model.onnx", 224, dimensions, (), files)
        data = format_model_manifest(manifest)
        described = upload(store, where, {"model.json": data})
        return ModelReference(where, sha256_digest(data), dimensions, (*described, *files))

    return publish


@pytest.fixture(scope="session")
def publish_build(publish_model: Callable[..., ModelReference]) -> Callable[..., IndexManifest]:
    """Uploads a whole build, with its model unless one is given; `change` alters index.json before it is written."""

    def publish(
        store: Store,
        prefix: str = "indexes/home/b1",
        *,
        model: ModelReference | None = None,
        dimensions: int = 4,
        change: Callable[[IndexManifest], IndexManifest] = lambda manifest: manifest,
    ) -> IndexManifest:
        where = IndexPrefix.parse(prefix)
        contents = {"chair.annoy": b"trees of " + prefix.encode(), "chair.ids": b"ids", "items.lookup": b"lookup"}
        manifest = change(
            IndexManifest(
                prefix=where,
                created=NOW,
                model=model or publish_model(store),
                dimensions=dimensions,
                metric="angular",
                trees=10,
                recall=Recall(10, 0.99, 100),
                lookup="items.lookup",
                partitions=(Partition("chair", "chair.annoy", "chair.ids", 3),),
                golden_queries=(),
                files=upload(store, where, contents),
            )
        )
        store.write(where.manifest, format_index_manifest(manifest), if_generation_match=None)
        return manifest

    return publish


class CountingStore(MemoryStore):
    """A bucket that counts the requests made to it, and can be told to fail some."""

    def __init__(self, bucket: str = "a-bucket") -> None:
        super().__init__(bucket)
        self.reads: list[str] = []
        self.fail: Callable[[str, str], Exception | None] = lambda _kind, _name: None

    def _met(self, kind: str, name: str) -> None:
        if kind != "write":
            self.reads.append(f"{kind} {name}")
        if (failure := self.fail(kind, name)) is not None:
            raise failure

    def read(self, name: str, *, limit: int) -> StoredObject:
        self._met("read", name)
        return super().read(name, limit=limit)

    def stat(self, name: str) -> ObjectInfo | None:
        self._met("stat", name)
        return super().stat(name)

    def listing(self, prefix: str) -> list[ObjectInfo]:
        self._met("listing", prefix)
        return super().listing(prefix)

    def write(self, name: str, data: bytes, *, if_generation_match: int | None) -> ObjectInfo:
        self._met("write", name)
        return super().write(name, data, if_generation_match=if_generation_match)


@dataclass
class RememberingWebhook:
    """Deploys as the real one does: only what is newer than what it has; remembers what it was asked."""

    asked: list[DeploymentRequest] = field(default_factory=list)
    deployed: dict[str, int] = field(default_factory=dict)
    failure: Exception | None = None
    answer: Answer | None = None

    def send(self, request: DeploymentRequest, *, traceparent: str = "") -> Answer:
        del traceparent
        if self.failure is not None:
            raise self.failure
        self.asked.append(request)
        if self.answer is not None:
            return self.answer
        live = self.deployed.get(str(request.target), 0)
        if request.generation == live:
            return Answer(AnswerOutcome.ALREADY_DEPLOYED)
        if request.generation < live:
            return Answer(AnswerOutcome.SUPERSEDED)
        self.deployed[str(request.target)] = request.generation
        return Answer(AnswerOutcome.ACCEPTED)


@dataclass
class RememberingNotifier:
    """Remembers the reports."""

    reports: list[Report] = field(default_factory=list)
    failure: Exception | None = None

    def publish(self, report: Report) -> None:
        if self.failure is not None:
            raise self.failure
        self.reports.append(report)


@pytest.fixture
def store() -> CountingStore:
    """An empty bucket, ``gs://a-bucket``."""
    return CountingStore()


@pytest.fixture
def webhook() -> RememberingWebhook:
    """A CD webhook."""
    return RememberingWebhook()


@pytest.fixture
def notifier() -> RememberingNotifier:
    """A notification topic."""
    return RememberingNotifier()


TOPIC = "projects/tests/topics/refusals"


@dataclass
class WebhookServer:
    """A real HTTP server that answers as it was told, and remembers what it was sent."""

    url: str
    status: int = 200
    body: bytes = b'{"eventProcessed": true, "eventId": "an-event-id"}'
    headers: dict[str, str] = field(default_factory=dict)
    requests: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)

    def parameters(self) -> list[dict[str, str]]:
        """The parameters of every POST."""
        return [json.loads(body)["parameters"] for method, _, _, body in self.requests if method == "POST"]


@contextmanager
def _serve_webhook() -> Iterator[WebhookServer]:
    class Answering(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            found.requests.append((self.command, self.path, dict(self.headers), body))
            self.send_response(found.status)
            for name, value in found.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(found.body)))
            self.end_headers()
            with suppress(ConnectionError):  # who has read enough hangs up
                self.wfile.write(found.body)

        do_GET = do_POST  # noqa: N815

        def log_message(self, *_arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    found = WebhookServer(f"http://127.0.0.1:{server.server_port}/webhooks/webhook/indexpush")
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield found
    server.shutdown()
    thread.join()
    server.server_close()


@contextmanager
def _serve_pubsub() -> Iterator[tuple[Topics, str]]:
    topics = Topics()
    topics.create(TOPIC)
    server = PubSubServer(topics)
    server.start()
    yield topics, server.address
    server.stop()


@pytest.fixture(scope="session")
def serve_webhook() -> Callable[[], AbstractContextManager[WebhookServer]]:
    """Serves a CD webhook behind HTTP for as long as the context lasts."""
    return _serve_webhook


@pytest.fixture(scope="session")
def serve_pubsub() -> Callable[[], AbstractContextManager[tuple[Topics, str]]]:
    """Serves Pub/Sub with the topic ``projects/tests/topics/refusals``; the text is for PUBSUB_EMULATOR_HOST."""
    return _serve_pubsub


@pytest.fixture
def webhook_server() -> Iterator[WebhookServer]:
    """A CD webhook behind HTTP."""
    with _serve_webhook() as found:
        yield found


@pytest.fixture
def refusals(monkeypatch: pytest.MonkeyPatch) -> Iterator[Topics]:
    """Pub/Sub behind gRPC, with the topic ``projects/tests/topics/refusals``."""
    with _serve_pubsub() as (topics, address):
        monkeypatch.setenv("PUBSUB_EMULATOR_HOST", address)
        yield topics
