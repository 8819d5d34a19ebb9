"""Programs of the stack as child processes: their logs in files, their ends tied to ours."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from model_repository.errors import PermanentError

_END_WITH_PARENT = Path(__file__).with_name("end_with_parent.py")
_POLL = 0.02
_START_SECONDS = 30.0


class ProgramFailed(PermanentError, code="program-failed"):
    """A program of the stack ended, or did not become ready."""


_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, slots=True)
class Program:
    """How to start one program of the stack.

    name: for people and for the log file. environment: complete, nothing is inherited but what stands here.
    ready_url: a GET gets `ready_status` once the program works.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    log: Path
    ready_url: str
    ready_status: int = 200
    folder: Path | None = None


@dataclass(slots=True)
class RunningProgram:
    """A program that was started. Start it from a thread that lives as long as the program (see `ending_with_us`)."""

    program: Program
    _process: subprocess.Popen[bytes] = field(repr=False)

    @classmethod
    def start(cls, program: Program) -> RunningProgram:
        """Start it, and don't wait."""
        program.log.parent.mkdir(parents=True, exist_ok=True)
        with program.log.open("ab") as log:
            process = subprocess.Popen(
                ending_with_us(program.command, signal.SIGTERM),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(program.environment),
                cwd=program.folder,
                start_new_session=True,  # a Ctrl-C in the terminal is for us: we stop the programs in order
            )
        return cls(program, process)

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    @property
    def end(self) -> str | None:
        """How it ended, for people; None while it runs."""
        code = self._process.poll()
        if code is None:
            return None
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"

    def check(self) -> None:
        """Raise `ProgramFailed` if it has ended."""
        end = self.end
        if end is not None:
            raise ProgramFailed(f"{self.program.name} {end}; {self._last_words()}")

    def wait_ready(self, seconds: float = _START_SECONDS) -> None:
        """Return when `ready_url` answers well. Raises `ProgramFailed` if that takes longer, or if it ends."""
        deadline = time.monotonic() + seconds
        while status_of(self.program.ready_url) != self.program.ready_status:
            self.check()
            if time.monotonic() > deadline:
                raise ProgramFailed(
                    f"{self.program.name} did not answer at {self.program.ready_url} within {seconds:.0f} s; "
                    f"{self._last_words()}"
                )
            time.sleep(_POLL)

    def ask_to_end(self) -> None:
        """SIGTERM, and don't wait."""
        if self._process.poll() is None:
            self._process.terminate()

    def stop(self, grace: float = 5.0) -> None:
        """End it: SIGTERM, and SIGKILL for what is left of its session after `grace` seconds."""
        self.ask_to_end()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(grace)
        self.kill()

    def kill(self) -> None:
        """SIGKILL, for it and for what is left of its session."""
        kill_session(self._process.pid)
        self._process.wait()

    def _last_words(self) -> str:
        text = self.program.log.read_text(errors="replace").strip() if self.program.log.exists() else ""
        last = " | ".join(text.splitlines()[-5:])[-1500:]
        return f"its log {self.program.log} ends: {last}" if last else f"its log {self.program.log} is empty"


def ending_with_us(command: tuple[str, ...], signal_number: int) -> list[str]:
    """The command line that runs `command` so that it gets `signal_number` when the starting thread ends."""
    return [sys.executable, "-I", "-S", str(_END_WITH_PARENT), str(os.getpid()), str(int(signal_number)), *command]


def kill_session(leader: int) -> None:
    """SIGKILL what is left of the process group that our child `leader` led."""
    try:
        os.killpg(leader, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):  # nothing left; macOS says the second of zombies
        return


def status_of(url: str) -> int:
    """The HTTP status that a GET gets; 0 without an answer."""
    try:
        with _DIRECT.open(url, timeout=1.0) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    except (OSError, http.client.HTTPException):
        return 0


_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def free_port() -> int:
    """A TCP port of 127.0.0.1 that, for a minute, the system gives to none but a server: all have SO_REUSEADDR.

    One that was merely free a moment ago may be another program's before ours has started. A connection that its
    server closed first keeps the port: https://github.com/Yelp/ephemeral-port-reserve.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = int(server.getsockname()[1])
        with socket.create_connection(("127.0.0.1", port)):
            server.accept()[0].close()
    return port


def spare_loopback() -> None:
    """Let no proxy of this process's environment stand between it and what it starts on this machine."""
    for name in ("no_proxy", "NO_PROXY"):
        spared = [host for host in os.environ.get(name, "").split(",") if host.strip()]
        os.environ[name] = ",".join(dict.fromkeys([*spared, *_LOOPBACK]))


def base_environment() -> dict[str, str]:
    """What programs may know of ours: where to find things, and nothing that changes what they do."""
    kept = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "SYSTEMROOT", "VIRTUAL_ENV")
    return {name: os.environ[name] for name in kept if name in os.environ}
