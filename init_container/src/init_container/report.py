"""What the operator sees: JSON lines on standard error, and the last words in the termination message."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TextIO

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
        text = json.dumps({"severity": severity, "message": message, **fields}, default=str)
        self._stream.write(text + "\n")
        self._stream.flush()

    def last_words(self, message: str) -> None:
        """Leave `message` where ``kubectl describe pod`` shows it; not being able to is no reason to fail."""
        try:
            with self._termination_log.open("wb") as file:
                file.write(message.encode()[:_TERMINATION_LIMIT])
        except OSError:
            self.line("DEBUG", "no termination message written", path=str(self._termination_log))
