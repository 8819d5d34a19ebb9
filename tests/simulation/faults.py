"""What may befall a call that leaves a process."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


class Death(BaseException):
    """The process is gone; nothing in it catches this. who: which one."""

    def __init__(self, who: str) -> None:
        super().__init__(who)
        self.who = who


@dataclass(frozen=True, slots=True)
class Errors:
    """What a dependency's failure looks like to its caller: for a moment, and as a fault of the set-up.

    others: what else it says for a moment, such as 409.
    """

    passing: Callable[[str], Exception]
    setup: Callable[[str], Exception]
    others: tuple[Callable[[str], Exception], ...] = ()


class Faults:
    """Decides, from a seed, what happens to each call. rate: the share of calls that something happens to."""

    def __init__(self, chance: random.Random, rate: float, stall: Callable[[], None]) -> None:
        """stall: lets others act before the call goes on."""
        self.rate = rate
        self.met = 0
        self.deaths = 0
        self.outages: dict[tuple[str, str], float] = {}
        """By caller and dependency: until when every call fails as a fault of the set-up does."""
        self.policy: frozenset[str] = frozenset()
        self.policy_ends = 0.0
        """Until when the cluster refuses these kinds of writes, whatever is in them."""
        self.storm_ends = 0.0
        """Until when others write to Deployments all the time."""
        self._chance = chance
        self._stall = stall

    def stop(self) -> None:
        """From now on nothing goes wrong."""
        self.rate, self.outages = 0.0, {}
        self.policy_ends = self.storm_ends = 0.0

    def pass_on(  # noqa: PLR0917 - one call
        self, who: str, what: str, name: str, now: float, errors: Errors, act: Callable[[], T]
    ) -> T:
        """Do `act`, the call of `who` to `what` about `name`, or what becomes of it."""
        if self.rate == 0:
            return act()
        if self.outages.get((who.split("-", maxsplit=1)[0], what), 0.0) > now:
            self.met += 1
            raise errors.setup(f"{what}: {name}: denied")
        draw = self._chance.random()
        if draw >= self.rate:
            return act()
        self.met += 1
        kind = self._chance.choice(("fails", "fails", "lost", "dies", "dies after", "stalls", "stalls", "denied"))
        if kind == "stalls":
            self._stall()
            return act()
        if kind == "fails":
            raise self._chance.choice((errors.passing, *errors.others))(f"{what}: {name}: not now")
        if kind == "denied":
            raise errors.setup(f"{what}: {name}: 403")
        if kind == "dies":
            self.deaths += 1
            raise Death(who)
        found = act()
        if kind == "lost":
            del found
            raise errors.passing(f"{what}: {name}: the answer was lost")
        self.deaths += 1
        raise Death(who)
