"""The pipeline run by kfp itself, on this machine: real command lines, a real bucket server, the demo's pictures."""

from __future__ import annotations

import json
import stat
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp import local
from kfp.local.subprocess_task_handler import SubprocessTaskHandler

from embedding_batch.command_line.reading import read_command, read_step
from embedding_batch.kubeflow.pipeline import EACH, batch_pipeline, compile_pipeline
from embedding_batch.kubeflow.values import load_values, parse_values
from manifests.argo.values import STEPS
from model_repository.bucket.gcs_store import GcsStore
from model_repository.errors import ObjectMissing
from model_repository.names import Target
from model_repository.repository import read_build, read_live_commit

TARGET = Target("staging", "home-store")
EXAMPLE = Path(__file__).parents[2] / "embedding_batch" / "kubeflow" / "example.yaml"
ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)

SHIM = """#!{python}
# Stands where a container's `python` does: notes each start, and is killed once in place of the one that should be.
import json, os, sys
words = sys.argv[1:]
with open({log!r}, "a") as log:
    log.write(json.dumps(words) + "\\n")
for kill in json.load(open({kills!r})):
    mark = {log!r} + "." + "-".join(kill).replace("/", "_")
    if set(kill) <= set(words) and not os.path.exists(mark):
        open(mark, "w").close()
        sys.exit(137)
os.execv({python!r}, [{python!r}, *words])
"""


@dataclass
class Pipelines:
    """kfp's runner on this machine, a bucket, and a catalogue."""

    folder: Path
    bucket: str
    cache: Path
    log: Path = field(init=False)

    def __post_init__(self) -> None:
        self.log = self.folder / "started.jsonl"
        self.kill()
        shim = self.folder / "bin" / "python"
        shim.parent.mkdir()
        shim.write_text(SHIM.format(python=sys.executable, log=str(self.log), kills=str(self.folder / "kills.json")))
        shim.chmod(shim.stat().st_mode | stat.S_IXUSR)

    @property
    def store(self) -> GcsStore:
        return GcsStore(self.bucket)

    def kill(self, *words: str) -> None:
        """Have the first container with these words killed."""
        (self.folder / "kills.json").write_text(json.dumps([words] if words else []))

    def run(self, *, retries: int = 2, build: str = "", pictures_a_shard: int = 20) -> list[list[str]]:
        """Run the pipeline; returns how each container was started. Raises RuntimeError where it fails."""
        self.log.write_text("")
        given = {
            "image": "a/python",
            "retries": retries,
            "retry_seconds": 1,
            "options": [
                f"--catalogue={self.folder / 'shop'}",
                f"--shard-pictures={pictures_a_shard}",
                "--exact-items=0",  # else so few are one part
            ],
            "env": {"XDG_CACHE_HOME": str(self.cache), "PYTHONPATH": str(ROOT)},
        }
        batch_pipeline(TARGET, f"gs://{self.bucket}", parse_values(json.dumps(given), "values"))(build=build)
        return self.started

    @property
    def started(self) -> list[list[str]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    @property
    def steps(self) -> list[str]:
        """The steps that were started, with their shards and parts: "fetch 0"."""
        commands = [words[words.index("step") + 1 :] for words in self.started if "step" in words]
        return [
            " ".join([command[0], *(w.split("=")[1] for w in command if w.startswith(("--shard=", "--part=")))])
            for command in commands
        ]

    @property
    def stopped(self) -> list[str]:
        """The reasons that were given to `stop`."""
        return [words[2] for words in self.started if words[0] == "-c"]

    def shop(self, home_store: Path, counts: dict[str, int]) -> None:
        """A catalogue of so many pictures of categories."""
        shop = self.folder / "shop"
        shop.mkdir(exist_ok=True)
        if not (shop / "images").exists():
            (shop / "images").symlink_to(home_store / "images")
        rows = [json.loads(line) for line in (home_store / "catalogue.jsonl").read_text().splitlines()]
        chosen = [row for name, n in counts.items() for row in [r for r in rows if r["category"] == name][:n]]
        (shop / "catalogue.jsonl").write_text("".join(json.dumps(row) + "\n" for row in chosen))


@pytest.fixture
def pipelines(
    tmp_path: Path, new_bucket: Callable[[], str], cache: Path, monkeypatch: pytest.MonkeyPatch, home_store: Path
) -> Pipelines:
    made = Pipelines(tmp_path, new_bucket(), cache)
    made.shop(home_store, {"Vehicles": 12})
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    # A container's command runs in a process as well as a function does; kfp's runner would only take functions.
    monkeypatch.setattr(SubprocessTaskHandler, "validate_not_container_component", lambda *_: None)
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(tmp_path / "root"), raise_on_error=True)
    return made


