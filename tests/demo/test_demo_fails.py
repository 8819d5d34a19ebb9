"""The demo as a process, on a shop that it can't work with: `--once` must end with another status than 0."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HOME_STORE = Path(__file__).resolve().parents[2] / "local_stack" / "demo" / "home_store"


@pytest.fixture
def shop_of_one_picture(tmp_path: Path) -> Path:
    """Sixty products, all with the picture of the first."""
    lines = [json.loads(line) for line in (HOME_STORE / "catalogue.jsonl").read_text().splitlines()][:60]
    picture = (HOME_STORE / lines[0]["file"]).read_bytes()
    (tmp_path / "images").mkdir()
    for line in lines:
        (tmp_path / line["file"]).write_bytes(picture)
    (tmp_path / "catalogue.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return tmp_path


def test_a_demo_whose_step_misbehaves_ends_with_status_1_and_keeps_its_logs(
    shop_of_one_picture: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    work = tmp_path_factory.mktemp("demo")
    command = [sys.executable, "-m", "local_stack.demo", "--once", "--catalogue", str(shop_of_one_picture)]
    environment = {**os.environ, "TMPDIR": str(work)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 1, done.stdout
    assert "failed:" in done.stdout
    assert "the logs are in" in done.stdout
    assert "every step worked" not in done.stdout
    (logs,) = work.glob("indexpush-demo-*/logs")
    assert str(logs) in done.stdout
    assert list(logs.glob("*.log"))
