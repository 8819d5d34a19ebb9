"""What the operator sees: JSON lines on standard error (Google Cloud's field names), or plain lines at a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any, TextIO

from embedding_batch.batch import Summary
from embedding_batch.events import Event, Progress, StepEnded, Warned
from model_repository.documents.commit import LiveCommit
from model_repository.errors import DeliveryError
from model_repository.exit_codes import ExitCode
from model_repository.log import Log

_SECONDS_BETWEEN = 0.1
"""At a terminal, where each line of progress replaces the one before."""
_BAR = 30


class Console:
    """Writes events as they come; progress a few seconds apart, and each step's first and last."""

    def __init__(
        self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic, *, pause: float = 3.0
    ) -> None:
        """stream: standard error. clock: seconds that only grow. pause: seconds between lines of progress in a log."""
        self._stream = stream or sys.stderr
        self._clock = clock
        self._terminal = self._stream.isatty()
        self._log = Log(stream=self._stream)
        self._next = 0.0
        self._pause = _SECONDS_BETWEEN if self._terminal else pause

    def __call__(self, event: Event) -> None:
        """Write an event."""
        match event:
            case Progress(step, done, total):
                if 0 < done < total and self._clock() < self._next:
                    return
                self._next = self._clock() + self._pause
                if self._terminal:
                    filled = _BAR * done // max(total, 1)
                    self._stream.write(f"\r{step:8}{'#' * filled}{'.' * (_BAR - filled)} {done}/{total}\x1b[K")
                    self._stream.flush()
                else:
                    self.line("DEBUG", f"{step}: {done} of {total}", step=step, done=done, total=total)
            case StepEnded(step, seconds, detail):
                self.line("INFO", f"{step}: {detail}", step=step, seconds=round(seconds, 3))
            case Warned(message):
                self.line("WARNING", message)

    def line(self, severity: str, message: str, **fields: object) -> None:
        """Write one line."""
        if self._terminal:
            seconds = f" ({fields['seconds']} s)" if "seconds" in fields else ""
            self._stream.write(f"\r{'' if severity == 'INFO' else severity + ': '}{message}{seconds}\x1b[K\n")
            self._stream.flush()
        else:
            self._log.line(severity, message, **fields)

    def stopped(self, error: DeliveryError) -> ExitCode:
        """Write why the batch stopped; return what it ends with."""
        self.line("ERROR", str(error), code=error.code)
        return error.exit_code


def summary_object(summary: Summary) -> dict[str, Any]:
    """Return the summary as what `json` writes: the batch's last word, on standard output."""
    manifest = summary.manifest
    return {
        "index_prefix": str(manifest.prefix),
        "models": [str(model.prefix) for model in manifest.models],
        **_outcome(summary.live),
        "items": manifest.items,
        "embedded": summary.embedded,
        "reused": summary.reused,
        "broken": [{"id": one.item.id, "reason": one.reason} for one in summary.broken],
        "recall": manifest.recall.value,
        "bytes_to_pull": manifest.bytes_to_pull,
        "seconds": {step: round(seconds, 3) for step, seconds in summary.seconds.items()},
    }


def _outcome(live: LiveCommit | None) -> dict[str, Any]:
    """What became of the commit; `generation` is the live commit's, None if the batch was not to commit."""
    if live is None:
        return {"outcome": "published", "generation": None}
    if not live.commit.hold:
        return {"outcome": "committed", "generation": live.generation}
    held = {"held_by": live.commit.by, "held_because": live.commit.reason}
    return {"outcome": "held", "generation": live.generation, **held}
