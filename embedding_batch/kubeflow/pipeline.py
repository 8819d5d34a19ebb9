"""The batch's steps as a pipeline of kfp.

    list > fetch (each shard) > embed (each shard) > collect > build (each part) > publish > diff > commit; then report

Each step is a container with the batch's image and one real command line (see `container`, which runs it). All state is
in the bucket: between tasks go the numbers of shards and parts, the name of the build and how a step ended. Nothing is
cached, since what a step does can't be told from its inputs. A step that fails is tried again with growing pauses; one
that would fail again doesn't fail: it says so, and the task `stop` behind it, which has no retries, does.

Each step that is alone is a pipeline of its own, and they all are one within the exit handler: a task can wait for
these, but not for a condition, and loops directly within an exit handler are miscompiled (kubeflow/pipelines#12390).
The build is called by the run's ID, which Kubeflow, Vertex AI and kfp.local all tell; the time at which it began comes
through unfilled before Kubeflow 2.17, and no output of a task can be given to an exit task.
"""

# No `from __future__ import annotations`: kfp reads the types of a pipeline's parameters, and takes no strings for it.

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from kfp import compiler, components, dsl

from embedding_batch.kubeflow.container import REFUSED
from embedding_batch.kubeflow.values import PipelineValues
from manifests.argo.values import EACH
from model_repository.errors import Misconfigured
from model_repository.names import Target

COUNTED: Final = {"list": "shards", "collect": "parts"}
"""Steps that say how many there are of what."""
OUTCOME: Final = "Output"
"""The name that kfp gives to a task's only output: local runs see conditions on no other one."""
_STOP: Final = "import sys; sys.exit(sys.argv[1])"
"""Writes the reason to standard error and ends with 1."""

Pipeline = Callable[..., Any]
Task = Any


def pipeline_name(target: Target) -> str:
    """The name of an index's pipeline: each environment has its own."""
    return f"{target.index}-{target.environment}"


def compile_pipeline(target: Target, repository: str, values: PipelineValues, file: Path) -> None:
    """Write the pipeline as YAML, which Kubeflow and Vertex AI take; raises Misconfigured."""
    try:
        compiler.Compiler().compile(batch_pipeline(target, repository, values), str(file))
    except OSError as error:
        raise Misconfigured(f"{file}: {error.strerror}; name a file that can be written") from None
    except (TypeError, ValueError) as error:
        raise Misconfigured(f"kfp refuses the pipeline of {target.index}: {error}; correct the values") from None


def batch_pipeline(target: Target, repository: str, values: PipelineValues) -> Pipeline:
    """The pipeline of an index. Its parameter is the build's name; empty: the run's ID.

    repository: gs://bucket. A run that failed goes on when another one is given its build's name.
    """
    made = _Steps(target, repository, values)
    steps = _all_but_report(made)

    def batch(build: str = "") -> None:
        with dsl.ExitHandler(made.task("report", build), name="batch"):
            steps(build=build).set_caching_options(False)

    description = f"Builds {target.index} and commits it for {target.environment}"
    pipeline: Pipeline = dsl.pipeline(name=pipeline_name(target), description=description)(batch)
    return pipeline


def _all_but_report(made: "_Steps") -> Pipeline:
    alone = {step: made.alone(step) for step in ("list", "collect", "publish", "diff", "commit")}

    def steps(build: str) -> None:
        shards = alone["list"](build=build).set_caching_options(False)
        with dsl.ParallelFor(shards.output, name="shards to fetch", parallelism=made.at_once("fetch")) as shard:
            fetched = made.task("fetch", build, shard)
        with dsl.ParallelFor(shards.output, name="shards to embed", parallelism=made.at_once("embed")) as shard:
            embedded = made.task("embed", build, shard).after(fetched)
        parts = alone["collect"](build=build).after(embedded).set_caching_options(False)
        with dsl.ParallelFor(parts.output, name="parts to build", parallelism=made.at_once("build")) as part:
            built = made.task("build", build, part)
        published = alone["publish"](build=build).after(built).set_caching_options(False)
        compared = alone["diff"](build=build).after(published).set_caching_options(False)
        alone["commit"](build=build).after(compared).set_caching_options(False)

    pipeline: Pipeline = dsl.pipeline(name="steps")(steps)
    return pipeline


