"""What the webhook is told by its environment: one frozen value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from manifests.values import FOLDER
from model_repository.deployment import AuthKind
from model_repository.environment import Environment
from model_repository.names import check_label

_LEAST_TOKEN = 16
"""Characters; shorter ones are guessed."""


@dataclass(frozen=True, slots=True)
class Config:
    """The webhook of one environment.

    bucket: of the Model Repository. environments: folder of the values files.
    cluster: `kubernetes`, or what `cluster.connect` loads in its place.
    token: for `bearer`. audience, callers: for `google-id-token`: who the token must be for, and the e-mail addresses
        of the service accounts that may call.
    project: of the traces that log lines link to; may be empty.
    """

    environment: str
    bucket: str
    environments: Path
    cluster: str
    auth: AuthKind
    token: str
    audience: str
    callers: frozenset[str]
    host: str
    port: int
    project: str

    @classmethod
    def from_environment(cls, variables: Mapping[str, str]) -> Config:
        """Read the variables; raises `Misconfigured` with everything that is wrong, and the mends."""
        read = Environment(variables)
        auth = read.one_of("WEBHOOK_AUTH", AuthKind, AuthKind.BEARER)
        token = audience = callers = ""
        if auth is AuthKind.BEARER:
            token = read.required(
                "WEBHOOK_TOKEN", f"at least {_LEAST_TOKEN} random characters, for WEBHOOK_AUTH=bearer"
            )
            if 0 < len(token) < _LEAST_TOKEN:
                read.refuse(f"WEBHOOK_TOKEN: use at least {_LEAST_TOKEN} random characters")
        if auth is AuthKind.GOOGLE_ID_TOKEN:
            audience = read.required("WEBHOOK_AUDIENCE", "whom the tokens are for, for WEBHOOK_AUTH=google-id-token")
            callers = read.required("WEBHOOK_CALLERS", "service accounts that may call, with commas between")
        config = cls(
            environment=read.parsed("ENVIRONMENT", partial(check_label, "environment"), "the environment to deploy"),
            bucket=read.bucket(),
            environments=Path(read.text("ENVIRONMENTS", str(FOLDER))),
            cluster=read.text("CLUSTER", "kubernetes"),
            auth=auth,
            token=token,
            audience=audience,
            callers=frozenset(caller.strip() for caller in callers.split(",") if caller.strip()),
            host=read.text("HOST", "0.0.0.0"),  # noqa: S104 - a pod's own address
            port=read.whole("PORT", 8080, least=1, most=65535),
            project=read.text("GOOGLE_CLOUD_PROJECT"),
        )
        read.done()
        return config
