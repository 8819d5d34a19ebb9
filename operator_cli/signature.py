"""Who is at the keyboard, for the `by` of a commit."""

from __future__ import annotations

import configparser
import getpass
import socket
from collections.abc import Mapping
from pathlib import Path

_LONGEST = 200


def default_signature(environ: Mapping[str, str]) -> str:
    """The account that gcloud is set up with, else user@host."""
    account = environ.get("CLOUDSDK_CORE_ACCOUNT") or _gcloud_account(environ)
    text = account or f"{_user()}@{socket.gethostname()}"
    return "".join(character for character in text if character.isprintable())[:_LONGEST]


def _gcloud_account(environ: Mapping[str, str]) -> str:
    # `gcloud config get account` takes a second to say what this file says
    home = environ.get("CLOUDSDK_CONFIG") or str(Path(environ.get("HOME") or "/nonexistent") / ".config" / "gcloud")
    try:
        name = environ.get("CLOUDSDK_ACTIVE_CONFIG_NAME") or Path(home, "active_config").read_text("utf-8").strip()
        settings = configparser.ConfigParser(interpolation=None)
        settings.read_string(Path(home, "configurations", f"config_{name}").read_text("utf-8"))
        return settings.get("core", "account", fallback="")
    except (OSError, ValueError, configparser.Error):
        return ""


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container whose user id has no name
        return "unknown"
