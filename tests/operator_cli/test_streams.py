"""Where the command's words go to: disks that are full, pipes that nobody reads, streams that were closed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

VALUES = Path(__file__).parents[2] / "manifests" / "environments"
COMMAND = (sys.executable, "-c", "import sys; from operator_cli.main import main; sys.exit(main())")
PIPELINE = f"spinnaker-pipeline --repository gs://my-models -e staging --index shoes --values {VALUES}"


def ask(words: str, redirected: str) -> subprocess.CompletedProcess[str]:
    line = f'exec "$@" {words} {redirected}'
    return subprocess.run(["/bin/sh", "-c", line, "sh", *COMMAND], capture_output=True, text=True, check=False)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("words", ["completion bash", PIPELINE, PIPELINE + " --output json"])
def test_an_answer_that_a_full_disk_doesnt_take_is_one_line_and_a_try_again(words: str) -> None:
    done = ask(words, "> /dev/full")
    assert done.returncode == os.EX_TEMPFAIL
    assert done.stderr == (
        "indexpush: standard output: No space left on device; make room there; "
        "indexpush status shows what stands in the bucket\n"
    )


@pytest.mark.parametrize("redirected", ["> /dev/full 2>&1", "2> /dev/full"])
def test_a_full_disk_behind_the_messages_changes_no_status(redirected: str) -> None:
    assert ask("status", redirected).returncode == os.EX_USAGE  # no bucket is named


@pytest.mark.parametrize("redirected", [">&-", "2>&-", ">&- 2>&-"])
def test_streams_that_whoever_began_it_closed_change_no_status(redirected: str) -> None:
    assert ask("completion bash", redirected).returncode == os.EX_OK
    assert ask("status", redirected).returncode == os.EX_USAGE


def test_a_pipe_that_nobody_reads_on_is_no_failure() -> None:
    line = '{ "$@" completion bash; echo $? >&2; } | true'
    done = subprocess.run(["/bin/sh", "-c", line, "sh", *COMMAND], capture_output=True, text=True, check=True)
    assert done.stderr == "0\n"
