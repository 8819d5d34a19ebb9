"""Tells people what they should know: one Pub/Sub message each, on the topic of NOTIFY_TOPIC."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Protocol

from google.api_core import exceptions as api
from google.auth import exceptions as auth

from model_repository.documents.receipts.receipt import Receipt
from model_repository.errors import SetupFault, TransientError
from model_repository.names import IndexPrefix

_PUBLISH_SECONDS = 15.0


class NotifyRefused(SetupFault, code="notify-refused"):
    """The topic of NOTIFY_TOPIC doesn't exist, or doesn't let this service account publish."""


class NotifyUnavailable(TransientError, code="notify-unavailable"):
    """Pub/Sub didn't take the message in time."""


class Event(StrEnum):
    """What a message tells of."""

    REJECTED = "rejected"
    """A commit was refused; it has a receipt."""
    UNDONE = "undone"
    """A rollout failed and was taken back; it has a receipt."""
    FAULT = "fault"
    """Something that may pass has lasted, or a person is needed; nothing is decided."""
    OVER = "over"
    """Such a fault is over."""


@dataclass(frozen=True, slots=True)
class Notice:
    """What is told.

    bucket, name: of the commit object that it concerns, or of the folder of an environment's commits.
    code: the stable code of the error. detail: what is wrong and the mend, for a person.
    environment, index: for subscriptions to filter on; index is empty where a whole environment is concerned, both are
    where the name is no commit's.
    generation: of the commit; 0 if it isn't known. index_prefix: what the commit asked for; None if it isn't known.
    """

    event: Event
    bucket: str
    name: str
    code: str
    detail: str
    environment: str = ""
    index: str = ""
    generation: int = 0
    index_prefix: IndexPrefix | None = None

    @classmethod
    def of_receipt(cls, bucket: str, receipt: Receipt) -> Notice:
        """What a receipt tells of, whose outcome is `rejected` or `undone`."""
        target = receipt.target
        return cls(
            Event(receipt.outcome.value),
            bucket,
            target.commit_name,
            receipt.code,
            receipt.detail,
            target.environment,
            target.index,
            receipt.generation,
            receipt.index_prefix,
        )

    def saying(self, event: Event, code: str, detail: str) -> Notice:
        """The same subject, with other words."""
        return replace(self, event=event, code=code, detail=detail)

    def attributes(self) -> dict[str, str]:
        """What subscriptions filter on; Pub/Sub takes strings of 1 to 1024 bytes."""
        found = {"outcome": self.event.value, "code": self.code, "environment": self.environment, "index": self.index}
        return {name: text for name, text in found.items() if text}

    def to_json(self) -> bytes:
        """The message's data."""
        value: dict[str, Any] = {
            **self.attributes(),
            "commit": f"gs://{self.bucket}/{self.name}" + (f"#{self.generation}" if self.generation else ""),
            "detail": self.detail,
        }
        if self.generation:
            value["generation"] = str(self.generation)
        if self.index_prefix is not None:
            value["index_prefix"] = str(self.index_prefix)
        return json.dumps(value).encode()


class Notifier(Protocol):
    """Where notices go."""

    def publish(self, notice: Notice) -> None:
        """Publish a notice. Raises `NotifyUnavailable` or `NotifyRefused`."""
        ...


class NoNotifier:
    """Implements `Notifier` where NOTIFY_TOPIC is not set: the log and the receipt have to do."""

    def publish(self, notice: Notice) -> None:
        """See `Notifier.publish`."""


class PubSubNotifier:
    """Implements `Notifier` with a Pub/Sub topic; honours PUBSUB_EMULATOR_HOST, as Google's own client does."""

    def __init__(self, topic: str) -> None:
        """Make the notifier. topic: ``projects/<project>/topics/<topic>``. Nothing is opened yet."""
        self._topic = topic
        self._client: Any = None

    def publish(self, notice: Notice) -> None:
        """See `Notifier.publish`."""
        with self._errors():
            # waited for: the function may be frozen as soon as it has answered
            self._open().publish(self._topic, notice.to_json(), **notice.attributes()).result(timeout=_PUBLISH_SECONDS)

    def check(self) -> None:
        """Look the topic up. Raises as `publish`."""
        with self._errors(), suppress(api.PermissionDenied):  # publishers need not be viewers: no telling from here
            self._open().get_topic(request={"topic": self._topic}, timeout=_PUBLISH_SECONDS, retry=None)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except api.NotFound as error:
            raise NotifyRefused(f"NOTIFY_TOPIC {self._topic}: there is no such topic; make it") from error
        except (api.PermissionDenied, api.Unauthenticated, api.InvalidArgument) as error:
            raise NotifyRefused(
                f"NOTIFY_TOPIC {self._topic}: Pub/Sub answered {type(error).__name__}; "
                "grant this service account roles/pubsub.publisher on it"
            ) from error
        except auth.DefaultCredentialsError as error:
            raise NotifyRefused(f"NOTIFY_TOPIC {self._topic}: no credentials ({error})") from error
        except (api.GoogleAPIError, auth.GoogleAuthError, TimeoutError) as error:
            raise NotifyUnavailable(f"NOTIFY_TOPIC {self._topic}: {type(error).__name__}; it may pass") from error

    def _open(self) -> Any:  # noqa: ANN401 - the client is untyped
        if self._client is None:
            # half a second of every cold start, and needed only where something is told
            from google.cloud import pubsub_v1  # noqa: PLC0415

            self._client = pubsub_v1.PublisherClient(pubsub_v1.types.BatchSettings(max_messages=1))
        return self._client
