"""What a command runs in: the environment, the buckets, the clock and the terminal."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TextIO

from model_repository.bucket.store import Store
from model_repository.clock import Clock, SystemClock
from operator_cli.check.google import Web
from operator_cli.output.listing import Listing


def open_bucket(name: str, patience: float) -> Store:
    """A bucket by its name. Raises `AccessDenied` where there are no credentials."""
    # Google's client takes half a second to import: --help and wrong usage don't pay for it (docs/operations.md)
    from model_repository.bucket.gcs_store import GcsStore  # noqa: PLC0415

    return GcsStore(name, patience=patience)


def open_web() -> Web:
    """Google Cloud's APIs, and other servers. Raises `AccessDenied` where there are no credentials."""
    from operator_cli.check.google import RealWeb  # noqa: PLC0415 - as above

    return RealWeb()


@dataclass(frozen=True, slots=True)
class Context:
    """What a command runs in; tests make their own.

    open_store: from a bucket's name and the seconds to retry. web: for `check` alone; raises `AccessDenied`.
    """

    environ: Mapping[str, str]
    open_store: Callable[[str, float], Store]
    clock: Clock
    stdout: TextIO
    stderr: TextIO
    web: Callable[[], Web] = open_web

    @classmethod
    def of_this_process(cls) -> Context:
        """This process's own."""
        return cls(os.environ, open_bucket, SystemClock(), sys.stdout, sys.stderr)

    def say(self, text: str, listing: Listing | None = None) -> None:
        """Print a result; at a terminal in colours, and as a list in columns, if it is one."""
        if not text:
            return
        if self.stdout.isatty():
            # takes a while to import, and only terminals need it (docs/operations.md)
            from operator_cli.output.colours import write, write_listing  # noqa: PLC0415

            if listing is not None and listing.lines:
                write_listing(self.stdout, listing)
            else:
                write(self.stdout, text)
        else:
            self.stdout.write(f"{text}\n")
        self.stdout.flush()

    def say_value(self, value: dict[str, Any]) -> None:
        """Print a result for programs: one JSON object."""
        self.stdout.write(f"{json.dumps(value, indent=2, ensure_ascii=False)}\n")
        self.stdout.flush()

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
