"""Asks one pod directly, by its address: what a canary answers, and whether a filter is in force."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from http import HTTPStatus

from cd_webhook.cluster import Object

_TIMEOUT_SECONDS = 2.0
"""What takes longer has failed."""
_TELL_SECONDS = 5.0
"""A pod fetches and swaps in what it is told of."""
_LONGEST = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Reply:
    """status: 0 when no answer came in time. seconds: from the request sent to the answer read."""

    status: int
    body: bytes
    seconds: float


NO_REPLY = Reply(0, b"", 0.0)


class Told(Enum):
    """Why a pod that was told of a filter doesn't have one in force."""

    NOBODY_LISTENS = auto()
    """It hasn't begun to serve, and reads the live filter before it does; or it is gone."""
    NOT_YET = auto()
    """It didn't answer in time, or couldn't read the filter."""


Tell = Callable[[str, int], Told | int]
"""Tells the pod at ``<ip>:<port>`` that the filter with a generation is live; see `tell_pod`."""

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


def tell_pod(address: str, generation: int) -> Told | int:
    """Tell a pod that the filter with this generation is live; returns the generation of that in force there by then.

    A pod reads the live filter itself, so it may be a newer one.
    """
    connection = http.client.HTTPConnection(address, timeout=_TELL_SECONDS)
    try:
        connection.connect()
    except OSError:
        return Told.NOBODY_LISTENS
    try:
        body = json.dumps({"generation": generation})
        connection.request("POST", "/v1/filter", body, {"content-type": "application/json"})
        answer = connection.getresponse()
        said = json.loads(answer.read(_LONGEST))
        if answer.status == HTTPStatus.OK and isinstance(said["generation"], int):
            return int(said["generation"])
    except (OSError, ValueError, KeyError, TypeError, http.client.HTTPException):
        pass
    finally:
        connection.close()
    return Told.NOT_YET


def address_of(pod: Object, port_name: str = "http") -> str | None:
    """Where the pod's search server listens, as ``<ip>:<port>``; None while it has no address."""
    ip = (pod.get("status") or {}).get("podIP")
    ports = [port for container in pod["spec"]["containers"] for port in container.get("ports") or []]
    port = next((port["containerPort"] for port in ports if port.get("name") == port_name), None)
    if not ip or port is None:
        return None
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"
