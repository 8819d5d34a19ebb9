"""What a command runs in: the environment, the buckets, the clock and the terminal."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TextIO

from model_repository.bucket.store import Store
from model_repository.clock import Clock, SystemClock
from operator_cli.check.google import Web
from operator_cli.errors import AnswerUnwritten
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


def _drop(stream: TextIO) -> None:
    """Send what a stream still holds nowhere: Python would end with a status of its own because nobody took it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


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
        """This process's own; what whoever began it has closed takes everything, and shows nothing."""
        nowhere = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - to the end
        return cls(os.environ, open_bucket, SystemClock(), sys.stdout or nowhere, sys.stderr or nowhere)

    def say(self, text: str, listing: Listing | None = None) -> None:
        """Print a result; at a terminal in colours, and as a list in columns, if it is one.

        Raises `AnswerUnwritten`, and BrokenPipeError where nobody reads on, as `say_value` does.
        """
        if not text:
            return
        with self.answering():
            if self.stdout.isatty():
                # takes a while to import, and only terminals need it (docs/operations.md)
                from operator_cli.output.colours import write, write_listing  # noqa: PLC0415

                if listing is not None and listing.lines:
                    write_listing(self.stdout, listing)
                else:
                    write(self.stdout, text)
            else:
                self.stdout.write(f"{text}\n")

    def say_value(self, value: dict[str, Any]) -> None:
        """Print a result for programs: one JSON object."""
        with self.answering():
            self.stdout.write(f"{json.dumps(value, indent=2, ensure_ascii=False)}\n")

    @contextlib.contextmanager
    def answering(self) -> Iterator[None]:
        """What is written to `stdout` by others; raises as `say` does."""
        try:
            yield
            self.stdout.flush()
        except OSError as error:
            _drop(self.stdout)
            if isinstance(error, BrokenPipeError):  # `indexpush history | head`
                raise
            raise AnswerUnwritten(
                f"standard output: {error.strerror}; make room there; indexpush status shows what stands in the bucket"
            ) from error

    def warn(self, text: str) -> None:
        """Print one line for the person alone; one that can't be written is lost."""
        try:
            self.clear_transient()
            self.stderr.write(f"{' '.join(text.split())}\n")
            self.stderr.flush()
        except OSError:
            _drop(self.stderr)

    def transient(self, text: str) -> None:
        """Show a line that the next one replaces; nothing where there is no terminal."""
        if self.stderr.isatty():
            self.stderr.write(f"\r\x1b[2K{text}")
            self.stderr.flush()

    def clear_transient(self) -> None:
        """Remove the line that `transient` shows."""
        self.transient("")
