"""A small Pub/Sub: the publishing half of its gRPC API, as Google's own clients speak it to an emulator.

Topics keep their messages for as long as this runs, so that a person can read what was said on one, and hand each
message to their subscribers. There is no pull: subscriptions are Python calls (`delivery` pushes to a URL).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from concurrent import futures
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from typing import Any

import grpc
from google.pubsub_v1 import types


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a topic. topic: ``projects/<project>/topics/<topic>``. published: in UTC."""

    id: str
    topic: str
    data: bytes
    attributes: Mapping[str, str]
    published: datetime


Receiver = Callable[[Message], None]


class Topics:
    """The topics, their messages and who receives them; may be used from any thread."""

    def __init__(self) -> None:
        self._messages: dict[str, list[Message]] = {}
        self._receivers: dict[str, list[Receiver]] = {}
        self._changed = threading.Condition()
        self._ids = count(int(time.time() * 1000))

    def create(self, topic: str) -> bool:
        """Make a topic; False if it was there."""
        with self._changed:
            if topic in self._messages:
                return False
            self._messages[topic] = []
            return True

    def exists(self, topic: str) -> bool:
        """Whether there is such a topic."""
        with self._changed:
            return topic in self._messages

    def names(self) -> list[str]:
        """All topics."""
        with self._changed:
            return sorted(self._messages)

    def subscribe(self, topic: str, receive: Receiver) -> None:
        """Call `receive` with every message from now on. It must return at once: it runs in the publisher's call."""
        with self._changed:
            self._receivers.setdefault(topic, []).append(receive)

    def publish(self, topic: str, data: bytes, attributes: Mapping[str, str]) -> Message:
        """Keep a message and hand it to the subscribers; raises KeyError if there is no such topic."""
        with self._changed:
            message = Message(str(next(self._ids)), topic, data, dict(attributes), datetime.now(UTC))
            self._messages[topic].append(message)
            receivers = list(self._receivers.get(topic, ()))
            self._changed.notify_all()
        for receive in receivers:
            receive(message)
        return message

    def messages(self, topic: str) -> tuple[Message, ...]:
        """What was published on the topic, oldest first."""
        with self._changed:
            return tuple(self._messages.get(topic, ()))

    def wait_for(self, topic: str, wanted: Callable[[Message], bool], timeout: float) -> Message | None:
        """The first message (old ones count) that is `wanted`, or None after `timeout` seconds."""

        def found() -> Message | None:
            return next((message for message in self._messages.get(topic, ()) if wanted(message)), None)

        with self._changed:
            return self._changed.wait_for(found, timeout)


class PubSubServer:
    """The gRPC server in front of `topics`. `address` is what PUBSUB_EMULATOR_HOST wants.

    listen: host:port; port 0 takes a free one.
    """

    def __init__(self, topics: Topics, listen: str = "127.0.0.1:0") -> None:
        self.topics = topics
        self._server = grpc.server(futures.ThreadPoolExecutor(max_workers=8, thread_name_prefix="pubsub"))
        self._server.add_generic_rpc_handlers((_Publisher(topics).handlers(),))
        self.address = f"{listen.rpartition(':')[0]}:{self._server.add_insecure_port(listen)}"

    def start(self) -> None:
        """Take requests from now on."""
        self._server.start()

    def stop(self) -> None:
        """Take no more; returns when those under way are done, or were cut off after a second."""
        self._server.stop(grace=1.0).wait()


class _Publisher:
    """google.pubsub.v1.Publisher, as far as publishers need it; the rest answers UNIMPLEMENTED."""

    def __init__(self, topics: Topics) -> None:
        self._topics = topics

    def handlers(self) -> Any:  # noqa: ANN401 - grpc has no types
        return grpc.method_handlers_generic_handler(
            "google.pubsub.v1.Publisher",
            {
                "CreateTopic": _method(self._create_topic, types.Topic, types.Topic.serialize),
                "GetTopic": _method(self._get_topic, types.GetTopicRequest, types.Topic.serialize),
                "Publish": _method(self._publish, types.PublishRequest, types.PublishResponse.serialize),
            },
        )

    def _create_topic(self, request: Any, context: Any) -> Any:  # noqa: ANN401
        if not self._topics.create(request.name):
            context.abort(grpc.StatusCode.ALREADY_EXISTS, f"{request.name} exists")
        return types.Topic(name=request.name)

    def _get_topic(self, request: Any, context: Any) -> Any:  # noqa: ANN401
        self._check_known(request.topic, context)
        return types.Topic(name=request.topic)

    def _publish(self, request: Any, context: Any) -> Any:  # noqa: ANN401
        self._check_known(request.topic, context)
        if not all(message.data or message.attributes for message in request.messages):
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "a message needs data or attributes")
        published = [self._topics.publish(request.topic, m.data, dict(m.attributes)) for m in request.messages]
        return types.PublishResponse(message_ids=[message.id for message in published])

    def _check_known(self, topic: str, context: Any) -> None:  # noqa: ANN401
        if not self._topics.exists(topic):
            known = ", ".join(self._topics.names())
            context.abort(grpc.StatusCode.NOT_FOUND, f"{topic}: no such topic; there are {known}")


def _method(answer: Callable[[Any, Any], Any], request: Any, serialize: Any) -> Any:  # noqa: ANN401
    return grpc.unary_unary_rpc_method_handler(
        answer, request_deserializer=request.deserialize, response_serializer=serialize
    )


def topic_name(project: str, topic: str) -> str:
    """The full name of a topic."""
    return f"projects/{project}/topics/{topic}"
