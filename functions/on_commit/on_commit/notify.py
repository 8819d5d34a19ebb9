"""Tells people of commits that were refused: one Pub/Sub message each."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from google.api_core import exceptions as api
from google.auth import exceptions as auth

from model_repository.documents.receipt import Receipt
from model_repository.errors import PermanentError, TransientError
from model_repository.names import IndexPrefix, Target

_PUBLISH_SECONDS = 15.0


class NotifyRefused(PermanentError):
    """The topic of NOTIFY_TOPIC doesn't exist, or doesn't let the function publish."""

    code: ClassVar[str] = "notify-refused"


class NotifyUnavailable(TransientError):
    """Pub/Sub didn't take the refusal in time."""

    code: ClassVar[str] = "notify-unavailable"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A commit was refused.

    bucket, name: of the commit object. code: the stable code of the error. detail: what is wrong and the mend, for a
    person. generation: 0 if it isn't known. target: None if the name is no commit's. index_prefix: what the commit
    asked for; None if it couldn't be read.
    """

    bucket: str
    name: str
    code: str
    detail: str
    generation: int = 0
    target: Target | None = None
    index_prefix: IndexPrefix | None = None

    @classmethod
    def of(cls, bucket: str, receipt: Receipt) -> Refusal:
        """The refusal that a receipt tells of."""
        name, target = receipt.target.commit_name, receipt.target
        return cls(bucket, name, receipt.code, receipt.detail, receipt.generation, target, receipt.index_prefix)

    def attributes(self) -> dict[str, str]:
        """What subscriptions filter on; Pub/Sub takes strings of 1 to 1024 bytes."""
        found = {"outcome": "rejected", "code": self.code}
        if self.target is not None:
            found |= {"environment": self.target.environment, "index": self.target.index}
        return found

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
    """Where refusals are told."""

    def publish(self, refusal: Refusal) -> None:
        """Publish a refusal. Raises `NotifyUnavailable` or `NotifyRefused`."""
        ...


class NoNotifier:
    """Implements `Notifier` where NOTIFY_TOPIC is not set: the log and the receipt have to do."""

    def publish(self, refusal: Refusal) -> None:
        """See `Notifier.publish`."""


class PubSubNotifier:
    """Implements `Notifier` with a Pub/Sub topic; honours PUBSUB_EMULATOR_HOST, as Google's own client does."""

    def __init__(self, topic: str) -> None:
        """Make the notifier. topic: ``projects/<project>/topics/<topic>``. Nothing is opened yet."""
        self._topic = topic
        self._client: Any = None

    def publish(self, refusal: Refusal) -> None:
        """See `Notifier.publish`."""
        with self._errors():
            # waited for: the function may be frozen as soon as it has answered
            self._open().publish(self._topic, refusal.to_json(), **refusal.attributes()).result(
                timeout=_PUBLISH_SECONDS
            )

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
            # half a second of every cold start, and needed only where something was refused
            from google.cloud import pubsub_v1  # noqa: PLC0415

            self._client = pubsub_v1.PublisherClient(pubsub_v1.types.BatchSettings(max_messages=1))
        return self._client
