"""Wiring: from one CloudEvent and its headers to a status; and ``--check``, which says what is misconfigured."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from model_repository.bucket.gcs_store import GcsStore
from model_repository.bucket.store import Store
from model_repository.clock import SystemClock
from model_repository.exit_codes import ExitCode
from model_repository.notify import NoNotifier, PubSubNotifier
from model_repository.programs.cloud_function import check_main, configured, one_event
from model_repository.programs.function_config import Config
from model_repository.telemetry.log import Log
from model_repository.telemetry.spans import flush_spans, record_spans
from on_commit.check import check
from on_commit.event import read_event
from on_commit.handle import Handler
from on_commit.webhook import HttpWebhook

_PATIENCE_SECONDS = 15.0
"""How long one request to the bucket is retried here; after that, the event is delivered again anyway."""
_FLUSH_SECONDS = 1.0
"""For spans, once the event is handled: between two events the platform may give this process no processor."""


def open_store(config: Config) -> Store:
    """The Model Repository."""
    return GcsStore(config.bucket, patience=_PATIENCE_SECONDS)


class Function:
    """The function with everything that it holds from one event to the next."""

    def __init__(self, config: Config) -> None:
        """Make the function. Opens no connection yet."""
        record_spans(os.environ, "indexpush-on-commit", Log())
        self._config = config
        notifier = PubSubNotifier(config.notify_topic) if config.notify_topic else NoNotifier()
        self._handler = Handler(
            open_store(config),
            HttpWebhook(config),
            notifier,
            SystemClock(),
            config.limits,
            tuple(config.webhook_urls),
        )

    @classmethod
    def from_environment(cls, variables: Mapping[str, str]) -> Function:
        """Make the function, or raise `ServiceUnavailable`: events wait until somebody mends the environment."""
        return configured(lambda: cls(Config.from_environment(variables)))

    def take(self, attributes: Mapping[str, object], data: object, headers: Mapping[str, str]) -> None:
        """Handle one event. Returning acknowledges it; raises what `one_event` does."""
        with one_event(attributes, headers, self._config.project) as log:
            try:
                self._handler.handle(read_event(attributes, data, self._config.bucket), log)
            finally:
                flush_spans(_FLUSH_SECONDS)


def main(arguments: Sequence[str] | None = None) -> ExitCode:
    """The command line, which only checks the set-up; returns the exit status."""
    return check_main(arguments, check(os.environ, open_store))
