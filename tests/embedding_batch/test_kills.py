"""The batch is killed at random moments; `python -m tests.batch_kills` does it more often."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.batch_kills.__main__ import sells
from tests.batch_kills.rounds import Killing, length_of, one_round


@pytest.fixture
def killing(tmp_path: Path, cache: Path, new_bucket: Callable[[], str]) -> Callable[[], Killing]:
    """Makes shops with 24 pictures, each with a bucket of its own."""
    catalogue = sells(tmp_path / "catalogue", 24)
    (cache / "models").mkdir(exist_ok=True)

    def make() -> Killing:
        bucket = new_bucket()
        own = tmp_path / bucket
        own.mkdir()
        (own / "models").symlink_to(cache / "models")
        return Killing(catalogue, 24, bucket, own, random.Random(7))

    return make


def test_whatever_moment_a_run_is_killed_at_the_next_one_ends_right(killing: Callable[[], Killing]) -> None:
    undisturbed = killing()
    assert undisturbed.run().returncode == 0
    length = length_of(killing())
    for seed in range(3):
        disturbed = killing()
        disturbed.chance = random.Random(seed)
        one_round(disturbed, length, undisturbed.files())


def test_a_run_that_is_told_to_go_leaves_nothing_on_this_machine(killing: Callable[[], Killing]) -> None:
    lines, _ = length_of(killing())
    # where whoever reads the log is late, the run was done before: then another one is told
    assert 130 in (killing().kill(lines // 4, signal.SIGTERM) for _ in range(10))
