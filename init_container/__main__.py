"""``python -m init_container``: pulls what the environment says; the exit code says how it went."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from init_container.config import Config
from init_container.pull import Stopped, pull, stopping
from init_container.report import ProgressLines, Report
from model_repository.errors import AccessDenied, DeliveryError, Misconfigured, TransientError


def main(environment: Mapping[str, str]) -> int:
    """Pull; returns the exit code: 0 done, 64 misconfigured, 65 the data is bad, 75 try again."""
    report = Report(Path(environment.get("TERMINATION_LOG") or "/dev/termination-log"))
    try:
        with stopping():
            config = Config.from_environment(environment)
            prefix = str(config.index_prefix)
            progress = ProgressLines(report, prefix, seconds=config.progress_seconds)
            summary = pull(
                config,
                environment,
                progress=progress,
                waiting=lambda: report.line("INFO", "another pull is at this destination; waiting for it"),
            )
    except (DeliveryError, Stopped) as error:
        code = exit_code(error)
        report.line("ERROR", str(error), code=error.code, exit=code)
        report.last_words(str(error))
        return code
    report.summary(prefix, summary)
    return os.EX_OK


def exit_code(error: DeliveryError | Stopped) -> int:
    """The exit code of a failure, by its family."""
    if isinstance(error, Misconfigured | AccessDenied):
        return os.EX_USAGE
    if isinstance(error, TransientError | Stopped):
        return os.EX_TEMPFAIL
    return os.EX_DATAERR


if __name__ == "__main__":
    os._exit(main(os.environ))  # all is said by now, and taking the interpreter apart would cost 10 ms
