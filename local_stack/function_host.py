"""The function from its own folder, under the real functions-framework, as Cloud Run functions runs it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from local_stack.processes import Program, base_environment


def deployed(functions: Path, name: str, folder: Path) -> Path:
    """A function's folder as a deployment takes it: a copy, with the contract as it is now beside the function."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(functions / name, folder, ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run([sys.executable, str(functions / "vendor.py"), str(folder)], check=True)
    return folder


def program(folder: Path, port: int, log: Path, environment: Mapping[str, str]) -> Program:
    """The function on_commit of `folder`/main.py, taking CloudEvents on 127.0.0.1:`port`."""
    source = str(folder / "main.py")
    command = [sys.executable, "-m", "functions_framework", "--target", "on_commit", "--source", source]
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
