"""What the webhook is told by its environment: one frozen value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path

from manifests.values import FOLDER
from model_repository.deployment import AuthKind
from model_repository.errors import Misconfigured
from model_repository.names import check_label
from model_repository.programs.environment import Environment

_LEAST_TOKEN = 16
"""Characters; shorter ones are guessed."""


@dataclass(frozen=True, slots=True)
class Config:
    """The webhook of one environment.

    bucket: of the Model Repository. environments: folder of the values files.
    cluster: `kubernetes`, or what `cluster.connect` loads in its place.
    token: for `bearer`; previous_token: the one before it, good as well while it is set; may be empty.
    audience, callers, readers: for `google-id-token`: who the token must be for, and the e-mail addresses of the
        service accounts that may have deployments made, and of those that may only look.
    notify_topic: ``projects/<project>/topics/<topic>``; empty: what is refused, undone or stuck is told by log and
        receipt alone.
    project: of the traces that log lines link to; may be empty.
    revision: the commit that this webhook's image is made of; empty: nobody says.
    freshness: the longest that what serves may be of age, for whoever watches metrics; None: nobody said.
    """

    environment: str
    bucket: str
    environments: Path
    cluster: str
    auth: AuthKind
    token: str
    previous_token: str
    audience: str
    callers: frozenset[str]
    host: str
    port: int
    notify_topic: str
    project: str
    readers: frozenset[str] = frozenset()
    revision: str = ""
    freshness: timedelta | None = None

    @classmethod
    def from_environment(cls, variables: Mapping[str, str]) -> Config:
        """Read the variables; raises `Misconfigured` with everything that is wrong, and the mends."""
        config, problems = cls.read(variables)
        if problems:
            raise Misconfigured(*problems)
        return config

    @classmethod
    def read(cls, variables: Mapping[str, str]) -> tuple[Config, tuple[str, ...]]:
        """The same, and what is wrong as sentences: a setting that makes no sense is empty, or its default."""
        read = Environment(variables)
        auth = read.one_of("WEBHOOK_AUTH", AuthKind, AuthKind.BEARER)
        token = previous = audience = callers = readers = ""
        if auth is AuthKind.BEARER:
            token = read.required(
                "WEBHOOK_TOKEN", f"at least {_LEAST_TOKEN} random characters, for WEBHOOK_AUTH=bearer"
            )
            previous = read.text("WEBHOOK_TOKEN_PREVIOUS")
            for name, text in (("WEBHOOK_TOKEN", token), ("WEBHOOK_TOKEN_PREVIOUS", previous)):
                if 0 < len(text) < _LEAST_TOKEN:
                    read.refuse(f"{name}: use at least {_LEAST_TOKEN} random characters")
        if auth is AuthKind.GOOGLE_ID_TOKEN:
            audience = read.required("WEBHOOK_AUDIENCE", "whom the tokens are for, for WEBHOOK_AUTH=google-id-token")
            callers = read.required("WEBHOOK_CALLERS", "service accounts that may call, with commas between")
            readers = read.text("WEBHOOK_READERS")
        fresh = read.whole("FRESHNESS_SECONDS", 0, least=0, most=10**9)
        config = cls(
            environment=read.parsed("ENVIRONMENT", partial(check_label, "environment"), "the environment to deploy"),
            bucket=read.bucket(),
            environments=Path(read.text("ENVIRONMENTS", str(FOLDER))),
            cluster=read.text("CLUSTER", "kubernetes"),
            auth=auth,
            token=token,
            previous_token=previous,
            audience=audience,
            callers=_accounts(callers),
            readers=_accounts(readers),
            host=read.text("HOST", "0.0.0.0"),  # noqa: S104 - a pod's own address
            port=read.whole("PORT", 8080, least=1, most=65535),
            notify_topic=read.topic(),
            project=read.text("GOOGLE_CLOUD_PROJECT"),
            revision=read.text("INDEXPUSH_REVISION"),
            freshness=timedelta(seconds=fresh) if fresh else None,
        )
        return config, read.problems


def _accounts(text: str) -> frozenset[str]:
    return frozenset(account.strip() for account in text.split(",") if account.strip())