class _Steps:
    """Makes the tasks of one index's pipeline."""

    def __init__(self, target: Target, repository: str, values: PipelineValues) -> None:
        self._target = target
        self._repository = repository
        self._values = values
        self._components = {step: self._component(step) for step in values.steps}
        stop = {"image": values.image, "command": ["python", "-c", _STOP], "args": [_input("reason")]}
        self._stop = _container_component("stop", ["reason"], {}, stop)

    def at_once(self, step: str) -> int:
        """How many containers of a step there may be at one time."""
        return self._values.steps[step].at_once

    def task(self, step: str, build: object, number: object = None) -> Task:
        """A task of the step, here, and one that stops the run if the step was refused."""
        its = {EACH[step]: number} if step in EACH else {}
        task = self._components[step](build=build, run=dsl.PIPELINE_JOB_ID_PLACEHOLDER, **its)
        self._configure(task, step)
        if step != "report":  # nothing comes after it that could be stopped
            with dsl.If(task.outputs[OUTCOME] == REFUSED, name="refused"):
                self._stop(reason=task.outputs["reason"]).set_caching_options(False)
        return task

    def alone(self, step: str) -> Pipeline:
        """The same as a pipeline; of what is counted its output has the numbers, ["0", "1", ...]."""

        def counts(build: str) -> list:  # type: ignore[type-arg] # kfp has no lists of something
            return self.task(step, build).outputs["items"]  # type: ignore[no-any-return]

        def does(build: str) -> None:
            self.task(step, build)

        return dsl.pipeline(name=f"{step}-step")(counts if step in COUNTED else does)  # type: ignore[no-any-return]

    def _component(self, step: str) -> Pipeline:
        own = self._values.steps[step]
        inputs = ["build", "run", *([EACH[step]] if step in EACH else [])]
        outputs = {} if step == "report" else {OUTCOME: "STRING", "reason": "STRING"}
        args = [word for name in outputs for word in (f"--{'outcome' if name == OUTCOME else name}", _output(name))]
        if step in COUNTED:
            outputs["items"] = "LIST"
            args += ["--items", _output("items"), "--count", COUNTED[step]]
        args += ["--run", _input("run"), "--deadline-seconds", str(own.deadline_seconds), "--", *self._command(step)]
        command = ["python", "-m", "embedding_batch.kubeflow.container"]
        container = {"image": own.image or self._values.image, "command": command, "args": args}
        return _container_component(step, inputs, outputs, container)

    def _command(self, step: str) -> list[str]:
        """The step's own command line; an empty --build= is filled in by `container`."""
        command = ["step", step, f"--index={self._target.index}", f"--repository={self._repository}"]
        command.append(f"--build={_input('build')}")
        if step in EACH:
            command.append(f"--{EACH[step]}={_input(EACH[step])}")
        if step == "list":
            command += [f"--environment={self._target.environment}", *self._values.options]
        return [*command, *self._values.steps[step].options]

    def _configure(self, task: Task, step: str) -> None:
        own, values = self._values.steps[step], self._values
        task.set_caching_options(False)
        task.set_cpu_request(own.cpu).set_cpu_limit(own.cpu_limit)
        task.set_memory_request(f"{own.memory_mib}Mi").set_memory_limit(f"{own.memory_mib}Mi")
        if own.gpu:
            task.set_accelerator_type(values.accelerator).set_accelerator_limit(own.gpu)
        # the image's user has no home that it may write to
        for name, value in {"XDG_CACHE_HOME": "/tmp/cache", **values.env}.items():  # noqa: S108 - in a container
            task.set_env_variable(name, value)
        if values.retries and step != "report":  # it has no task `stop` behind it, and so can't be refused
            # On Argo, on which Kubeflow runs, no try begins after this; on Vertex AI it only bounds a pause.
            longest = (values.retries + 1) * own.deadline_seconds + values.retry_seconds * 2**values.retries
            task.set_retry(values.retries, f"{values.retry_seconds}s", 2.0, f"{longest}s")


def _container_component(name: str, inputs: list[str], outputs: dict[str, str], container: dict[str, Any]) -> Pipeline:
    """A component from its specification: only so may an output have the name `OUTCOME`, and kfp isn't in the image."""
    component = {
        "inputDefinitions": {"parameters": {each: {"parameterType": "STRING"} for each in inputs}},
        "outputDefinitions": {"parameters": {each: {"parameterType": kind} for each, kind in outputs.items()}},
        "executorLabel": f"exec-{name}",
    }
    specification = {
        "schemaVersion": "2.1.0",
        "pipelineInfo": {"name": name},
        "components": {f"comp-{name}": component},
        "deploymentSpec": {"executors": {f"exec-{name}": {"container": container}}},
        "root": {"dag": {"tasks": {name: {"componentRef": {"name": f"comp-{name}"}}}}},
    }
    return components.load_component_from_text(json.dumps(specification))  # type: ignore[no-any-return]


def _input(name: str) -> str:
    return f"{{{{$.inputs.parameters['{name}']}}}}"


def _output(name: str) -> str:
    return f"{{{{$.outputs.parameters['{name}'].output_file}}}}"
