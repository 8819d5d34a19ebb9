"""What each container of the pipeline runs: one step of the batch, and what Kubeflow has to know of its end.

``python -m embedding_batch.kubeflow.container [--outcome FILE --reason FILE] [--items FILE --count FIELD] --run ID
--deadline-seconds N -- step ...``; what follows the two dashes is the command line of ``python -m embedding_batch``.
``--build=`` without a name gets the run's ID.

Kubeflow's retries know no exit codes: whatever fails is tried again. So a step that would fail again (misconfigured,
the data is bad, no such bucket, somebody else committed first, a change that nobody announced, no rights) must not fail
here: it ends with 0, its outcome is `REFUSED`, and the reason goes to a task behind it that has no retries and fails.
Anything else ends as the step did, and is retried.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from threading import Thread
from typing import IO, Any, Final

from model_repository.exit_codes import ExitCode

DONE: Final = "done"
REFUSED: Final = "refused"
IN_VAIN: Final = frozenset(
    {
        ExitCode.USAGE,
        ExitCode.DATA,
        ExitCode.NO_INPUT,
        ExitCode.UNAVAILABLE,
        ExitCode.CANT_CREATE,
        ExitCode.STOPPED,
        ExitCode.NOT_ALLOWED,
    }
)
"""What another try ends with as well; Argo's template has the same."""
_LONGEST_REASON: Final = 2000
_LAST_WORDS_SECONDS: Final = 10
"""For what a step that has ended still has to say; whatever holds its standard error open then is nothing of ours."""


def main(arguments: Sequence[str], program: Sequence[str] = (sys.executable, "-m", "embedding_batch")) -> int:
    """Run the step; return what the container ends with. Its standard error is passed on as it comes."""
    options = _options(arguments)
    words = [f"--build={options.run}" if word == "--build=" else word for word in options.words]
    with tempfile.TemporaryFile() as printed:
        code, last_line = _run([*program, *words], printed, options.deadline_seconds)
        printed.seek(0)
        output = printed.read().decode()
    sys.stdout.write(output)
    if code in IN_VAIN and options.outcome:
        _write(options.outcome, REFUSED)
        _write(options.reason, f"{' '.join(words[:2])} ended with {code}: {last_line}"[:_LONGEST_REASON])
        if options.items:
            _write(options.items, "[]")
        return 0
    if code == 0 and options.items:
        count = int(json.loads(output.splitlines()[-1])[options.count])
        # as text: numbers go through a type that has no integers
        _write(options.items, json.dumps([str(number) for number in range(count)]))
    if code == 0 and options.outcome:
        _write(options.outcome, DONE)
        _write(options.reason, "")
    return code


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m embedding_batch.kubeflow.container", allow_abbrev=False)
    parser.add_argument("--outcome", type=Path, help="file for done or refused; without it a step's exit status stays")
    parser.add_argument("--reason", type=Path, help="file for why it was refused")
    parser.add_argument("--items", type=Path, help='file for ["0", "1", ...]')
    parser.add_argument("--count", help="field of the step's JSON that says how many")
    parser.add_argument("--run", required=True, help="ID of the pipeline's run")
    parser.add_argument("--deadline-seconds", type=float, required=True)
    parser.add_argument("words", nargs="+")
    return parser.parse_args(arguments)


def _run(command: Sequence[str], output: IO[bytes], seconds: float) -> tuple[int, str]:
    """Run the program within a time; returns its exit status, or what stands for its signal, and its last line."""
    lines: list[str] = []
    with subprocess.Popen(command, stdout=output, stderr=subprocess.PIPE, start_new_session=True) as child:
        # the first process of a container would ignore it
        before = signal.signal(signal.SIGTERM, lambda *_: child.terminate())
        reader = Thread(target=_pass_on, args=(child.stderr, lines), daemon=True)
        reader.start()
        try:
            code = child.wait(seconds)
        except subprocess.TimeoutExpired:
            sys.stderr.write(f"not done after {seconds:.0f} s (deadline_seconds of this step): stopped\n")
            code = ExitCode.TRY_AGAIN
        finally:
            with contextlib.suppress(ProcessLookupError):  # its processes, too: they hold its standard error open
                os.killpg(child.pid, signal.SIGKILL)
            reader.join(_LAST_WORDS_SECONDS)
            signal.signal(signal.SIGTERM, before)
    return (code if code >= 0 else 128 - code), _message(lines[-1]) if lines else "it said nothing"


def _pass_on(stream: IO[bytes], lines: list[str]) -> None:
    for line in stream:
        sys.stderr.write(text := line.decode(errors="replace"))
        sys.stderr.flush()
        if text.strip():
            lines[:] = [text.strip()]


def _message(line: str) -> str:
    try:
        said: Any = json.loads(line)
        return str(said["message"])
    except (ValueError, TypeError, KeyError):
        return line


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
