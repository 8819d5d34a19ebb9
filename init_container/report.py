"""What the operator sees: JSON lines on standard error, and the last words in the termination message."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TextIO

from init_container.pull import Progress, Summary

_TERMINATION_LIMIT = 4096
"""Kubernetes keeps this many bytes of a termination message."""


class Report:
    """Writes one JSON object a line, in the field names of Google Cloud's structured logging."""

    def __init__(self, termination_log: Path, stream: TextIO | None = None) -> None:
        """termination_log: where the last words go; stream: where the lines go (standard error)."""
        self._termination_log = termination_log
        self._stream = stream or sys.stderr

    def line(self, severity: str, message: str, **fields: object) -> None:
        """Write one line."""
        self._stream.write(json.dumps({"severity": severity, "message": message, **fields}, default=str) + "\n")
        self._stream.flush()

    def last_words(self, message: str) -> None:
        """Leave `message` where ``kubectl describe pod`` shows it; not being able to is no reason to fail."""
        try:
            with self._termination_log.open("wb") as file:
                file.write(message.encode()[:_TERMINATION_LIMIT])
        except OSError:
            self.line("DEBUG", "no termination message written", path=str(self._termination_log))

    def summary(self, prefix: str, summary: Summary) -> None:
        """Say how a pull went, in a line and as last words."""
        rate = summary.fetched / max(summary.seconds, 1e-9) / 1e6
        if summary.already:
            message = f"{prefix} was there already, whole: {summary.bytes} bytes"
        else:
            message = f"pulled {prefix}: {summary.bytes} bytes in {summary.seconds:.3f} s, {rate:.0f} MB/s"
        self.line(
            "INFO",
            message,
            prefix=prefix,
            bytes=summary.bytes,
            fetched=summary.fetched,
            seconds=round(summary.seconds, 3),
            megabytes_per_second=round(rate, 1),
            retries=summary.retries,
            connections=summary.connections,
            already=summary.already,
        )
        self.last_words(message)


class ProgressLines:
    """Tells of progress now and then. rate is in bytes/s, eta in seconds or null."""

    def __init__(self, report: Report, prefix: str, *, seconds: float) -> None:
        """seconds: between two lines, 0 for none."""
        self._report = report
        self._prefix = prefix
        self._every = seconds
        self._next = seconds

    def __call__(self, progress: Progress) -> None:
        """Write a line if it is time."""
        if not self._every or progress.seconds < self._next:
            return
        self._next = progress.seconds + self._every
        share = 100 * progress.bytes // max(progress.total, 1)
        eta = progress.eta
        self._report.line(
            "INFO",
            f"pulling {self._prefix}: {share} %",
            bytes=progress.bytes,
            total=progress.total,
            rate=round(progress.rate, 1),
            eta=None if eta is None else round(eta, 1),
            retries=progress.retries,
            connections=progress.connections,
        )
