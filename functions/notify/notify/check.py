"""What is misconfigured, in sentences: ``python main.py --check``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial

from model_repository.bucket.store import Store
from model_repository.errors import Misconfigured
from model_repository.programs.cloud_function import found, look_at_bucket
from notify.config import Config
from notify.sinks.slack import Slack


def check(variables: Mapping[str, str], open_store: Callable[[Config], Store]) -> Iterator[tuple[bool, str]]:
    """Check the configuration and what it points at; yields whether each thing is well, and a sentence."""
    try:
        config = Config.from_environment(variables)
    except Misconfigured as error:
        yield from ((False, f"{problem}.") for problem in error.problems)
        return
    yield True, "The environment is complete."
    yield found(lambda: look_at_bucket(config.bucket, open_store(config)))
    slack = Slack(config.slack_token.read, config.channel, config.slack_url)
    for environment, channel in sorted(config.slack_channels.items()):
        yield found(partial(_channel, slack, environment, channel))
    if config.webhook_url:
        yield True, "WEBHOOK_URL is set; it isn't called here, for whoever is there would be told of something."


def _channel(slack: Slack, environment: str, channel: str) -> str:
    whose = f"of {environment}" if environment else "of every other environment"
    return f"Slack shows the channel {whose} ({channel}) to {slack.check(channel)}"
