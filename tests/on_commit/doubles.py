"""What stands around the function in its tests: doubles that behave, a real webhook server, a real Pub/Sub."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from local_stack.pubsub import PubSubServer, Topics
from model_repository.bucket.store import ObjectInfo, StoredObject
from model_repository.deployment import AnswerOutcome, DeploymentRequest
from model_repository.names import Target
from on_commit.compare import IndexStatus
from on_commit.webhook import FilterAnswer, WebhookAnswer
from tests.answering import Answer, Asked, http_server
from tests.memory_store import MemoryStore


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

    def listing(self, prefix: str, *, deep: bool = True) -> list[ObjectInfo]:
        self._met("listing", prefix)
        return super().listing(prefix, deep=deep)

    def write(self, name: str, data: bytes, *, if_generation_match: int | None) -> ObjectInfo:
        self._met("write", name)
        return super().write(name, data, if_generation_match=if_generation_match)


@dataclass
class RememberingWebhook:
    """Deploys what it isn't running already, and remembers what it was asked. states: None: it can't say."""

    asked: list[DeploymentRequest] = field(default_factory=list)
    deployed: dict[str, int] = field(default_factory=dict)
    failure: Exception | None = None
    answer: WebhookAnswer | None = None
    states: dict[Target, IndexStatus] | None = None
    status_calls: int = 0
    filters: list[Target] = field(default_factory=list)
    withdrawn: list[Target] = field(default_factory=list)
    filter_answer: FilterAnswer | None = field(default_factory=lambda: FilterAnswer("applied"))

    def send(self, request: DeploymentRequest) -> WebhookAnswer:
        if self.failure is not None:
            raise self.failure
        self.asked.append(request)
        if self.answer is not None:
            return self.answer
        if request.generation == self.deployed.get(str(request.target)):
            return WebhookAnswer(AnswerOutcome.ALREADY_DEPLOYED)
        self.deployed[str(request.target)] = request.generation
        return WebhookAnswer(AnswerOutcome.ACCEPTED)

    def apply_filter(self, target: Target) -> FilterAnswer | None:
        if self.failure is not None:
            raise self.failure
        self.filters.append(target)
        return self.filter_answer

    def withdraw(self, target: Target) -> str:
        if self.failure is not None:
            raise self.failure
        self.withdrawn.append(target)
        return "deleted"

    def statuses(self, environment: str) -> dict[str, IndexStatus] | None:
        self.status_calls += 1
        if self.failure is not None:
            raise self.failure
        if self.states is None:
            return None
        return {target.index: state for target, state in self.states.items() if target.environment == environment}


TOPIC = "projects/tests/topics/refusals"


@dataclass
class WebhookServer:
    """A real HTTP server that answers as it was told, and remembers what it was sent."""

    url: str
    status: int = 200
    body: bytes = b'{"eventProcessed": true, "eventId": "an-event-id"}'
    headers: dict[str, str] = field(default_factory=dict)
    requests: list[Asked] = field(default_factory=list)

    def parameters(self) -> list[dict[str, str]]:
        """The parameters of every POST."""
        return [json.loads(asked.body)["parameters"] for asked in self.requests if asked.method == "POST"]


@contextmanager
def serve_webhook() -> Iterator[WebhookServer]:
    """A CD webhook behind HTTP, for as long as the context lasts."""

    found = WebhookServer("")

    def answer(asked: Asked) -> Answer:
        found.requests.append(asked)
        return Answer(found.body, found.status, found.headers)

    with http_server(answer) as url:
        found.url = f"{url}/webhooks/webhook/indexpush"
        yield found


@contextmanager
def serve_pubsub() -> Iterator[tuple[Topics, str]]:
    """Pub/Sub behind gRPC with the topic TOPIC; the text is for PUBSUB_EMULATOR_HOST."""
    topics = Topics()
    topics.create(TOPIC)
    server = PubSubServer(topics)
    server.start()
    yield topics, server.address
    server.stop()
