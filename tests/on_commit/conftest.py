from __future__ import annotations

from collections.abc import Iterator

import pytest

from local_stack.pubsub import Topics
from tests.on_commit.doubles import WebhookServer, serve_pubsub, serve_webhook
from tests.on_commit.scene import Scene


@pytest.fixture
def scene() -> Scene:
    """The function over a bucket in memory."""
    return Scene()


@pytest.fixture
def webhook_server() -> Iterator[WebhookServer]:
    """A CD webhook behind HTTP."""
    with serve_webhook() as found:
        yield found


@pytest.fixture
def refusals(monkeypatch: pytest.MonkeyPatch) -> Iterator[Topics]:
    """Pub/Sub behind gRPC, with the topic TOPIC."""
    with serve_pubsub() as (topics, address):
        monkeypatch.setenv("PUBSUB_EMULATOR_HOST", address)
        yield topics
