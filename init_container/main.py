"""The program: pulls what the environment says; the log says how it goes, the exit code and last words how it went."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from init_container.config import Config
from init_container.progress import Counts, Progress
from init_container.pull import Stopped, pull, stopping
from model_repository.errors import DeliveryError, TransientError
from model_repository.exit_codes import ExitCode
from model_repository.telemetry.log import Log, parse_traceparent, within
from model_repository.telemetry.spans import TRACEPARENT, spans_wanted

_TERMINATION_LIMIT = 4096
"""Kubernetes keeps this many bytes of a termination message."""


def main(environment: Mapping[str, str], log: Log | None = None) -> ExitCode:
    """Pull; returns the exit code: 0 done, 64 misconfigured, 65 the data is bad, 75 try again."""
    with within(parse_traceparent(environment.get(TRACEPARENT))):
        return _pull(environment, log or Log())


def _pull(environment: Mapping[str, str], log: Log) -> ExitCode:
    began, config, done = time.time(), None, Counts()
    termination_log = Path(environment.get("TERMINATION_LOG") or "/dev/termination-log")

    def tell(progress: Progress) -> None:
        nonlocal done
        done = progress.done
        tell_line(progress)

    try:
        with stopping():
            config = Config.from_environment(environment)
            prefix = str(config.index_prefix)
            tell_line = progress_lines(log, prefix, seconds=config.progress_seconds)
            end = pull(
                config,
                environment,
                progress=tell,
                waiting=lambda: log.info("another pull is at this destination; waiting for it"),
            )
    except (DeliveryError, Stopped) as error:
        code = _exit_code(error)
        log.error(str(error), code=error.code, exit=int(code))
        _last_words(log, termination_log, str(error))
        if spans_wanted(environment):
            from init_container.failed_span import record_failed_pull  # noqa: PLC0415 - nothing that a pull needs

            record_failed_pull(environment, config, began=began, done=done, error=error, log=log)
        return code
    _last_words(log, termination_log, _tell(log, prefix, end))
    if config.figures is not None and not end.already:  # the pull before this one left its own
        _leave_figures(log, config.figures, end, began)
    return ExitCode.OK


def _exit_code(error: DeliveryError | Stopped) -> ExitCode:
    """What a rollout's rules tell apart: only the pod's own settings and the build's bytes are beyond another try."""
    if isinstance(error, Stopped | TransientError):
        return ExitCode.TRY_AGAIN
    return ExitCode.USAGE if error.exit_code is ExitCode.USAGE else ExitCode.DATA


def progress_lines(log: Log, prefix: str, *, seconds: float) -> Callable[[Progress], None]:
    """Tells of progress every so many seconds, 0: never. rate is in bytes/s, eta in seconds or null."""
    due = seconds

    def tell(progress: Progress) -> None:
        nonlocal due
        if not seconds or progress.seconds < due:
            return
        due = progress.seconds + seconds
        eta = progress.eta
        log.info(
            f"pulling {prefix}: {100 * progress.done.have // max(progress.total, 1)} %",
            bytes=progress.done.have,
            total=progress.total,
            rate=round(progress.rate, 1),
            eta=None if eta is None else round(eta, 1),
            retries=progress.done.retries,
            connections=progress.done.connections,
        )

    return tell


def _tell(log: Log, prefix: str, end: Progress) -> str:
    """Say how a pull went; returns the sentence."""
    message = f"pulled {prefix}: {end.total} bytes in {end.seconds:.3f} s, {end.rate / 1e6:.0f} MB/s"
    if end.already:
        message = f"{prefix} was there already, whole: {end.total} bytes"
    log.info(
        message,
        prefix=prefix,
        bytes=end.total,
        fetched=end.done.received,
        seconds=round(end.seconds, 3),
        megabytes_per_second=round(end.rate / 1e6, 1),
        retries=end.done.retries,
        connections=end.done.opened,
        already=end.already,
    )
    return message


def _leave_figures(log: Log, file: Path, end: Progress, began: float) -> None:
    """Leave for the server's metrics and traces what it took; not being able to is no reason to fail.

    began: seconds since 1970.
    """
    said = {"bytes": end.done.received, "seconds": round(end.seconds, 3), "started": round(began, 6)}
    try:
        file.write_text(json.dumps(said))
    except OSError as error:
        log.warning(f"{file}: {error.strerror}; the pod's metrics won't say how long the pull took")


def _last_words(log: Log, termination_log: Path, message: str) -> None:
    """Leave `message` where ``kubectl describe pod`` shows it; not being able to is no reason to fail."""
    try:
        with termination_log.open("wb") as file:
            file.write(message.encode()[:_TERMINATION_LIMIT])
    except OSError:
        log.debug("no termination message written", path=str(termination_log))
