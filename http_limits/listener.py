"""The listening socket, and how many files a process may open for those who connect to it."""

from __future__ import annotations

import resource
import socket
from typing import Any

_SEND_BYTES, _RECEIVE_BYTES = 64 * 1024, 128 * 1024
"""What the kernel holds for a connection, which is charged to the pod; left alone it takes up to six megabytes."""
BACKLOG = 32
"""Connections that wait to be accepted; asyncio accepts as many at once."""
_SHARE = 4
"""Of the files that may be open, callers get a quarter: the listener may accept three bursts of `BACKLOG` before the
first of them is counted, and the rest is for files and connections of our own."""
_MANY_FILES = 2**20
"""Stands for "no limit"."""


def listen(host: str, port: int, backlog: int = BACKLOG) -> socket.socket:
    """A listening socket; raises OSError if the port is taken."""
    return _bounded(socket.create_server((host, port), family=_family(host), backlog=backlog))


def share_port(host: str, port: int, count: int, backlog: int) -> list[socket.socket]:
    """So many listening sockets of one port, among which the kernel distributes who connects.

    Raises OSError if the port is taken: also by somebody who would share it.
    """
    with socket.create_server((host, port), family=_family(host)) as alone:
        port = alone.getsockname()[1]
    how: dict[str, Any] = {"family": _family(host), "backlog": backlog, "reuse_port": True}
    return [_bounded(socket.create_server((host, port), **how)) for _ in range(count)]


def _bounded(listener: socket.socket) -> socket.socket:
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BYTES)  # connections inherit both
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BYTES)
    return listener


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def raise_open_files() -> int:
    """Let this process open as many files as it may, whatever it was started with; returns how many that is."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard != resource.RLIM_INFINITY else _MANY_FILES


def affordable_connections(wanted: int, open_files: int) -> int:
    """How many connections of callers may be open at once, where so many files may be."""
    return max(1, min(wanted, open_files // _SHARE))