@pytest.mark.timeout(900)
def test_a_run_puts_a_commit_into_the_bucket_and_so_does_one_that_finds_nothing_new(
    pipelines: Pipelines, home_store: Path
) -> None:
    pipelines.shop(home_store, {"Vehicles": 20, "Lights": 20})
    pipelines.run()
    shards, parts = ["0", "1"], ["0", "1"]
    wanted = ["list", *(f"fetch {n}" for n in shards), *(f"embed {n}" for n in shards), "collect"]
    wanted += [*(f"build {n}" for n in parts), "publish", "diff", "commit", "report"]
    assert sorted(pipelines.steps) == sorted(wanted)
    order = [step.split()[0] for step in pipelines.steps]
    assert sorted(order, key=STEPS.index) == order, "a step began before all of the one before it had ended"
    first = read_live_commit(pipelines.store, TARGET)
    assert read_build(pipelines.store, first.commit.index_prefix).manifest.items == 40
    build = first.commit.index_prefix.build
    report = json.loads(pipelines.store.read(f"reports/home-store/{build}.json", limit=10**6).data)
    assert (report["outcome"], report["items"]) == ("committed", 40)

    pipelines.run()
    # parts are built side by side: whichever comes first
    assert pipelines.steps[:2] == ["list", "collect"]
    assert sorted(pipelines.steps[2:4]) == ["build 0", "build 1"]
    assert pipelines.steps[4:] == ["publish", "diff", "commit", "report"]
    second = read_live_commit(pipelines.store, TARGET)
    assert second.generation != first.generation
    assert second.commit.index_prefix.build != build
    assert read_build(pipelines.store, second.commit.index_prefix).manifest.items == 40


@pytest.mark.timeout(900)
def test_of_a_step_that_fails_only_the_shard_that_failed_is_tried_again(pipelines: Pipelines) -> None:
    pipelines.kill("embed", "--shard=1")
    pipelines.run(pictures_a_shard=6)
    started = Counter(pipelines.steps)
    assert started.pop("embed 1") == 2
    assert set(started.values()) == {1}
    assert (
        read_build(pipelines.store, read_live_commit(pipelines.store, TARGET).commit.index_prefix).manifest.items == 12
    )


@pytest.mark.timeout(900)
def test_a_bad_catalogue_ends_the_run_without_another_try_and_nothing_is_committed(pipelines: Pipelines) -> None:
    (pipelines.folder / "shop" / "catalogue.jsonl").write_text('{"id": "a", "category": 3, "file": "a.jpg"}\n')
    with pytest.raises(RuntimeError, match="stop"):
        pipelines.run(retries=5)
    assert pipelines.steps == ["list", "report"]
    [reason] = pipelines.stopped
    assert reason.startswith("step list ended with 65: ")
    assert "catalogue.jsonl" in reason
    [written] = [info.name for info in pipelines.store.listing("reports/") if info.name.endswith(".json")]
    report = json.loads(pipelines.store.read(written, limit=10**6).data)
    [error] = report["errors"]
    assert (report["outcome"], error["step"], error["code"]) == ("failed", "list", "catalogue-malformed")
    assert reason == f"step list ended with 65: {error['message']}"
    with pytest.raises(ObjectMissing):
        read_live_commit(pipelines.store, TARGET)
    assert pipelines.store.listing("indexes/") == []


@pytest.mark.timeout(900)
def test_a_run_that_failed_goes_on_under_its_builds_name(pipelines: Pipelines) -> None:
    pipelines.kill("collect")
    with pytest.raises(RuntimeError, match="collect"):
        pipelines.run(retries=0, build="again")
    assert pipelines.steps == ["list", "fetch 0", "embed 0", "collect", "report"]
    embedded = pipelines.store.listing("features/")

    pipelines.run(retries=0, build="again")
    assert read_live_commit(pipelines.store, TARGET).commit.index_prefix.build == "again"
    assert pipelines.store.listing("features/") == embedded, "what was embedded was embedded again"


def compiled(tmp_path: Path) -> dict[str, Any]:
    compile_pipeline(TARGET, "gs://models", load_values(EXAMPLE), tmp_path / "pipeline.yaml")
    documents = list(yaml.safe_load_all((tmp_path / "pipeline.yaml").read_text()))
    assert len(documents) == 1, "Vertex AI reads one document"
    specification: dict[str, Any] = documents[0]
    return specification


