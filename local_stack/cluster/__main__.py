"""``python -m local_stack.cluster --port 8001 --state DIR``: run the cluster until SIGTERM or SIGINT."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import uvicorn

from local_stack.cluster.api import application
from local_stack.cluster.cluster import Cluster
from local_stack.cluster.node import NodeOptions
from model_repository.errors import PermanentError

_STOP_GRACE = 0.3
"""Seconds from SIGTERM to SIGKILL for pods when the cluster itself ends."""
_MISCONFIGURED = 64

_NOTICE = (
    "This cluster is for trying things out on one machine: pods are processes of yours, with no isolation and no "
    "limits; probes that have not succeeded yet are tried every 50 ms; what it knows is gone when it ends."
)


class _Server(uvicorn.Server):
    """Leaves signals to us: pods end first."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; returns the exit status."""
    options = _parse(arguments)
    images = dict(pair.split("=", 1) for pair in options.image) or {"*": sys.executable}
    node = NodeOptions(state=options.state.resolve(), images=images, first_restart_wait=options.first_restart_wait)
    try:
        asyncio.run(_serve(node, options.port))
    except PermanentError as error:
        _log("ERROR", str(error))
        return _MISCONFIGURED
    return 0


async def _serve(node: NodeOptions, port: int) -> None:
    cluster = Cluster(node)
    _log("NOTICE", _NOTICE, port=port, podNetwork=f"{cluster.node.addresses.network}.0/24", state=str(node.state))
    config = uvicorn.Config(
        application(cluster), host="127.0.0.1", port=port, log_config=None, access_log=False, lifespan="off",
        timeout_graceful_shutdown=1,
    )  # fmt: skip
    server = _Server(config)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    serving = asyncio.create_task(server.serve())
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait([serving, stopping], return_when=asyncio.FIRST_COMPLETED)
    await cluster.close(_STOP_GRACE)
    server.should_exit = True
    await serving
    stopping.cancel()
    _log("NOTICE", "stopped")


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m local_stack.cluster", description=_NOTICE)
    parser.add_argument("--port", type=int, required=True, help="of the API, on 127.0.0.1")
    parser.add_argument("--state", type=Path, required=True, help="folder for the pods' volumes and logs")
    parser.add_argument(
        "--image", action="append", default=[], metavar="NAME=INTERPRETER",
        help="the Python interpreter that stands for an image; '*' is any image (default: this one for any)",
    )  # fmt: skip
    parser.add_argument(
        "--first-restart-wait", type=float, default=1.0, metavar="SECONDS",
        help="of CrashLoopBackOff, which doubles from it; a kubelet's is 10 (default: 1)",
    )  # fmt: skip
    return parser.parse_args(arguments)


def _log(severity: str, message: str, **fields: object) -> None:
    print(json.dumps({"severity": severity, "message": message, **fields}), file=sys.stderr, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
