"""Asks one pod directly, by its address, as the canary's judge needs it."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cd_webhook.cluster import Object

_TIMEOUT_SECONDS = 2.0
"""What takes longer has failed."""
_PORT_NAME = "http"
_LONGEST = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Reply:
    """status: 0 when no answer came in time. seconds: from the request sent to the answer read."""

    status: int
    body: bytes
    seconds: float


NO_REPLY = Reply(0, b"", 0.0)


Ask = Callable[[str, Sequence[str]], list[Reply]]
"""GETs each of some paths at ``<ip>:<port>``, one after the other; never raises."""


def ask_pod(address: str, paths: Sequence[str]) -> list[Reply]:
    """The `Ask` over HTTP: one connection for all paths of a call, and no proxy on the way.

    After a path that isn't answered, those that follow are not asked.
    """
    connection = http.client.HTTPConnection(address, timeout=_TIMEOUT_SECONDS)
    replies: list[Reply] = []
    try:
        connection.connect()
        for path in paths:
            begun = time.perf_counter()
            connection.request("GET", path)
            answer = connection.getresponse()
            body = answer.read(_LONGEST)
            replies.append(Reply(answer.status, body, time.perf_counter() - begun))
    except (OSError, http.client.HTTPException):
        pass
    finally:
        connection.close()
    return [*replies, *[NO_REPLY] * (len(paths) - len(replies))]


def address_of(pod: Object) -> str | None:
    """Where the pod's search server listens, as ``<ip>:<port>``; None while it has no address."""
    ip = (pod.get("status") or {}).get("podIP")
    ports = [port for container in pod["spec"]["containers"] for port in container.get("ports") or []]
    port = next((port["containerPort"] for port in ports if port.get("name") == _PORT_NAME), None)
    if not ip or port is None:
        return None
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"
