"""HTTP probes, as a kubelet runs them, with one difference: until the first success they look more often.

A kubelet looks once a period. On one machine that would cost most of a pod's start, so a probe that has not succeeded
yet is tried every 50 ms; its failures are still counted once a period, so thresholds mean the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from local_stack.cluster.manifest import Probe

_EAGER = 0.05
_SUCCESS = range(200, 400)


async def answers_well(address: str, probe: Probe) -> bool:
    """One attempt: whether a GET gets a 2xx or 3xx within the probe's timeout."""
    try:
        async with asyncio.timeout(probe.timeout):
            return await _status(address, probe) in _SUCCESS
    except (OSError, TimeoutError, ValueError):
        return False


async def _status(address: str, probe: Probe) -> int:
    reader, writer = await asyncio.open_connection(address, probe.port)
    try:
        headers = {"Host": f"{address}:{probe.port}", "User-Agent": "kube-probe/local", "Connection": "close"}
        lines = [f"GET {probe.path} HTTP/1.1", *(f"{k}: {v}" for k, v in (headers | dict(probe.headers)).items())]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        version, status, *_reason = (await reader.readline()).split(b" ", 2)
        if not version.startswith(b"HTTP/1."):
            raise ValueError(version)
        return int(status)
    finally:
        writer.close()


async def until_success(address: str, probe: Probe) -> bool:
    """True at the first success; False when the failure threshold is met. What a startup probe does."""
    await asyncio.sleep(probe.initial_delay)
    loop = asyncio.get_running_loop()
    failures, counted = 0, loop.time()
    while not await answers_well(address, probe):
        if loop.time() >= counted + probe.period:
            failures, counted = failures + 1, loop.time()
            if failures >= probe.failure_threshold:
                return False
        await asyncio.sleep(_EAGER)
    return True


async def watch(address: str, probe: Probe, report: Callable[[bool], None], *, eager: bool) -> None:
    """Probe for ever, and report success and failure when their threshold is met (and so again and again).

    eager: look often until the first success.
    """
    await asyncio.sleep(probe.initial_delay)
    successes = failures = 0
    while True:
        alive = await answers_well(address, probe)
        successes, failures = (successes + 1, 0) if alive else (0, failures + 1)
        if successes >= probe.success_threshold:
            eager = False
        if successes >= probe.success_threshold or failures >= probe.failure_threshold:
            report(alive)
        await asyncio.sleep(_EAGER if eager else probe.period)