def tasks_of(specification: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Every task of the pipeline, at any depth, by its component's name."""
    graphs = [specification["root"], *specification["components"].values()]
    tasks = [task for graph in graphs for task in graph.get("dag", {}).get("tasks", {}).values()]
    return {task["componentRef"]["name"].removeprefix("comp-"): task for task in tasks}


def command_of(container: dict[str, Any]) -> list[str]:
    """The command line of a step, filled in as Kubeflow does it."""
    words = container["args"][container["args"].index("--") + 1 :]
    values = {"build": "20261121t120000z", "shard": "3", "part": "4"}
    for name, value in values.items():
        words = [word.replace(f"{{{{$.inputs.parameters['{name}']}}}}", value) for word in words]
    assert not any("{{" in word for word in words)
    return list(words)


def test_the_steps_are_command_lines_that_the_batch_reads(tmp_path: Path) -> None:
    executors = compiled(tmp_path)["deploymentSpec"]["executors"]
    for step in STEPS:
        command = command_of(executors[f"exec-{step}"]["container"])
        assert command[:2] == ["step", step]
        if step == "list":
            config = read_command(["run", *command[2:]], {}, NOW)
            assert (config.target, config.repository) == (TARGET, "gs://models")
            assert config.prefix.build == "20261121t120000z"
            assert config.catalogue == "bigquery://acme/shop/products"
            continue
        read, _ = read_step(command[1:], {})
        assert (read.name, str(read.prefix), read.repository) == (
            step,
            "indexes/home-store/20261121t120000z",
            "gs://models",
        )
        assert read.number == {"shard": 3, "part": 4}.get(EACH.get(step, ""))


def test_nothing_is_cached_and_what_may_pass_is_tried_again_with_growing_pauses(tmp_path: Path) -> None:
    tasks = tasks_of(compiled(tmp_path))
    assert set(STEPS) <= set(tasks)
    cached = [name for name, task in tasks.items() if task.get("cachingOptions", {}).get("enableCache")]
    assert cached == []
    for step in STEPS:
        policy = tasks[step].get("retryPolicy", {})
        if step == "report":
            assert policy == {}
            continue
        assert (policy["maxRetryCount"], policy["backoffDuration"], policy["backoffFactor"]) == (3, "20s", 2.0)
        deadline = {"embed": 3600}.get(step, 7200)
        assert int(policy["backoffMaxDuration"].removesuffix("s")) > 4 * deadline, "the last try wouldn't begin"
    stops = [task for name, task in tasks.items() if name.startswith("stop")]
    assert len(stops) == 8, "each step but the report has one"
    assert all("retryPolicy" not in task for task in stops)


def test_a_step_has_what_the_values_give_it_and_loops_are_bounded(tmp_path: Path) -> None:
    specification = compiled(tmp_path)
    embed = specification["deploymentSpec"]["executors"]["exec-embed"]["container"]
    assert embed["image"] == "indexpush-batch-cuda:0.1.0"
    resources = embed["resources"]
    assert resources["accelerator"]["resourceType"] == "nvidia.com/gpu"
    assert resources["accelerator"]["resourceCount"] == "1"
    assert (resources["resourceCpuRequest"], resources["resourceCpuLimit"]) == ("14", "16")
    assert resources["resourceMemoryLimit"] == "24576Mi"
    steps = specification["components"]["comp-steps"]["dag"]["tasks"]
    loops = {task["taskInfo"]["name"]: task for task in steps.values() if "parameterIterator" in task}
    assert {name: task["iteratorPolicy"]["parallelismLimit"] for name, task in loops.items()} == {
        "shards to fetch": 2,
        "shards to embed": 2,
        "parts to build": 8,
    }


def test_each_step_waits_for_all_of_the_one_before_and_loops_stay_out_of_the_exit_handler(tmp_path: Path) -> None:
    specification = compiled(tmp_path)
    steps = specification["components"]["comp-steps"]["dag"]["tasks"]
    names = {key: task["taskInfo"]["name"] for key, task in steps.items()}
    waits = {names[key]: {names[one] for one in task.get("dependentTasks", [])} for key, task in steps.items()}
    assert waits == {
        "list-step": set(),
        "shards to fetch": {"list-step"},
        "shards to embed": {"list-step", "shards to fetch"},
        "collect-step": {"shards to embed"},
        "parts to build": {"collect-step"},
        "publish-step": {"parts to build"},
        "diff-step": {"publish-step"},
        "commit-step": {"diff-step"},
    }
    # kubeflow/pipelines#12390: a loop's items leak into what the exit handler and the pipeline want as inputs
    handler = specification["components"]["comp-exit-handler-1"]
    assert list(handler["dag"]["tasks"]) == ["steps"]
    assert list(handler["inputDefinitions"]["parameters"]) == ["pipelinechannel--build"]
    assert list(specification["root"]["inputDefinitions"]["parameters"]) == ["build"]
    report = specification["root"]["dag"]["tasks"]["report"]
    assert report["triggerPolicy"]["strategy"] == "ALL_UPSTREAM_TASKS_COMPLETED"
