"""How a pool of servers can be spoken with, by its URL."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from search_server.remote.inference import Inference

_CONNECTIONS: Final = 16
_SECONDS: Final = 2.0
"""That one request may take."""


def ways_to(url: str) -> tuple[Inference, ...]:
    """Return what speaks with an http, https, grpc or grpcs URL, best first. Ask on a running event loop.

    Only what is needed is loaded: each brings a library of its own.
    """
    parts = urlsplit(url)
    if parts.scheme in ("http", "https"):
        from search_server.remote.over_http import OverHttp  # noqa: PLC0415

        return tuple(
            OverHttp(url, binary=binary, connections=_CONNECTIONS, seconds=_SECONDS) for binary in (True, False)
        )
    from search_server.remote.over_grpc import OverGrpc  # noqa: PLC0415

    return (OverGrpc(parts.netloc, tls=parts.scheme == "grpcs", seconds=_SECONDS),)
