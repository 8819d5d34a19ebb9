"""Since when this process has watched a rollout: clocks of two machines differ, so none is held against another's."""

from __future__ import annotations

from datetime import datetime

from cd_webhook.state import Deployed


class Observed:
    """Remembers by index. May be shared by threads: each operation on it is atomic.

    A process that takes over begins to count anew, so that time in which nobody watched isn't held against a rollout;
    Kubernetes' own deadline goes on meanwhile.
    """

    def __init__(self) -> None:
        self._since: dict[str, tuple[object, datetime]] = {}

    def since(self, index: str, deployed: Deployed, now: datetime) -> datetime:
        """When this process first met what goes on, by its own clock, which says `now`."""
        what = (deployed.generation, deployed.rollout, deployed.started, deployed.promoted)
        known, moment = self._since.get(index, (None, now))
        if known != what or moment > now:  # the clock was put back
            self._since[index] = (what, now)
            return now
        return moment

    def forget(self, index: str) -> None:
        """Nothing goes on."""
        self._since.pop(index, None)
