"""As many processors as a container may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from model_repository.resources.processors import processors


@pytest.mark.parametrize(
    ("limit", "expected"), [("150000 100000", 1), ("50000 100000", 1), ("200000 100000", 2), ("max 100000", 64)]
)
def test_a_cgroup_s_limit_counts_as_processors(
    limit: str, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    (tmp_path / "cpu.max").write_text(limit + "\n")
    assert processors(tmp_path / "cpu.max") == expected
    assert processors(tmp_path / "missing") == 64
