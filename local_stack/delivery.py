"""Push delivery as Eventarc does it: at least once, in no order, until the receiver acknowledges or time is up.

Each Pub/Sub message becomes a CloudEvent ``google.cloud.pubsub.topic.v1.messagePublished`` in HTTP's binary mode. A 2xx
acknowledges it; anything else, and no connection, is tried again after an exponential back-off with jitter. Now and
then an event comes twice on purpose: receivers must bear it in production, so they meet it here.
https://cloud.google.com/eventarc/docs/cloudevents
"""

from __future__ import annotations

import base64
import http.client
import json
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from urllib.parse import urlsplit
from uuid import uuid4

from local_stack.pubsub import Message


@dataclass(frozen=True, slots=True)
class DeliveryPolicy:
    """How hard to try. Times are in seconds; Eventarc's own are 10, 600 and 24 hours.

    first_wait, longest_wait: the back-off doubles from the one to the other; the actual wait is half of it or more.
    give_up_after: since the message was published. answer_within: how long the receiver may take.
    duplicates: the share of events that come twice, 0 to 1. seed: what decides which.
    """

    first_wait: float = 0.2
    longest_wait: float = 5.0
    give_up_after: float = 600.0
    answer_within: float = 60.0
    duplicates: float = 0.0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt to deliver an event.

    number: 1 for the first. duplicate: whether it was sent a second time on purpose. began: seconds since the epoch.
    seconds: until the answer. status: of HTTP; 0 if there was no answer.
    """

    message: Message
    number: int
    duplicate: bool
    began: float
    seconds: float
    status: int

    @property
    def acknowledged(self) -> bool:
        """Whether the receiver took it."""
        return 200 <= self.status < 300  # noqa: PLR2004 - HTTP's successes


def cloud_event(message: Message, subscription: str) -> tuple[dict[str, str], bytes]:
    """The headers and the body of the POST that carries `message`."""
    published = message.published.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    headers = {
        "Content-Type": "application/json; charset=utf-8",
        "ce-id": message.id,
        "ce-source": f"//pubsub.googleapis.com/{message.topic}",
        "ce-specversion": "1.0",
        "ce-type": "google.cloud.pubsub.topic.v1.messagePublished",
        "ce-time": published,
        "traceparent": f"00-{uuid4().hex}-{uuid4().hex[:16]}-01",
    }
    inner = {
        "attributes": dict(message.attributes),
        "data": base64.b64encode(message.data).decode(),
        "messageId": message.id,
        "message_id": message.id,
        "publishTime": published,
        "publish_time": published,
    }
    return headers, json.dumps({"message": inner, "subscription": subscription}).encode()


def next_wait(policy: DeliveryPolicy, attempt: int, share: float) -> float:
    """Seconds between attempt number `attempt` and the next; `share` in [0, 1) is the jitter."""
    full = min(policy.longest_wait, policy.first_wait * 2.0 ** min(attempt - 1, 60))
    return full / 2 + full / 2 * share


class PushDelivery:
    """Delivers what it is given to `url`; `deliver` is the subscriber.

    lose: messages for which it says True are dropped, as happens in the end to those that nobody acknowledges.
    """

    def __init__(
        self,
        url: str,
        subscription: str,
        policy: DeliveryPolicy,
        *,
        lose: Callable[[Message], bool] = lambda _message: False,
    ) -> None:
        self.url = url
        self.lose = lose
        self._subscription = subscription
        self._policy = policy
        self._random = random.Random(policy.seed)  # noqa: S311 - jitter, no secret
        self._lock = threading.Condition()
        self._attempts: list[Attempt] = []
        self._stopped = threading.Event()

    def deliver(self, message: Message) -> None:
        """Begin to deliver; returns at once."""
        if self.lose(message):
            return
        copies = [(message, False, 0.0)]
        with self._lock:
            if self._random.random() < self._policy.duplicates:
                copies.append((self._copy(message), True, self._random.uniform(0.0, 1.0)))
        for copy, duplicate, pause in copies:
            arguments = (copy, duplicate, pause, self._stopped)
            threading.Thread(target=self._deliver, args=arguments, name="delivery", daemon=True).start()

    def attempts(self) -> tuple[Attempt, ...]:
        """All attempts so far, in the order in which they ended."""
        with self._lock:
            return tuple(self._attempts)

    def wait_for(self, wanted: Callable[[Attempt], bool], timeout: float) -> Attempt | None:
        """The first attempt (old ones count) that is `wanted`, or None after `timeout` seconds."""
        with self._lock:
            return self._lock.wait_for(lambda: next(filter(wanted, self._attempts), None), timeout)

    def stop(self) -> None:
        """Try no more."""
        self._stopped.set()

    def forget(self) -> None:
        """Lose every message that isn't acknowledged yet, and go on with those that come."""
        self._stopped.set()
        self._stopped = threading.Event()

    def _copy(self, message: Message) -> Message:
        # One change may be published twice (two ids), and one message delivered twice (one id).
        return replace(message, id=f"{message.id}1") if self._random.random() < 0.5 else message  # noqa: PLR2004

    def _deliver(self, message: Message, duplicate: bool, pause: float, stopped: threading.Event) -> None:  # noqa: FBT001 - a thread's arguments
        stopped.wait(pause)
        give_up = time.monotonic() + self._policy.give_up_after
        number = 0
        while not stopped.is_set() and time.monotonic() < give_up:
            number += 1
            began, started = time.time(), time.monotonic()
            status = self._post(message)
            attempt = Attempt(message, number, duplicate, began, time.monotonic() - started, status)
            with self._lock:
                self._attempts.append(attempt)
                share = self._random.random()
                self._lock.notify_all()
            if attempt.acknowledged:
                return
            stopped.wait(next_wait(self._policy, number, share))

    def _post(self, message: Message) -> int:
        headers, body = cloud_event(message, self._subscription)
        target = urlsplit(self.url)
        connection = http.client.HTTPConnection(
            target.hostname or "", target.port or 80, timeout=self._policy.answer_within
        )
        try:
            connection.request("POST", target.path or "/", body=body, headers=headers)
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return 0
        finally:
            connection.close()
