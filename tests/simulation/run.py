"""Runs one world to its end."""

from __future__ import annotations

from dataclasses import dataclass

from tests.simulation.course import begin, calm_down
from tests.simulation.invariants import Broken, after_a_step, at_the_end
from tests.simulation.world import World


@dataclass(frozen=True, slots=True)
class Result:
    """What a run did. broken: the invariant that didn't hold; empty: all did."""

    seed: int
    steps: int
    commits: int
    faults: int
    broken: str
    story: tuple[str, ...]


def run(seed: int, *, events: int = 1000, indexes: int | None = None, story: bool = False) -> Result:
    """Run the world of `seed` for about so many events."""
    world = World(seed, indexes=indexes, story=story)
    begin(world, commits=max(3, events // 40))
    broken = ""
    try:
        while world.time < world.ends and world.steps < events and world.step():
            after_a_step(world)
        calm_down(world)
        at_the_end(world)
    except Broken as error:
        broken = str(error)
    commits = sum(len(uploads) for uploads in world.uploads.values())
    return Result(seed, world.steps, commits, world.faults.met, broken, tuple(world.story or ()))
