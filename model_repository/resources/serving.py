"""What the processes that answer may hold for their clients: the server obeys it, and a pod's memory has it."""

from __future__ import annotations

from typing import Final

_MIB: Final = 1024 * 1024

HELD_BYTES: Final = 48 * _MIB
"""Most bytes of bodies and unsent answers that a worker holds for all of its clients."""

JSON_BYTES: Final = 2 * _MIB
"""Most bytes of a body in JSON, of which one at a time is read."""

CONNECTIONS: Final = 4096
"""Most connections of a pod at one time."""

REMEMBERED_BYTES: Final = 16 * _MIB
"""Most bytes of answers about photos that a pod remembers: three thousand vectors of 1,280 numbers."""

PIXELS_BYTES: Final = 64 * _MIB
"""Most bytes of what models take that a pod holds on the way to who embeds elsewhere."""

_CLIENT_BYTES: Final = 20 * _MIB
"""Libraries to speak with who embeds elsewhere."""

_SUPERVISOR_BYTES: Final = 36 * _MIB
"""Interpreter and libraries; with the client of a shared cache, too."""
_TRACES_BYTES: Final = 20 * _MIB
"""OpenTelemetry's libraries in the supervisor, which is never rid of them again."""
_WORKER_BYTES: Final = 64 * _MIB
"""Interpreter and libraries; those of both engines."""
_FILTER_BYTES: Final = 64 * _MIB
"""Of the programs that fetch a filter and prepare it, one after the other: three million items, nearly all hidden."""
_CONNECTION_BYTES: Final = 10 * 1024
_COPIES: Final = 2
"""A body is put together from its parts."""
_READ_JSON: Final = 10
"""Times its own bytes that JSON takes once it is read: numbers of three letters take 32."""


def server_bytes() -> int:
    """Return the most memory of a server with one worker, besides what it maps and what embeds pictures."""
    return _SUPERVISOR_BYTES + REMEMBERED_BYTES + _FILTER_BYTES + CONNECTIONS * _CONNECTION_BYTES + _worker_bytes()


def elsewhere_bytes() -> int:
    """Return the most memory that a pod needs more where photos are embedded elsewhere; its models need none there."""
    return _COPIES * PIXELS_BYTES + _CLIENT_BYTES


def traces_bytes() -> int:
    """Return the most memory that a pod needs more where it tells a collector of its start."""
    return _TRACES_BYTES


def further_worker_bytes() -> int:
    """Return the most memory of each further worker: it maps what the first one maps, and embeds nothing."""
    return _worker_bytes()


def _worker_bytes() -> int:
    return _WORKER_BYTES + _COPIES * HELD_BYTES + _READ_JSON * JSON_BYTES
