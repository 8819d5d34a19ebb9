"""What the function is told by its environment."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

from model_repository.errors import Misconfigured, NameRefused
from model_repository.names import check_label
from model_repository.programs.environment import Environment

_CHANNEL = "SLACK_CHANNEL"
_CHANNEL_ID = re.compile(r"[CG][A-Z0-9]{7,}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret in a variable, or in the file where Secret Manager mounts it, which is read anew for each use."""

    text: str = field(default="", repr=False)
    file: Path | None = None

    def __bool__(self) -> bool:
        return bool(self.text or self.file)

    def read(self) -> str:
        """The secret. Raises `Misconfigured`."""
        if self.file is None:
            return self.text
        try:
            found = self.file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise Misconfigured(f"{self.file}: the secret can't be read ({type(error).__name__}); mount it") from error
        if not (found and found.isascii() and found.isprintable()):
            raise Misconfigured(f"{self.file} must hold the secret alone, in printable ASCII")
        return found


@dataclass(frozen=True, slots=True)
class Config:
    """The function's configuration.

    bucket: of the Model Repository, without gs://.
    slack_channels: by environment; "": of all others. Empty: Slack isn't told. slack_url: of its API.
    webhook_url: empty: no webhook is told.
    patience: so long a commit may go without a receipt; zero: nobody writes receipts here.
    """

    bucket: str
    slack_channels: Mapping[str, str]
    slack_token: Secret
    slack_url: str
    webhook_url: str
    webhook_token: Secret
    patience: timedelta
    project: str = ""

    @classmethod
    def from_environment(cls, variables: Mapping[str, str]) -> Config:
        """Read the configuration; raises `Misconfigured` with everything that is wrong, not the first thing alone."""
        read = Environment(variables)
        channels = {
            _environment_of(read, name): _channel(read, name)
            for name in sorted(variables)
            if (name == _CHANNEL or name.startswith(f"{_CHANNEL}_")) and read.text(name)
        }
        config = cls(
            bucket=read.bucket(),
            slack_channels=channels,
            slack_token=_secret(read, "SLACK_TOKEN"),
            slack_url=_url(read, "SLACK_API_URL", "https://slack.com/api/"),
            webhook_url=_url(read, "WEBHOOK_URL", ""),
            webhook_token=_secret(read, "WEBHOOK_TOKEN"),
            patience=timedelta(minutes=read.whole("RECEIPT_MINUTES", 30, least=0, most=10_000)),
            project=read.text("GOOGLE_CLOUD_PROJECT") or read.text("GCP_PROJECT"),
        )
        if bool(channels) != bool(config.slack_token):
            read.refuse("SLACK_CHANNEL and SLACK_TOKEN (or SLACK_TOKEN_FILE) need each other: set both, or neither")
        if not channels and not config.webhook_url:
            read.refuse("SLACK_CHANNEL or WEBHOOK_URL must be set: nobody would be told")
        read.done()
        return config

    def tells_slack(self, environment: str) -> bool:
        """Whether there is a channel for an environment."""
        return environment in self.slack_channels or "" in self.slack_channels

    def channel(self, environment: str) -> str:
        """The channel of an environment that has one."""
        return self.slack_channels.get(environment) or self.slack_channels[""]


def _environment_of(read: Environment, variable: str) -> str:
    environment = variable.removeprefix(_CHANNEL).removeprefix("_").lower().replace("_", "-")
    try:
        return check_label("environment", environment) if environment else ""
    except NameRefused as error:
        read.refuse(f"{variable}: {error}")
        return ""


def _channel(read: Environment, variable: str) -> str:
    channel = read.text(variable)
    if not _CHANNEL_ID.fullmatch(channel):
        read.expected(variable, "a channel's ID, such as C0123ABCD (it stands at the end of the channel's details)")
    return channel


def _url(read: Environment, variable: str, default: str) -> str:
    """An address. It is never repeated: that of a webhook often is a secret."""
    url = read.text(variable, default)
    try:
        parts = urlsplit(url if url.isprintable() else "")
    except ValueError:
        parts = urlsplit("")
    if url and (parts.scheme not in {"http", "https"} or not parts.hostname):
        read.refuse(f"{variable}: expected an http:// or https:// URL, whole and without spaces")
    return url


def _secret(read: Environment, variable: str) -> Secret:
    text, file = read.text(variable), read.text(f"{variable}_FILE")
    found = Secret(text, Path(file) if file else None)
    if text and file:
        read.refuse(f"{variable} and {variable}_FILE are both set: keep one")
    if text and not (text.isascii() and text.isprintable()):
        read.refuse(f"{variable} must hold the secret alone, in printable ASCII")
    return found
