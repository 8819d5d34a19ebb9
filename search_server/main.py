"""The program: the environment in, an exit status and last words out.

0: asked to leave, and left. 64: misconfigured. 65: the build is bad, a retry can't help. 75: try again.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import uvloop

from http_limits.listener import affordable_connections, raise_open_files
from model_repository.errors import Misconfigured, PermanentError
from model_repository.exit_codes import ExitCode
from model_repository.log import Log
from search_server.config import Config
from search_server.server import Stopped, serve

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
    limits = config.limits
    limits = replace(limits, connections=affordable_connections(limits.connections, raise_open_files()))
    try:
        uvloop.run(serve(replace(config, limits=limits), log))
    except PermanentError as error:
        return _last_words(log, config.termination_log, error.code, str(error), ExitCode.DATA)
    except OSError as error:
        words = f"{config.host}:{config.port}: {error}"
        return _last_words(log, config.termination_log, "can-not-listen", words, ExitCode.TRY_AGAIN)
    except Stopped:
        log.info("asked to leave before the index was ready: left at once")
        # the thread that proves is inside C++ code; to take the interpreter down around it would crash
        os._exit(ExitCode.OK)
    return ExitCode.OK


def _last_words(log: Log, termination_log: Path, code: str, message: str, exit_code: ExitCode) -> ExitCode:
    """Say why, in the log and where `kubectl describe pod` shows it."""
    log.line("CRITICAL", message, code=code)
    try:
        termination_log.write_bytes(f"{code}: {message}".encode()[:_TERMINATION_MESSAGE_LIMIT])
    except OSError as error:
        log.warning(f"{termination_log}: can't write the termination message: {error.strerror}")
    return exit_code
