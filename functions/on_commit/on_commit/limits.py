"""What the function allows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class Limits:
    """What the function allows.

    patience: for so long nobody is told of what may pass. sweep_budget: for so long a sweep begins looks.
    freshness: by environment, the longest that an index may go without a new commit before people are told.
    """

    patience: timedelta = timedelta(minutes=5)
    sweep_budget: timedelta = timedelta(seconds=45)
    freshness: Mapping[str, timedelta] = field(default_factory=dict)


DEFAULTS = Limits()
