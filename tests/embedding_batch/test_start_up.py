"""What a process of the batch imports before its work: docs/benchmarks/start-up.md has what each costs."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pkgutil import resolve_name

import pytest

from embedding_batch.config import DEVICES
from embedding_batch.step import DOES
from image_embedder import Device

HEAVY = {
    *("numpy", "pyarrow", "PIL", "onnxruntime", "onnx", "aiohttp", "annoy", "faiss", "google.cloud.bigquery"),
    *("jinja2", "rich"),
}
TABLES = {"numpy", "pyarrow"}
MODELS = TABLES | {"PIL", "onnxruntime"}


@pytest.mark.parametrize(
    ("does", "needs"),
    [
        ("committing:commit_build", set()),
        ("reporting:report", {"jinja2"}),
        ("listing:list_items", TABLES),
        ("fetching:fetch_shard", TABLES),
        ("embedding:embed_shard", MODELS),
        ("publish.publishing:publish", MODELS | {"annoy"}),
        ("build.indexing:build_part", MODELS | {"annoy"}),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_a_step_in_a_process_of_its_own_imports_what_it_needs(does: str, needs: set[str]) -> None:
    program = f"""
import json, pkgutil, sys
import embedding_batch.main
pkgutil.resolve_name("embedding_batch.steps.{does}")
print(json.dumps(sorted({HEAVY!r} & sys.modules.keys())))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert set(json.loads(done.stdout)) <= needs


def test_every_step_is_there() -> None:
    assert all(callable(resolve_name(f"embedding_batch.steps.{does}")) for does in DOES.values())


def test_the_command_line_knows_the_devices_that_embed() -> None:
    assert list(Device) == list(DEVICES)


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("moment", ["Console.close", "Console.stopped", "Console.line"])
def test_a_signal_that_comes_as_the_program_ends_is_an_interruption(moment: str, signal_number: signal.Signals) -> None:
    program = f"""
import runpy, signal
from embedding_batch.command_line.console import Console
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background of a script begins without
def come(*_, **__):
    signal.raise_signal({int(signal_number)})
{moment} = come
runpy.run_module("embedding_batch", run_name="__main__")
"""
    done = subprocess.run([sys.executable, "-c", program, "--no-such"], capture_output=True, timeout=60, check=False)
    assert done.returncode == 130
