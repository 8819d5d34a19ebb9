"""``python -m local_stack.cluster --port 8001 --state DIR``: run the cluster until SIGTERM or SIGINT."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

import uvicorn

from local_stack.cluster.api import application
from local_stack.cluster.cluster import Cluster
from local_stack.cluster.node import Node
from model_repository.errors import PermanentError
from model_repository.exit_codes import ExitCode
from model_repository.log import Log

_NOTICE = (
    "This cluster is for trying things out on one machine: pods are processes of yours, with no isolation and no "
    "limits; probes that have not succeeded yet are tried every 50 ms; what it knows is gone when it ends."
)


def main() -> ExitCode:
    """Run it; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m local_stack.cluster", description=_NOTICE)
    add = parser.add_argument
    add("--port", type=int, required=True, help="of the API, on 127.0.0.1")
    add("--state", type=Path, required=True, help="folder for the pods' volumes and logs")
    image = "the Python interpreter that stands for an image; '*' is any image (default: this one for any)"
    add("--image", action="append", default=[], metavar="NAME=INTERPRETER", help=image)
    wait = "of CrashLoopBackOff, which doubles from it; a kubelet's is 10 (default: 1)"
    add("--first-restart-wait", type=float, default=1.0, metavar="SECONDS", help=wait)
    options = parser.parse_args()
    images = dict(pair.split("=", 1) for pair in options.image) or {"*": sys.executable}
    log, state = Log(), options.state.resolve()
    try:
        cluster = Cluster(Node(state, images, first_restart_wait=options.first_restart_wait))
    except PermanentError as error:
        log.error(str(error), code=error.code)
        return ExitCode.USAGE
    log.info(_NOTICE, port=options.port, podNetwork=f"{cluster.node.network}.0/24", state=str(state))
    signal.signal(
        signal.SIGTERM, signal.default_int_handler
    )  # uvicorn stops, then raises it anew and takes it as its end
    uvicorn.run(
        application(cluster),
        host="127.0.0.1",
        port=options.port,
        loop="asyncio",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=1,
    )
    log.info("stopped")
    return ExitCode.OK


if __name__ == "__main__":
    sys.exit(main())
