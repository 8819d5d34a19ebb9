"""What is misconfigured, in sentences: ``python main.py --check``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus

import requests
from google.auth import exceptions as auth_exceptions

from model_repository.errors import DeliveryError, ObjectMissing, PermanentError
from model_repository.store import Store
from on_commit.config import Config, Misconfigured
from on_commit.event import COMMITS
from on_commit.notify import PubSubNotifier
from on_commit.webhook import HttpWebhook, failure

_SECONDS = (5.0, 10.0)


def check(environ: Mapping[str, str], open_store: Callable[[Config], Store]) -> Iterator[tuple[bool, str]]:
    """Check the configuration and whatever it points at; yields whether each thing is well, and a sentence."""
    try:
        config = Config.from_environment(environ)
    except Misconfigured as error:
        yield from ((False, problem) for problem in error.problems)
        return
    yield True, "The environment is complete."
    yield _check_bucket(config, open_store)
    for environment, url in sorted({"": config.webhook_url, **config.webhook_urls}.items()):
        if url:
            yield _check_webhook(config, environment, url)
    yield _check_topic(config)


def _check_bucket(config: Config, open_store: Callable[[Config], Store]) -> tuple[bool, str]:
    try:
        found = len(open_store(config).listing(COMMITS))
    except ObjectMissing:
        return False, f"There is no bucket gs://{config.bucket}: make it, or correct MODEL_REPOSITORY."
    except DeliveryError as error:
        return False, f"The bucket gs://{config.bucket} can't be read: {error}."
    return True, f"The bucket gs://{config.bucket} answers; {found} objects stand below {COMMITS}"


def _check_webhook(config: Config, environment: str, url: str) -> tuple[bool, str]:
    whose = f"of {environment}" if environment else "of every other environment" if config.webhook_urls else ""
    name = f"The webhook {whose + ' ' if whose else ''}({url})"
    try:
        headers = HttpWebhook(config).credentials(url)
        # a GET starts nothing; whoever takes POSTs at this path says 405, and another status is as telling
        with requests.get(url, headers=headers, timeout=_SECONDS, allow_redirects=False, stream=True) as answer:
            status = answer.status_code
    except (requests.RequestException, auth_exceptions.GoogleAuthError) as error:
        return False, f"{name} does not answer: {type(error).__name__}."
    except DeliveryError as error:
        return False, f"{name}: {error}."
    if status < HTTPStatus.MULTIPLE_CHOICES or status == HTTPStatus.METHOD_NOT_ALLOWED:
        return True, f"{name} answers."
    return False, f"{failure(url, status)}."


def _check_topic(config: Config) -> tuple[bool, str]:
    if not config.notify_topic:
        return True, "NOTIFY_TOPIC is not set: refusals are told by log and receipt alone."
    try:
        PubSubNotifier(config.notify_topic).check()
    except PermanentError as error:
        return False, f"{error}."
    except DeliveryError as error:
        return False, f"{error}."
    return True, f"The topic {config.notify_topic} is there."
