"""Wiring: the environment in, an exit status and last words out.

0: asked to leave, and left. 64: misconfigured. 65: the build is bad, a retry can't help. 75: try again.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import uvloop

from model_repository.errors import Misconfigured, PermanentError
from search_server.config import Config
from search_server.logs import log
from search_server.server import Stopped, serve

_TERMINATION_MESSAGE_LIMIT = 4096
"""Bytes that Kubernetes keeps."""


def main() -> int:
    """Serve as the environment says; returns the exit status."""
    try:
        config = Config.from_environment(os.environ)
    except Misconfigured as error:
        _last_words(Path(os.environ.get("TERMINATION_LOG") or "/dev/termination-log"), error.code, str(error))
        return os.EX_USAGE
    try:
        uvloop.run(serve(config))
    except PermanentError as error:
        _last_words(config.termination_log, error.code, str(error))
        return os.EX_DATAERR
    except OSError as error:
        _last_words(config.termination_log, "can-not-listen", f"{config.host}:{config.port}: {error}")
        return os.EX_TEMPFAIL
    except Stopped:
        log("NOTICE", "asked to leave before the index was ready: left at once")
        # the thread that proves is inside C++ code; to take the interpreter down around it would crash
        os._exit(os.EX_OK)
    return os.EX_OK


def _last_words(termination_log: Path, code: str, message: str) -> None:
    """Say why, in the log and where `kubectl describe pod` shows it."""
    log("CRITICAL", message, code=code)
    try:
        termination_log.write_bytes(f"{code}: {message}".encode()[:_TERMINATION_MESSAGE_LIMIT])
    except OSError as error:
        log("WARNING", f"{termination_log}: can't write the termination message: {error.strerror}")


if __name__ == "__main__":
    sys.exit(main())
