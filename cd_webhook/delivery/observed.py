"""For how long this process has watched a rollout: what a deadline is held against.

Clocks of two machines differ by minutes, and webhooks are away for hours, or meet a cluster that is. So no machine's
clock is held against another's, and time in which nobody could look counts for nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from cd_webhook.canary import limit as canary_limit
from cd_webhook.cluster import Object
from cd_webhook.rules.rollout import longest
from cd_webhook.state import NEVER, Deployed

_LONGEST_GAP = timedelta(seconds=60)
"""Between two looks; of a longer one, the rest wasn't watched."""


@dataclass(frozen=True, slots=True)
class _Rollout:
    """what: which one. watched: for how long, until the last look. whole: that look saw all that it had to see."""

    what: object
    watched: timedelta
    last_look: datetime
    whole: bool = False


def ends_by(live: Object, deployed: Deployed) -> datetime:
    """When a rollout that goes on should have ended at the latest, by the clock of whoever began it."""
    limit = longest(live["spec"]) if deployed.trial is None else canary_limit(deployed.trial)
    return max(deployed.started, deployed.promoted or NEVER) + limit


class Observed:
    """Remembers by index. May be shared by threads: each operation on it is atomic."""

    def __init__(self) -> None:
        self._rollouts: dict[str, _Rollout] = {}

    def watched(self, index: str, deployed: Deployed, now: datetime) -> timedelta:
        """For how long this process has watched what goes on, until this look. now: by its own clock.

        The time after a look that failed, since cluster or bucket didn't answer, doesn't count: see `looked`.
        """
        what = (deployed.generation, deployed.rollout, deployed.started, deployed.promoted)
        before = self._rollouts.get(index)
        watched = timedelta(0)
        if before is not None and before.what == what:
            gap = min(max(now - before.last_look, timedelta(0)), _LONGEST_GAP)
            watched = before.watched + (gap if before.whole else timedelta(0))
        self._rollouts[index] = _Rollout(what, watched, now)
        return watched

    def looked(self, index: str) -> None:
        """The look that `watched` was asked for saw all that it had to see."""
        if (found := self._rollouts.get(index)) is not None:
            self._rollouts[index] = replace(found, whole=True)

    def forget(self, index: str) -> None:
        """Nothing goes on."""
        self._rollouts.pop(index, None)
