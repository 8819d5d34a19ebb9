"""What the commands touch beside the bucket: the environment, the clock and the terminal."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TextIO

from model_repository.errors import AccessDenied
from model_repository.names import parse_bucket_url
from model_repository.store import Store
from operator_cli.clock import Clock, SystemClock


def open_bucket(url: str, patience: float) -> Store:
    """The bucket that a gs:// URL names. Raises `NameRefused` or `AccessDenied`."""
    # Google's client takes a third of a second to import: --help and wrong usage don't pay for it
    from google.auth.exceptions import GoogleAuthError  # noqa: PLC0415

    from model_repository.gcs_store import GcsStore  # noqa: PLC0415

    try:
        return GcsStore(parse_bucket_url(url), patience=patience)
    except GoogleAuthError as error:
        raise AccessDenied(
            f"{url}: no valid credentials ({error}); run: gcloud auth application-default login"
        ) from error


@dataclass(frozen=True, slots=True)
class Desk:
    """Where the operator sits; tests make their own.

    open_store: from a gs:// URL and the seconds to retry.
    """

    environ: Mapping[str, str]
    open_store: Callable[[str, float], Store]
    clock: Clock
    stdout: TextIO
    stderr: TextIO

    @classmethod
    def here(cls) -> Desk:
        """This process's own."""
        return cls(os.environ, open_bucket, SystemClock(), sys.stdout, sys.stderr)

    def say(self, text: str) -> None:
        """Print a result."""
        if text:
            self.stdout.write(f"{text}\n")
            self.stdout.flush()

    def say_value(self, value: dict[str, Any]) -> None:
        """Print a result for programs: one JSON object."""
        self.say(json.dumps(value, indent=2, ensure_ascii=False))

    def warn(self, text: str) -> None:
        """Print one line for the person alone."""
        self.clear_transient()
        self.stderr.write(f"{' '.join(text.split())}\n")
        self.stderr.flush()

    def transient(self, text: str) -> None:
        """Show a line that the next one replaces; nothing where there is no terminal."""
        if self.stderr.isatty():
            self.stderr.write(f"\r\x1b[2K{text}")
            self.stderr.flush()

    def clear_transient(self) -> None:
        """Remove the line that `transient` shows."""
        self.transient("")
