"""What the function is told by its environment."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import urlsplit

from model_repository.errors import NameRefused
from model_repository.names import check_label

_URL = "CD_WEBHOOK_URL"
_TOPIC = re.compile(r"projects/[^/\s]+/topics/[A-Za-z][-A-Za-z0-9._~+%]{2,254}", re.ASCII)
_BUCKET = re.compile(r"gs://([a-z0-9][-a-z0-9_.]{1,220}[a-z0-9])/?", re.ASCII)


class WebhookAuth(StrEnum):
    """How the function shows the webhook who it is."""

    NONE = "none"
    BEARER = "bearer"
    """The secret of CD_WEBHOOK_TOKEN."""
    GOOGLE_ID_TOKEN = "google-id-token"  # noqa: S105 - a kind of token, not one
    """An identity token of the function's own service account, for the webhook's origin."""


class Misconfigured(Exception):
    """The environment doesn't say what the function needs; one sentence for each problem."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__(" ".join(problems))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class Config:
    """The function's configuration.

    bucket: of the Model Repository, without gs://.
    webhook_url: for environments that have no URL of their own; empty: only those that have one may deploy.
    webhook_urls: by environment.
    webhook_token: the bearer secret, or empty.
    notify_topic: ``projects/<project>/topics/<topic>``, or empty: refusals are then told by log and receipt alone.
    project: the project whose traces the logs name, or empty.
    """

    bucket: str
    webhook_url: str
    webhook_urls: Mapping[str, str]
    webhook_auth: WebhookAuth = WebhookAuth.NONE
    webhook_token: str = ""
    notify_topic: str = ""
    project: str = ""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Config:
        """Read the configuration; raises `Misconfigured` with everything that is wrong, not the first thing alone."""
        problems: list[str] = []
        bucket = _BUCKET.fullmatch(environ.get("MODEL_REPOSITORY", ""))
        if bucket is None:
            problems.append(_expected(environ, "MODEL_REPOSITORY", "gs://<bucket>, without a path"))
        default, by_environment = _webhook_urls(environ, problems)
        auth = _auth(environ, problems)
        topic = environ.get("NOTIFY_TOPIC", "")
        if topic and not _TOPIC.fullmatch(topic):
            problems.append(_expected(environ, "NOTIFY_TOPIC", "projects/<project>/topics/<topic>"))
        if problems or bucket is None:
            raise Misconfigured(problems)
        return cls(
            bucket=bucket[1],
            webhook_url=default,
            webhook_urls=by_environment,
            webhook_auth=auth,
            webhook_token=environ.get("CD_WEBHOOK_TOKEN", "").strip() if auth is WebhookAuth.BEARER else "",
            notify_topic=topic,
            project=environ.get("GOOGLE_CLOUD_PROJECT", "") or environ.get("GCP_PROJECT", ""),
        )

    def webhook_for(self, environment: str) -> str | None:
        """The URL that deploys to `environment`, or None: nobody said where that is."""
        return self.webhook_urls.get(environment) or self.webhook_url or None


def _webhook_urls(environ: Mapping[str, str], problems: list[str]) -> tuple[str, dict[str, str]]:
    by_environment: dict[str, str] = {}
    for variable in sorted(environ):
        if not variable.startswith(f"{_URL}_"):
            continue
        environment = variable.removeprefix(f"{_URL}_").lower().replace("_", "-")
        try:
            by_environment[check_label("environment", environment)] = environ[variable]
        except NameRefused as error:
            problems.append(f"{variable}: {error}.")
        if not _is_http_url(environ[variable]):
            problems.append(_expected(environ, variable, "an http:// or https:// URL"))
    default = environ.get(_URL, "")
    if default and not _is_http_url(default):
        problems.append(_expected(environ, _URL, "an http:// or https:// URL"))
    if not default and not by_environment:
        problems.append(
            f"{_URL} is not set: give the CD webhook's URL, such as "
            "https://cd.example.com/webhooks/webhook/model-repository, or one for each environment in "
            f"{_URL}_STAGING, {_URL}_PRODUCTION and so on."
        )
    return default, by_environment


def _auth(environ: Mapping[str, str], problems: list[str]) -> WebhookAuth:
    stated = environ.get("CD_WEBHOOK_AUTH", "") or WebhookAuth.NONE
    if stated not in {auth.value for auth in WebhookAuth}:
        problems.append(_expected(environ, "CD_WEBHOOK_AUTH", "one of " + ", ".join(WebhookAuth)))
        return WebhookAuth.NONE
    auth = WebhookAuth(stated)
    token = environ.get("CD_WEBHOOK_TOKEN", "").strip()
    if auth is WebhookAuth.BEARER and not (token and token.isascii() and token.isprintable()):
        problems.append("CD_WEBHOOK_AUTH is bearer: CD_WEBHOOK_TOKEN must hold the secret, in printable ASCII.")
    return auth


def _is_http_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0 and url.isprintable()
    except ValueError:
        return False


def _expected(environ: Mapping[str, str], variable: str, form: str) -> str:
    if not environ.get(variable):
        return f"{variable} is not set: expected {form}."
    return f"{variable} is {environ[variable][:200]!r}: expected {form}."
