"""What the function `on_commit` is told by its environment: read by itself, and by who checks an installation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from urllib.parse import urlsplit

from model_repository.deployment import AuthKind
from model_repository.errors import NameRefused
from model_repository.names import check_label
from model_repository.programs.environment import Environment

_URL = "CD_WEBHOOK_URL"
_FRESHNESS = "FRESHNESS_SECONDS_"


@dataclass(frozen=True, slots=True)
class Limits:
    """What the function allows.

    patience: for so long nobody is told of what may pass. sweep_budget: for so long a sweep begins looks.
    freshness: by environment, the longest that an index may go without a new commit before people are told.
    """

    patience: timedelta = timedelta(minutes=5)
    sweep_budget: timedelta = timedelta(seconds=45)
    freshness: Mapping[str, timedelta] = field(default_factory=dict)


DEFAULTS = Limits()


@dataclass(frozen=True, slots=True)
class Config:
    """The function's configuration.

    bucket: of the Model Repository, without gs://.
    webhook_url: for environments that have no URL of their own; empty: only those that have one may deploy.
    webhook_urls: by environment.
    webhook_token: the bearer secret, or empty. An identity token is for the webhook's origin.
    notify_topic: ``projects/<project>/topics/<topic>``, or empty: refusals are then told by log and receipt alone.
    limits: what it allows.
    project: the project whose traces the logs name, or empty.
    """

    bucket: str
    webhook_url: str
    webhook_urls: Mapping[str, str]
    webhook_auth: AuthKind = AuthKind.NONE
    webhook_token: str = ""
    notify_topic: str = ""
    project: str = ""
    limits: Limits = DEFAULTS

    @classmethod
    def from_environment(cls, variables: Mapping[str, str]) -> Config:
        """Read the configuration; raises `Misconfigured` with everything that is wrong, not the first thing alone."""
        read = Environment(variables)
        bucket = read.bucket()
        own = {
            name: _environment_of(read, f"{_URL}_", name) for name in sorted(variables) if name.startswith(f"{_URL}_")
        }
        default = _url(read, _URL) if read.text(_URL) or not own else ""
        auth = read.one_of("CD_WEBHOOK_AUTH", AuthKind, AuthKind.NONE)
        config = cls(
            bucket=bucket,
            webhook_url=default,
            webhook_urls={environment: _url(read, name) for name, environment in own.items()},
            webhook_auth=auth,
            webhook_token=_token(read) if auth is AuthKind.BEARER else "",
            notify_topic=read.topic(),
            project=read.text("GOOGLE_CLOUD_PROJECT") or read.text("GCP_PROJECT"),
            limits=_limits(read, variables),
        )
        read.done()
        return config

    def webhook_for(self, environment: str) -> str | None:
        """The URL that deploys to `environment`, or None: nobody said where that is."""
        return self.webhook_urls.get(environment) or self.webhook_url or None


def _limits(read: Environment, variables: Mapping[str, str]) -> Limits:
    due = {name: _environment_of(read, _FRESHNESS, name) for name in sorted(variables) if name.startswith(_FRESHNESS)}
    return Limits(
        patience=timedelta(seconds=read.whole("INCIDENT_SECONDS", 300, least=0, most=86_400)),
        sweep_budget=timedelta(seconds=read.whole("SWEEP_SECONDS", 45, least=1, most=500)),
        freshness={
            environment: timedelta(seconds=read.whole(name, 0, least=60, most=10**8))
            for name, environment in due.items()
        },
    )


def _environment_of(read: Environment, kind: str, variable: str) -> str:
    environment = variable.removeprefix(kind).lower().replace("_", "-")
    try:
        check_label("environment", environment)
    except NameRefused as error:
        read.refuse(f"{variable}: {error}")
    return environment


def _url(read: Environment, variable: str) -> str:
    url = read.text(variable)
    if not _is_http_url(url):
        read.expected(
            variable,
            "an http:// or https:// URL, such as https://cd.example.com/webhooks/webhook/model-repository; "
            f"or one for each environment, in {_URL}_STAGING, {_URL}_PRODUCTION and so on",
        )
    return url


def _is_http_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0 and url.isprintable()
    except ValueError:
        return False


def _token(read: Environment) -> str:
    token = read.text("CD_WEBHOOK_TOKEN")
    if not (token and token.isascii() and token.isprintable()):
        read.refuse("CD_WEBHOOK_TOKEN must hold the secret, in printable ASCII: CD_WEBHOOK_AUTH is bearer")
    return token
