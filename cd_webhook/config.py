"""What the webhook is told by its environment: one frozen value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from manifests.values import FOLDER
from model_repository.errors import Misconfigured, NameRefused
from model_repository.names import check_label

_E = TypeVar("_E", bound=StrEnum)


class ClusterKind(StrEnum):
    """Which cluster."""

    KUBERNETES = "kubernetes"
    LOCAL = "local"


class AuthKind(StrEnum):
    """How a sender proves who it is."""

    NONE = "none"
    BEARER = "bearer"
    GOOGLE_ID_TOKEN = "google-id-token"  # noqa: S105 - the name of a method


@dataclass(frozen=True, slots=True)
class Config:
    """The webhook of one environment.

    bucket: of the Model Repository. environments: folder of the values files.
    local_cluster: URL of the local stack's cluster. kubeconfig: None: the pod's own service account.
    token: for `bearer`. audience, callers: for `google-id-token`: who the token must be for, and the e-mail addresses
        of the service accounts that may call.
    """

    environment: str
    bucket: str
    environments: Path
    cluster: ClusterKind
    local_cluster: str
    kubeconfig: Path | None
    auth: AuthKind
    token: str
    audience: str
    callers: frozenset[str]
    host: str
    port: int
    project: str

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Config:
        """Read the variables; raises `Misconfigured` naming the one that is wrong and the mend."""
        read = _Reader(environment)
        cluster = read.one_of("CLUSTER", ClusterKind, ClusterKind.KUBERNETES)
        auth = read.one_of("WEBHOOK_AUTH", AuthKind, AuthKind.BEARER)
        kubeconfig = read.text("KUBECONFIG")
        config = cls(
            environment=read.label("ENVIRONMENT"),
            bucket=read.bucket("MODEL_REPOSITORY"),
            environments=Path(read.text("ENVIRONMENTS") or FOLDER),
            cluster=cluster,
            local_cluster=read.needed_if("LOCAL_CLUSTER_URL", "CLUSTER=local", needed=cluster is ClusterKind.LOCAL),
            kubeconfig=Path(kubeconfig) if kubeconfig else None,
            auth=auth,
            token=read.needed_if("WEBHOOK_TOKEN", "WEBHOOK_AUTH=bearer", needed=auth is AuthKind.BEARER),
            audience=read.needed_if(
                "WEBHOOK_AUDIENCE", "WEBHOOK_AUTH=google-id-token", needed=auth is AuthKind.GOOGLE_ID_TOKEN
            ),
            callers=frozenset(
                caller.strip()
                for caller in read.needed_if(
                    "WEBHOOK_CALLERS", "WEBHOOK_AUTH=google-id-token", needed=auth is AuthKind.GOOGLE_ID_TOKEN
                ).split(",")
                if caller.strip()
            ),
            host=read.text("HOST") or "0.0.0.0",  # noqa: S104 - a pod's own address
            port=read.port("PORT", 8080),
            project=read.text("GOOGLE_CLOUD_PROJECT"),
        )
        config._check()
        return config

    def _check(self) -> None:
        if self.local_cluster and not self.local_cluster.startswith("http://"):
            raise Misconfigured(f"LOCAL_CLUSTER_URL {self.local_cluster[:200]!r}: expected http://127.0.0.1:<port>")
        if self.auth is AuthKind.BEARER and len(self.token) < 16:  # noqa: PLR2004 - shorter ones are guessed
            raise Misconfigured("WEBHOOK_TOKEN: use at least 16 random characters")


class _Reader:
    """Reads variables; surrounding blanks are dropped, empty means unset."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment

    def text(self, name: str) -> str:
        return self._environment.get(name, "").strip()

    def required(self, name: str) -> str:
        value = self.text(name)
        if not value:
            raise Misconfigured(f"{name} is not set")
        return value

    def needed_if(self, name: str, because: str, *, needed: bool) -> str:
        value = self.text(name)
        if needed and not value:
            raise Misconfigured(f"{name} is not set, but {because} needs it")
        return value

    def label(self, name: str) -> str:
        try:
            return check_label("environment", self.required(name))
        except NameRefused as error:
            raise Misconfigured(f"{name}: {error}") from None

    def bucket(self, name: str) -> str:
        url = self.required(name)
        bucket = url.removeprefix("gs://").rstrip("/")
        if not url.startswith("gs://") or not bucket or "/" in bucket:
            raise Misconfigured(f"{name} {url[:200]!r}: expected gs://<bucket>, without a path")
        return bucket

    def port(self, name: str, default: int) -> int:
        value = self.text(name)
        if not value:
            return default
        if not (value.isascii() and value.isdigit()) or not 0 < int(value) < 2**16:
            raise Misconfigured(f"{name} {value[:40]!r}: expected a port number")
        return int(value)

    def one_of(self, name: str, kinds: type[_E], default: _E) -> _E:
        value = self.text(name) or default.value
        try:
            return kinds(value)
        except ValueError:
            known = ", ".join(kind.value for kind in kinds)
            raise Misconfigured(f"{name} {value[:40]!r}: use one of {known}") from None
