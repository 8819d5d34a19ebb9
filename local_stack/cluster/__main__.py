"""``python -m local_stack.cluster --port 8001 --state DIR``: run the cluster until SIGTERM or SIGINT."""

from __future__ import annotations

import argparse
import contextlib
import signal
import socket
import sys
from pathlib import Path

import uvicorn

from local_stack.cluster.api import application
from local_stack.cluster.cluster import Cluster
from local_stack.cluster.node import Node
from model_repository.errors import PermanentError
from model_repository.exit_codes import ExitCode
from model_repository.telemetry.log import Log

_STOP_GRACE = 0.3
"""Seconds from SIGTERM to SIGKILL for pods when the cluster itself ends."""

_NOTICE = (
    "This cluster is for trying things out on one machine: pods are processes of yours, with no isolation and no "
    "limits; probes that have not succeeded yet are tried every 50 ms; what it knows is gone when it ends."
)


class _Server(uvicorn.Server):
    """Ends the pods first, and so answers whoever waits for a change."""

    def __init__(self, config: uvicorn.Config, cluster: Cluster) -> None:
        super().__init__(config)
        self._cluster = cluster

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self._cluster.close(_STOP_GRACE)
        await super().shutdown(sockets)


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
    config = uvicorn.Config(
        application(cluster),
        host="127.0.0.1",
        port=options.port,
        loop="asyncio",
        log_config=None,
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=1,
    )
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt):  # once it has stopped, uvicorn raises the signal that stopped it
        _Server(config, cluster).run()
    log.info("stopped")
    return ExitCode.OK


if __name__ == "__main__":
    sys.exit(main())
