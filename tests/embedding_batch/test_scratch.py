"""Room on this machine's disk: nothing stays of a process that was killed, and nothing goes of one that lives."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from embedding_batch.state.scratch import scratch

HOLDS = """
import sys
from pathlib import Path
from embedding_batch.state.scratch import scratch

with scratch(Path(sys.argv[1])) as room:
    (room / "half a model").write_bytes(b"x" * 1000)
    print(room, flush=True)
    sys.stdin.read()
"""


@contextmanager
def another_process(folder: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """One that holds a room; with the room."""
    command = [sys.executable, "-c", HOLDS, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        yield process, Path(process.stdout.readline().strip())
        process.kill()


def rooms(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_dir()]


def test_a_room_is_empty_and_gone_afterwards_also_when_the_work_fails(tmp_path: Path) -> None:
    def fail() -> None:
        with scratch(tmp_path / "new" / "folder") as room:
            assert [path.name for path in room.iterdir()] == ["lock"]
            (room / "sub").mkdir()
            (room / "sub" / "file").touch()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert rooms(tmp_path / "new" / "folder") == []


def test_what_a_killed_process_left_the_next_one_deletes(tmp_path: Path) -> None:
    with another_process(tmp_path) as (process, left):
        process.kill()
        process.wait()
        assert (left / "half a model").exists()
        with scratch(tmp_path) as room:
            assert rooms(tmp_path) == [room]


def test_the_room_of_a_process_that_lives_is_left_alone(tmp_path: Path) -> None:
    with another_process(tmp_path) as (_, others):
        for _ in range(3):
            with scratch(tmp_path) as room:
                assert room != others
        assert (others / "half a model").exists()


def test_several_rooms_of_one_process_are_apart(tmp_path: Path) -> None:
    with scratch(tmp_path) as one, scratch(tmp_path) as other:
        assert sorted(rooms(tmp_path)) == sorted([one, other])
        assert one != other


def test_files_that_are_no_rooms_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "a person's").touch()
    with scratch(tmp_path):
        pass
    assert (tmp_path / "a person's").exists()
