"""What the operator sees: JSON lines on standard error (Google Cloud's field names), or at a terminal bars and text."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TextIO

from embedding_batch.events import Event, Progress, StepEnded, Warned
from model_repository.errors import DeliveryError
from model_repository.exit_codes import ExitCode
from model_repository.telemetry.log import Log

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID


class Console:
    """Writes events as they come; in a log progress a few seconds apart, and each step's first and last."""

    def __init__(
        self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic, *, pause: float = 3.0
    ) -> None:
        """stream: standard error. clock: seconds that only grow. pause: seconds between lines of progress in a log."""
        self._stream = stream or sys.stderr
        self._clock = clock
        self._bars: Bars | None = None
        if self._stream.isatty():
            from embedding_batch.command_line.bars import bars  # noqa: PLC0415 - rich, for a person alone: docs/benchmarks/start-up.md

            self._bars = bars(self._stream)
        self._tasks: dict[str, TaskID] = {}
        self._log = Log(stream=self._stream)
        self._next = 0.0
        self._pause = pause

    def __call__(self, event: Event) -> None:
        """Write an event."""
        match event:
            case Progress(step, done, total):
                self._progress(step, done, total)
            case StepEnded(step, seconds, detail):
                self.line("INFO", f"{step}: {detail}", step=step, seconds=round(seconds, 3))
            case Warned(message):
                self.line("WARNING", message)

    def _progress(self, step: str, done: int, total: int) -> None:
        if self._bars is not None:
            self._bars.start()
            if step not in self._tasks:
                self._tasks[step] = self._bars.add_task(step, total=total)
            self._bars.update(self._tasks[step], completed=done, total=total)
        elif done in (0, total) or self._clock() >= self._next:
            self._next = self._clock() + self._pause
            self.line("DEBUG", f"{step}: {done} of {total}", step=step, done=done, total=total)

    def line(self, severity: str, message: str, **fields: object) -> None:
        """Write one line."""
        if self._bars is not None:
            seconds = f" ({fields['seconds']} s)" if "seconds" in fields else ""
            text = f"{'' if severity == 'INFO' else severity + ': '}{message}{seconds}"
            self._bars.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            self._log.line(severity, message, **fields)

    def stopped(self, error: DeliveryError, **fields: object) -> ExitCode:
        """Write why the batch stopped; return what it ends with."""
        self.line("ERROR", str(error), code=error.code, **fields)
        return error.exit_code

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._bars is not None:
            self._bars.stop()
