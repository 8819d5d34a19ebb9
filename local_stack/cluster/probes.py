"""HTTP probes, as a kubelet runs them, with one difference: until the first success they look more often.

A kubelet looks once a period. On one machine that would cost most of a pod's start, so a probe that has not succeeded
yet is tried every 50 ms; its failures are still counted once a period, so thresholds mean the same.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

from local_stack.cluster.manifest import Json

_EAGER = 0.05
_SUCCESS = range(200, 400)


async def verdicts(address: str, port: int, probe: Json) -> AsyncIterator[bool]:
    """Probe for ever: whether all is well, each time that a threshold is met (and so again and again)."""
    period = probe.get("periodSeconds", 10)
    await asyncio.sleep(probe.get("initialDelaySeconds", 0))
    successes, failures, eager, counted = 0, 0, True, time.monotonic()
    while True:
        if await _answers_well(address, port, probe):
            successes, failures = successes + 1, 0
            if successes >= probe.get("successThreshold", 1):
                eager = False
                yield True
        elif not eager or time.monotonic() >= counted + period:
            successes, failures, counted = 0, failures + 1, time.monotonic()
            if failures >= probe.get("failureThreshold", 3):
                yield False
        else:
            successes = 0
        await asyncio.sleep(_EAGER if eager else period)


async def _answers_well(address: str, port: int, probe: Json) -> bool:
    """One attempt: whether a GET gets a 2xx or 3xx within the probe's timeout."""
    try:
        async with asyncio.timeout(probe.get("timeoutSeconds", 1)):
            return await _status(address, port, probe["httpGet"]) in _SUCCESS
    except (OSError, TimeoutError, ValueError):
        return False


async def _status(address: str, port: int, get: Json) -> int:
    reader, writer = await asyncio.open_connection(address, port)
    try:
        headers = {"Host": f"{address}:{port}", "User-Agent": "kube-probe/local", "Connection": "close"}
        headers |= {header["name"]: header["value"] for header in get.get("httpHeaders", [])}
        lines = [f"GET {get.get('path', '/')} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        version, status, *_reason = (await reader.readline()).split(b" ", 2)
        if not version.startswith(b"HTTP/1."):
            raise ValueError(version)
        return int(status)
    finally:
        writer.close()
