"""Wiring: from one CloudEvent and its headers to a status; and ``--check``, which says what is misconfigured."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from model_repository.bucket.gcs_store import GcsStore
from model_repository.bucket.store import Store
from model_repository.clock import SystemClock
from model_repository.exit_codes import ExitCode
from model_repository.programs.cloud_function import check_main, configured, one_event
from notify.check import check
from notify.config import Config
from notify.event import read_event
from notify.handle import Handler
from notify.sinks.sink import Sink
from notify.sinks.slack import Slack
from notify.sinks.webhook import HttpWebhook
from notify.subject import Subject

_PATIENCE_SECONDS = 15.0
"""How long one request to the bucket is retried here; after that, the event is delivered again anyway."""


def open_store(config: Config) -> Store:
    """The Model Repository."""
    return GcsStore(config.bucket, patience=_PATIENCE_SECONDS)


class Function:
    """The function with everything that it holds from one event to the next."""

    def __init__(self, config: Config) -> None:
        """Make the function. Opens no connection yet."""
        self._config = config
        self._slack = Slack(config.slack_token.read, config.channel, config.slack_url)
        self._webhook = HttpWebhook(config.webhook_url, config.webhook_token.read)
        self._handler = Handler(open_store(config), self._sinks, SystemClock(), config.patience)

    def _sinks(self, subject: Subject) -> list[Sink]:
        slack: list[Sink] = [self._slack] if self._config.tells_slack(subject.environment) else []
        return slack + ([self._webhook] if self._config.webhook_url else [])

    @classmethod
    def from_environment(cls, variables: Mapping[str, str]) -> Function:
        """Make the function, or raise `ServiceUnavailable`: events wait until somebody mends the environment."""
        return configured(lambda: cls(Config.from_environment(variables)))

    def take(self, attributes: Mapping[str, object], data: object, headers: Mapping[str, str]) -> None:
        """Handle one event. Returning acknowledges it; raises what `one_event` does."""
        with one_event(attributes, headers, self._config.project) as log:
            self._handler.handle(read_event(attributes, data, self._config.bucket), log)


def main(arguments: Sequence[str] | None = None) -> ExitCode:
    """The command line, which only checks the set-up; returns the exit status."""
    return check_main(arguments, check(os.environ, open_store))
