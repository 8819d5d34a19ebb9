"""The programs that the demo runs as a person would: the batch and the operator's command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from local_stack.demo.console import Advance
from local_stack.processes import ProgramFailed

_PATIENCE = 120.0
"""Seconds."""


def run_batch(arguments: Sequence[str], variables: Mapping[str, str], cache: Path, advance: Advance) -> dict[str, Any]:
    """Run the batch; gives its summary. Raises `ProgramFailed` with its last words."""
    command = [sys.executable, "-m", "embedding_batch", *arguments, "--cache", str(cache)]
    own = {**os.environ, "PROGRESS_SECONDS": "0.1"}  # for the bar
    with subprocess.Popen(
        command, env=own | dict(variables), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as batch:
        try:
            last = _follow(batch, advance)
            answer = batch.stdout.read() if batch.stdout else ""
        except BaseException:
            batch.kill()
            raise
    if batch.returncode:
        raise ProgramFailed(f"the batch ended with status {batch.returncode}: {last}")
    summary: dict[str, Any] = json.loads(answer)
    return summary


def _follow(batch: subprocess.Popen[str], advance: Advance) -> str:
    last = ""
    for line in batch.stderr or ():
        last = line.strip()
        try:
            said = json.loads(line)
        except ValueError:
            continue
        last = said.get("message", last)
        if "done" in said and "total" in said:
            advance(said["step"], said["done"], said["total"])
    return last


def run_indexpush(arguments: list[str], variables: Mapping[str, str]) -> str:
    """Run the operator's command; gives what it prints. Raises `ProgramFailed` if it fails."""
    return _said(str(Path(sys.executable).with_name("indexpush")), arguments, variables)


def run_module(module: str, arguments: Sequence[str], variables: Mapping[str, str]) -> str:
    """Run ``python -m module``; gives what it prints. Raises `ProgramFailed` if it fails."""
    return _said(sys.executable, ["-m", module, *arguments], variables)


def _said(program: str, arguments: Sequence[str], variables: Mapping[str, str]) -> str:
    command, name = [program, *arguments], " ".join((Path(program).name, *arguments))
    try:
        done = subprocess.run(
            command, env={**os.environ, **variables}, capture_output=True, text=True, check=False, timeout=_PATIENCE
        )
    except subprocess.TimeoutExpired as error:
        raise ProgramFailed(f"{name} wasn't done after {_PATIENCE} s") from error
    if done.returncode:
        raise ProgramFailed(f"{name} ended with status {done.returncode}: {_last_words(done.stderr)}")
    return done.stdout.strip()


def _last_words(stderr: str) -> str:
    """What a program said in the end: all of it, or the message of a line of its log."""
    last = stderr.strip().rpartition("\n")[2]
    try:
        return str(json.loads(last)["message"])
    except (ValueError, KeyError, TypeError):
        return stderr.strip()
