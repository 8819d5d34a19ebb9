"""What a team says of its pipeline, and Kubeflow's cron, which counts seconds first."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from embedding_batch.kubeflow.container import IN_VAIN
from embedding_batch.kubeflow.cron import with_seconds
from embedding_batch.kubeflow.pipeline import COUNTED
from embedding_batch.kubeflow.values import MOST_AT_ONCE, load_values, parse_values
from manifests.argo.values import EACH, parse_batch_values
from model_repository.errors import DocumentMalformed, Misconfigured

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "embedding_batch" / "kubeflow" / "example.yaml"


@pytest.mark.parametrize(
    ("familiar", "written"),
    [
        ("0 3 * * *", "0 0 3 * * *"),  # nightly: as it is, Kubeflow would run it hourly
        ("17 * * * *", "0 17 * * * *"),
        ("*/5 8-18 * * MON-FRI", "0 */5 8-18 * * MON-FRI"),
        (" 0  3 * * * ", "0 0 3 * * *"),
        ("0 0 3 * * *", "0 0 3 * * *"),
        ("30 17 * * * ?", "30 17 * * * ?"),
    ],
)
def test_a_schedule_is_written_with_seconds_first(familiar: str, written: str) -> None:
    assert with_seconds(familiar) == written


@pytest.mark.parametrize("text", ["", "hourly", "@hourly", "0 3 * *", "0 0 0 3 * * *", "0 3 * * {{x}}", "0 3 * * ;"])
def test_what_is_no_schedule_is_refused(text: str) -> None:
    with pytest.raises(Misconfigured, match="five fields"):
        with_seconds(text)


def values(**given: Any) -> Any:
    return parse_values(json.dumps({"image": "an/image:1", **given}), "values.yaml")


def test_the_steps_are_argos_and_need_what_they_need_there() -> None:
    there = parse_batch_values("namespace: n\nimage: an/image:1\n", "values.yaml", {}).steps
    for step, own in values().steps.items():
        other = there[step]
        assert (own.cpu, own.cpu_limit, own.memory_mib) == (other.cpu, other.cpu_limit, other.memory_mib)
        assert (own.gpu, own.at_once, own.deadline_seconds) == (other.gpu, other.at_once, other.deadline_seconds)
    template = (ROOT / "manifests" / "argo" / "workflow_template.yaml.j2").read_text()
    [codes] = re.findall(r"lastRetry.exitCode\) in \[([0-9, ]+)\]", template)
    assert {int(code) for code in codes.split(",")} == IN_VAIN
    assert set(COUNTED.values()) == {f"{each}s" for each in EACH.values()}


def test_the_example_is_read() -> None:
    example = load_values(EXAMPLE)
    assert example.schedule == "0 17 * * * *"
    assert example.steps["embed"].gpu == 1
    assert example.steps["build"].at_once == 8
    assert "--catalogue=bigquery://acme/shop/products" in example.options


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"images": "x"}, "images"),
        ({"steps": {"embedd": {}}}, "embedd"),
        ({"steps": {"embed": {"memory": 3}}}, "memory"),
        ({"steps": {"embed": {"at_once": MOST_AT_ONCE + 1}}}, "at_once"),
        ({"steps": {"embed": {"at_once": 0}}}, "at_once"),
        ({"steps": {"embed": {"cpu": "four"}}}, "cores"),
        ({"schedule": "0 3 * *"}, "five fields"),
        ({"options": ["--index=other"]}, "--index is set by the pipeline"),
        ({"options": ["--build"]}, "--build is set by the pipeline"),
        ({"options": ["--reason={{$.pipeline_job_uuid}}"]}, "double braces"),
        ({"env": {"A B": "x"}}, "can't name a variable"),
        ({"retries": -1}, "retries"),
    ],
)
def test_what_it_cannot_mean_is_refused_by_name(given: dict[str, Any], said: str) -> None:
    with pytest.raises(DocumentMalformed, match=re.escape(said)):
        values(**given)


@pytest.mark.parametrize("text", ["image: a\nimage: b\n", "image: [", "- image", "image: !!python/object:x.Y {}", ""])
def test_what_is_no_strict_yaml_is_refused(text: str) -> None:
    with pytest.raises(DocumentMalformed, match=r"values\.yaml"):
        parse_values(text, "values.yaml")


def test_a_file_that_is_not_there_is_said_with_an_example(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"example\.yaml"):
        load_values(tmp_path / "none.yaml")


def runs_without(packages: list[str], program: str) -> subprocess.CompletedProcess[str]:
    hidden = f"import sys; sys.modules.update(dict.fromkeys({packages!r}))\n"
    command = [sys.executable, "-c", hidden + program]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)


def test_the_pipeline_is_compiled_without_what_the_batch_needs(tmp_path: Path) -> None:
    words = ["compile", "--index=i", "--environment=e", "--repository=gs://models", f"--values={EXAMPLE}"]
    words.append(f"--output={tmp_path / 'pipeline.yaml'}")
    program = f"from embedding_batch.kubeflow.command import main\nsys.exit(main({words!r}, {{}}))"
    ended = runs_without(["numpy", "pyarrow", "PIL", "onnxruntime", "annoy", "faiss", "aiohttp", "rich"], program)
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "pipeline.yaml").exists()


def test_a_container_needs_no_kfp() -> None:
    program = (
        "from embedding_batch.kubeflow.container import main\n"
        "sys.exit(main(['--run=r', '--deadline-seconds=60', '--', 'step', 'report', '--help']))"
    )
    ended = runs_without(["kfp", "kfp_server_api", "yaml", "kubernetes"], program)
    assert ended.returncode == 0, ended.stderr
    assert "Do one step of a run" in ended.stdout
