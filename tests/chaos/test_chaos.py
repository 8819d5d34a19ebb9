"""A few rounds of what `./noxw -s chaos` runs at length."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos import bursts, kills

_SEED = 4
"""Its first three rounds kill every part, the delivery right after an upload, and commit something bad."""


def test_after_each_kill_the_live_commit_serves_or_its_receipt_says_why_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "set by the stack that it starts")
    told: list[str] = []
    assert kills.run(tmp_path, 3, _SEED, told.append) == 0, told


def test_after_a_burst_the_newest_commit_serves_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "set by the stack that it starts")
    told: list[str] = []
    assert bursts.run(tmp_path, 1, told.append, indexes=5, commits=50) == 0, told
