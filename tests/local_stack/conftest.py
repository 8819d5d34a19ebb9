from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest


@pytest.fixture
def stop_later() -> Iterator[Callable[[Callable[[], None]], None]]:
    stops: list[Callable[[], None]] = []
    yield stops.append
    for stop in reversed(stops):
        stop()
