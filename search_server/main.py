"""The program: the environment in, an exit status and last words out.

0: asked to leave, and left. 64: misconfigured. 65: the build is bad, a retry can't help. 70: workers died again
and again. 75: try again.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import uvloop

from model_repository.errors import Misconfigured
from model_repository.exit_codes import ExitCode
from model_repository.telemetry.log import Log
from search_server.config import Config
from search_server.processes.supervisor import PodFailed, supervise

_TERMINATION_MESSAGE_LIMIT = 4096
"""Bytes that Kubernetes keeps."""


def main(environment: Mapping[str, str]) -> ExitCode:
    """Serve as the environment says; returns the exit status."""
    log = Log()
    try:
        config = Config.from_environment(environment)
    except Misconfigured as error:
        where = Path(environment.get("TERMINATION_LOG") or "/dev/termination-log")
        return _last_words(log, where, error.code, str(error), ExitCode.USAGE)
    log = log.bind(generation=config.generation)
    try:
        uvloop.run(supervise(config, log))
    except PodFailed as error:
        return _last_words(log, config.termination_log, error.code, str(error), ExitCode(error.exit_code))
    except OSError as error:
        words = f"{config.host}:{config.port} and {config.probe_port}: {error}"
        return _last_words(log, config.termination_log, "can-not-listen", words, ExitCode.TRY_AGAIN)
    return ExitCode.OK


def _last_words(log: Log, termination_log: Path, code: str, message: str, exit_code: ExitCode) -> ExitCode:
    """Say why, in the log and where `kubectl describe pod` shows it."""
    log.line("CRITICAL", message, code=code)
    try:
        termination_log.write_bytes(f"{code}: {message}".encode()[:_TERMINATION_MESSAGE_LIMIT])
    except OSError as error:
        log.warning(f"{termination_log}: can't write the termination message: {error.strerror}")
    return exit_code
