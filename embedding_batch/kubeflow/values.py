"""What a team decides about a batch on Kubeflow or Vertex AI: one YAML file for each index, read strictly.

`embedding_batch/kubeflow/example.yaml` has all of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from embedding_batch.kubeflow.cron import with_seconds
from manifests.argo.values import STEPS, USUAL
from manifests.kubernetes_fields import KubernetesFields, read_fields, read_file
from model_repository.errors import Misconfigured

MOST_AT_ONCE: Final = 10
"""Some backends take no larger bound of a loop."""
_OURS: Final = ("--index", "--environment", "--repository", "--build", "--shard", "--part")
_WEEK: Final = 7 * 86_400


@dataclass(frozen=True, slots=True)
class StepValues:
    """What one step needs.

    cpu, cpu_limit: Kubernetes quantities: what its container is promised, and the most that it gets.
    memory_mib: promised, and the most as well. gpu: how many. at_once: containers of this step at one time.
    deadline_seconds: of one try. image: None: the batch's. options: of the command in this place, as --device=cuda.
    """

    cpu: str
    cpu_limit: str
    memory_mib: int
    gpu: int
    at_once: int
    deadline_seconds: int
    image: str | None
    options: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PipelineValues:
    """The choices for one index.

    accelerator: the kind of GPU: a resource on Kubeflow (nvidia.com/gpu), a type on Vertex AI (NVIDIA_L4).
    schedule: in Kubeflow's form, which begins with seconds; None: none.
    service_account: of the pods of scheduled runs; None: the namespace's usual one.
    retries: of a step that may work when tried again; retry_seconds: before the first one, doubled with each.
    options: of `python -m embedding_batch run`. env: of every container.
    """

    image: str
    accelerator: str
    schedule: str | None
    service_account: str | None
    retries: int
    retry_seconds: int
    options: tuple[str, ...]
    env: Mapping[str, str]
    steps: Mapping[str, StepValues]


def load_values(file: Path) -> PipelineValues:
    """Read a file of values; raises Misconfigured where there is none, DocumentMalformed naming the field."""
    try:
        return parse_values(read_file(file), str(file))
    except OSError as error:
        raise Misconfigured(
            f"--values: {file}: {error.strerror}; embedding_batch/kubeflow/example.yaml is an example"
        ) from None


def parse_values(text: str, name: str) -> PipelineValues:
    """Read values from YAML; raises DocumentMalformed, also for a field it doesn't know."""
    fields = read_fields(text, name)
    steps = fields.object("steps", default={})
    try:
        schedule = with_seconds(fields.text("schedule")) if fields.has("schedule") else None
    except Misconfigured as error:
        fields.refuse(str(error))
    values = PipelineValues(
        image=fields.text("image"),
        accelerator=fields.text("accelerator", default="nvidia.com/gpu"),
        schedule=schedule,
        service_account=fields.text("service_account") if fields.has("service_account") else None,
        retries=fields.whole("retries", most=20, default=3),
        retry_seconds=fields.whole("retry_seconds", least=1, most=3600, default=20),
        options=_options(fields),
        env=fields.env(),
        steps={step: _step(step, steps.object(step, default={})) for step in STEPS},
    )
    steps.done()
    fields.done()
    return values


def _step(step: str, fields: KubernetesFields) -> StepValues:
    usual_cpu, memory_mib, _, at_once = USUAL[step]
    cpu = fields.cpu("cpu", default=usual_cpu)
    values = StepValues(
        cpu=cpu,
        cpu_limit=fields.cpu("cpu_limit", default=cpu),
        memory_mib=fields.whole("memory_mib", least=32, most=4 * 1024 * 1024, default=memory_mib),
        gpu=fields.whole("gpu", most=16, default=0),
        at_once=fields.whole("at_once", least=1, most=MOST_AT_ONCE, default=at_once),
        deadline_seconds=fields.whole("deadline_seconds", least=10, most=_WEEK, default=2 * 3600),
        image=fields.text("image") if fields.has("image") else None,
        options=_options(fields),
    )
    fields.done()
    return values


def _options(fields: KubernetesFields) -> tuple[str, ...]:
    options = fields.texts("options", most=200, longest=2000, default=())
    for option in options:
        if option.partition("=")[0] in _OURS:
            fields.refuse(f"{option.partition('=')[0]} is set by the pipeline", "options")
        if "{{" in option:
            fields.refuse(
                f"{option[:80]!r} would be filled in by Kubeflow; take the double braces out of it", "options"
            )
    return options
