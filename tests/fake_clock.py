"""A clock that stands until somebody moves it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from tests.builds import NOW


class FakeClock:
    """Implements `model_repository.clock.Clock`; sleeping takes no time, and `meanwhile` happens in it."""

    def __init__(self, moment: datetime = NOW) -> None:
        self.moment = moment
        self.meanwhile: Callable[[], None] = lambda: None

    def now(self) -> datetime:
        return self.moment

    def sleep(self, seconds: float) -> None:
        self.moment += timedelta(seconds=seconds)
        self.meanwhile()
