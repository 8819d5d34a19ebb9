"""What a container of the pipeline makes of the end of a step."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from embedding_batch.kubeflow.container import main

STEP = ["--", "step", "list", "--build=b1"]


class Container:
    """A container, with a program of a few lines in place of the batch's."""

    def __init__(self, folder: Path) -> None:
        self.outcome, self.reason, self.items = (folder / name / "data" for name in ("outcome", "reason", "items"))
        self.folder = folder

    def run(self, program: str, *options: str, step: list[str] | None = None) -> int:
        outputs = ["--outcome", str(self.outcome), "--reason", str(self.reason), *options]
        words = [*outputs, "--run", "run-7", "--deadline-seconds", "60", *(step or STEP)]
        return main(words, (sys.executable, "-c", program))

    @property
    def counting(self) -> list[str]:
        return ["--items", str(self.items), "--count", "shards"]


@pytest.fixture
def container(tmp_path: Path) -> Container:
    return Container(tmp_path)


def exits(code: int, message: str = 'it\'s bad: correct "x" {{y}}') -> str:
    line = json.dumps({"severity": "ERROR", "message": message})
    return f"import sys; sys.stderr.write({line!r} + '\\n'); sys.exit({code})"


@pytest.mark.parametrize("code", [64, 65, 66, 69, 73, 77])
def test_what_would_fail_again_is_refused_with_its_reason(container: Container, code: int) -> None:
    assert container.run(exits(code), *container.counting) == 0
    assert container.outcome.read_text() == "refused"
    assert container.reason.read_text() == f'step list ended with {code}: it\'s bad: correct "x" {{{{y}}}}'
    assert json.loads(container.items.read_text()) == []


@pytest.mark.parametrize("code", [1, 70, 75, 130])
def test_what_may_pass_fails_and_says_nothing_of_an_outcome(container: Container, code: int) -> None:
    assert container.run(exits(code)) == code
    assert not container.outcome.exists()


def test_a_step_that_is_killed_fails(container: Container) -> None:
    assert container.run("import os; os.kill(os.getpid(), 9)") == 128 + 9
    assert not container.outcome.exists()


@pytest.mark.parametrize(("count", "items"), [(0, []), (3, ["0", "1", "2"])])
def test_a_step_that_counts_leaves_the_numbers(container: Container, count: int, items: list[str]) -> None:
    program = f"print('what else it prints'); print('{{\"shards\": {count}}}')"
    assert container.run(program, *container.counting) == 0
    assert json.loads(container.items.read_text()) == items
    assert (container.outcome.read_text(), container.reason.read_text()) == ("done", "")


def test_a_build_without_a_name_has_that_of_the_run(container: Container, capfd: pytest.CaptureFixture[str]) -> None:
    echo = "import sys; print(sys.argv[1:])"
    container.run(echo, step=["--", "step", "fetch", "--build=", "--shard=0"])
    container.run(echo, step=["--", "step", "fetch", "--build=mine", "--shard=0"])
    nameless, named = capfd.readouterr().out.splitlines()
    assert nameless == "['step', 'fetch', '--build=run-7', '--shard=0']"
    assert named == "['step', 'fetch', '--build=mine', '--shard=0']"


def test_without_an_outcome_the_exit_status_is_the_steps() -> None:
    words = ["--run", "run-7", "--deadline-seconds", "60", "--", "step", "report"]
    assert main(words, (sys.executable, "-c", exits(65))) == 65


def running_program(program: str) -> str:
    """A container in a process of its own, with that program in place of the batch's."""
    step = (sys.executable, "-c", program)
    return f"import sys; from embedding_batch.kubeflow.container import main; sys.exit(main(sys.argv[1:], {step!r}))"


def test_what_a_step_says_is_passed_on_while_it_runs(tmp_path: Path) -> None:
    go = tmp_path / "go"
    program = (
        "import os, sys, time\n"
        "print('first', file=sys.stderr)\n"
        f"while not os.path.exists({str(go)!r}): time.sleep(0.01)\n"
    )
    words = ["--run", "r", "--deadline-seconds", "60", "--", "step", "report"]
    with subprocess.Popen(
        [sys.executable, "-c", running_program(program), *words], stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stderr is not None
        assert running.stderr.readline() == "first\n"
        go.touch()
        assert running.wait(60) == 0


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_step_that_takes_too_long_ends_with_all_its_processes_and_is_tried_again(
    container: Container, capfd: pytest.CaptureFixture[str]
) -> None:
    pids = container.folder / "pids"
    program = (
        "import os, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(pids)!r}, 'w').write(f'{{os.getpid()}} {{child.pid}}')\n"
        "time.sleep(600)\n"
    )
    words = ["--outcome", str(container.outcome), "--reason", str(container.reason), "--run", "r"]
    assert main([*words, "--deadline-seconds", "3", *STEP], (sys.executable, "-c", program)) == 75
    assert "deadline_seconds" in capfd.readouterr().err
    assert not container.outcome.exists()
    until = time.monotonic() + 60
    while any(alive(int(pid)) for pid in pids.read_text().split()):
        assert time.monotonic() < until, "a process of the step lives on"
        time.sleep(0.05)


def test_a_pod_that_is_asked_to_end_asks_the_step(tmp_path: Path) -> None:
    ready, ended = tmp_path / "ready", tmp_path / "ended"
    program = (
        "import signal, sys, time\n"
        f"def end(*_): open({str(ended)!r}, 'w').close(); sys.exit(130)\n"
        "signal.signal(signal.SIGTERM, end)\n"
        f"open({str(ready)!r}, 'w').close()\n"
        "time.sleep(600)\n"
    )
    words = ["--run", "r", "--deadline-seconds", "600", "--", "step", "report"]
    with subprocess.Popen([sys.executable, "-c", running_program(program), *words]) as running:
        until = time.monotonic() + 60
        while not ready.exists():
            assert time.monotonic() < until
            time.sleep(0.01)
        os.kill(running.pid, signal.SIGTERM)
        assert running.wait(60) == 130
    assert ended.exists()
