"""The demo as a process that somebody ends in the middle, as a person or a service manager does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.running import running_for


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_demo_that_is_ended_leaves_neither_processes_nor_files(number: signal.Signals, tmp_path: Path) -> None:
    """In a background job of a script, where the shell lets SIGINT be ignored."""
    command = ["sh", "-c", "trap '' INT; exec \"$@\"", "sh", sys.executable, "-m", "local_stack.demo"]
    with subprocess.Popen(
        command, env=dict(os.environ, TMPDIR=str(tmp_path)), stdout=subprocess.PIPE, text=True
    ) as demo:
        assert demo.stdout is not None
        line = next(line for line in demo.stdout if line.startswith("2  batch"))
        time.sleep(1)  # well into the batch
        demo.send_signal(number)
        rest = demo.stdout.read()
    assert demo.returncode == 0, line + rest
    assert "stopped" in rest
    assert list(tmp_path.glob("indexpush-demo-*")) == []
    assert running_for(tmp_path) == []


def test_a_shop_that_is_not_there_is_named_before_anything_starts(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "local_stack.demo", "--catalogue", str(tmp_path / "shop")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stdout.startswith(f"failed: --catalogue {tmp_path / 'shop'}: ")
    assert "no such file; name a folder with catalogue.jsonl or with a folder for each category" in done.stdout
    assert "bucket server" not in done.stdout
