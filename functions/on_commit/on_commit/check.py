"""What is misconfigured, in sentences: ``python main.py --check``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from http import HTTPStatus

import requests

from model_repository.bucket.store import Store
from model_repository.errors import Misconfigured
from model_repository.notify import PubSubNotifier
from model_repository.programs.cloud_function import found, look_at_bucket
from model_repository.programs.function_config import Config
from on_commit.webhook import HttpAnswer, HttpWebhook, WebhookUnavailable, failure

_SECONDS = (5.0, 10.0)


def check(variables: Mapping[str, str], open_store: Callable[[Config], Store]) -> Iterator[tuple[bool, str]]:
    """Check the configuration and whatever it points at; yields whether each thing is well, and a sentence."""
    try:
        config = Config.from_environment(variables)
    except Misconfigured as error:
        yield from ((False, f"{problem}.") for problem in error.problems)
        return
    yield True, "The environment is complete."
    yield found(lambda: look_at_bucket(config.bucket, open_store(config)))
    for environment, url in sorted({"": config.webhook_url, **config.webhook_urls}.items()):
        if url:
            yield found(partial(_webhook, config, environment, url))
    yield found(partial(_topic, config))


def _webhook(config: Config, environment: str, url: str) -> str:
    whose = f"of {environment} " if environment else "of every other environment " if config.webhook_urls else ""
    name = f"The webhook {whose}({url})"
    headers = HttpWebhook(config).credentials(url)
    try:
        # a GET starts nothing; whoever takes POSTs at this path says 405, and another status is as telling
        with requests.get(url, headers=headers, timeout=_SECONDS, allow_redirects=False, stream=True) as answer:
            status = answer.status_code
    except requests.RequestException as error:
        raise WebhookUnavailable(f"{name} does not answer: {type(error).__name__}") from error
    if status >= HTTPStatus.MULTIPLE_CHOICES and status != HTTPStatus.METHOD_NOT_ALLOWED:
        raise failure(url, HttpAnswer(status, {}))
    return f"{name} answers"


def _topic(config: Config) -> str:
    if not config.notify_topic:
        return "NOTIFY_TOPIC is not set: refusals are told by log and receipt alone"
    PubSubNotifier(config.notify_topic).check()
    return f"The topic {config.notify_topic} is there"
