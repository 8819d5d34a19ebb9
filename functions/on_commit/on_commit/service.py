"""Puts the parts together: from one CloudEvent and its request's headers to a status."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from werkzeug.exceptions import InternalServerError, ServiceUnavailable

from model_repository.errors import TransientError
from model_repository.gcs_store import GcsStore
from model_repository.store import Store
from on_commit.config import Config, Misconfigured
from on_commit.event import read_event
from on_commit.handle import Handler
from on_commit.log import Journal, find_trace
from on_commit.notify import NoNotifier, PubSubNotifier
from on_commit.webhook import HttpWebhook

_PATIENCE_SECONDS = 15.0
"""How long one request to the bucket is retried here; after that, the event is delivered again anyway."""


def open_store(config: Config) -> Store:
    """The Model Repository."""
    return GcsStore(config.bucket, patience=_PATIENCE_SECONDS)


class Service:
    """The function with everything that it holds from one event to the next."""

    def __init__(self, config: Config, journal: Journal | None = None) -> None:
        """Make the service. Opens no connection yet."""
        self._config = config
        self._log = journal or Journal()
        notifier = PubSubNotifier(config.notify_topic) if config.notify_topic else NoNotifier()
        self._handler = Handler(open_store(config), HttpWebhook(config), notifier, lambda: datetime.now(UTC))

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Service:
        """Make the service, or raise `ServiceUnavailable`: events wait until somebody mends the environment."""
        try:
            return cls(Config.from_environment(environ))
        except Misconfigured as error:
            Journal().error(f"misconfigured: {error}", code="misconfigured")
            raise ServiceUnavailable("misconfigured; see the log") from error

    def take(self, attributes: Mapping[str, object], data: object, headers: Mapping[str, str]) -> None:
        """Handle one event. Returning acknowledges it.

        Raises `ServiceUnavailable` (503) for what may pass and `InternalServerError` (500) for what nobody expected:
        the platform delivers the event again after either.
        """
        trace = find_trace(attributes, headers)
        journal = self._log.bind(event_id=str(attributes.get("id", ""))).of_trace(trace, self._config.project)
        traceparent = f"00-{trace.trace_id}-{trace.span_id}-01" if trace and trace.span_id else ""
        try:
            asked = read_event(attributes, data, self._config.bucket)
            self._handler.handle(asked, journal, traceparent=traceparent)
        except TransientError as error:
            journal.warning(f"not now: {error}", code=error.code)
            raise ServiceUnavailable(str(error)) from error
        except Exception as error:
            journal.crash(f"unexpected: {type(error).__name__}: {error}", error)
            raise InternalServerError(f"unexpected {type(error).__name__}; see the log") from error
