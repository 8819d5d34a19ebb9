"""No false last word under any fault; and the simulation finds the bugs that would bring one."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from functools import partial

import pytest

from tests.simulation.bugs import BUGS, planted
from tests.simulation.course import begin, calm_down
from tests.simulation.run import run
from tests.simulation.world import World

EVENTS = 100_000
EACH = 800
FOUND_AT = {
    "the live commit is not read": 8,
    "the receipt comes before the report": 63,
    "a fault of the set-up is a verdict": 3,
    "an undo forgets what served": 13,
    "events pass over receipts": 6,
    "a hold is not seen": 20,
    "nothing is restored": 4,
    "builds are not checked": 6,
    "a cluster's policy is a verdict": 5,
    "a full quota is a verdict": 5,
    "a scale by hand is lost": 4,
    "a conflict counts as done": 3,
    "what somebody restarts is given up": 18,
    "a sweep passes over filters": 79,
    "a shadow stays when its commit is gone": 23,
}
"""Where the search for a bug begins: what the seeds mean changes with the code, and it goes on from there."""
WORLDS = 60


@pytest.mark.timeout(1200)
def test_in_100_000_events_with_faults_everything_holds() -> None:
    broken: list[str] = []
    events = faults = seed = 0
    with ProcessPoolExecutor(2) as pool:
        while events < EVENTS:
            for result in pool.map(partial(run, events=EACH), range(seed, seed + 20)):
                events, faults = events + result.steps, faults + result.faults
                if result.broken:
                    broken.append(
                        f"python -m tests.simulation --seed {result.seed} --events {EACH} --story: {result.broken}"
                    )
            seed += 20
    assert broken == []
    assert faults > EVENTS / 50


def test_with_hundreds_of_indexes_everything_holds() -> None:
    result = run(4, events=3000, indexes=300)
    assert result.broken == ""
    assert result.commits > 50


def test_a_seed_tells_the_same_story_twice() -> None:
    first, second = (run(7, events=500, story=True) for _ in range(2))
    assert first == second
    assert len(first.story) > 100


def test_what_is_deleted_once_all_is_calm_excuses_no_receipt() -> None:
    struck = 0
    for seed in range(12):
        world = World(seed, story=True)
        begin(world, commits=20)
        while world.time < world.ends and world.steps < EACH and world.step():
            pass
        excused = set(world.disturbed), set(world.deleted)
        calm_down(world)
        assert (world.disturbed, world.deleted) == excused
        struck += any("when all is calm" in line and "somebody" in line for line in world.story or ())
    assert struck > 0


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_found(name: str) -> None:
    begin = FOUND_AT.get(name, 0)
    with planted(name):
        assert any(run(begin + number, events=EACH).broken for number in range(WORLDS))
