"""The function from its own folder, under the real functions-framework, as Cloud Run functions runs it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from local_stack.processes import Program, base_environment


def program(
    folder: Path, port: int, log: Path, environment: Mapping[str, str], *, target: str = "on_commit"
) -> Program:
    """The function `target` of `folder`/main.py, taking CloudEvents on 127.0.0.1:`port`."""
    command = [sys.executable, "-m", "functions_framework", "--target", target, "--source", str(folder / "main.py")]
    command += ["--signature-type", "cloudevent", "--host", "127.0.0.1", "--port", str(port)]
    return Program(
        name="function",
        command=tuple(command),
        environment=base_environment() | dict(environment),
        log=log,
        ready_url=f"http://127.0.0.1:{port}/",
        ready_status=405,  # it only takes POSTs
        folder=folder,
    )
