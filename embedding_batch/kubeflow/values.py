"""What a team decides about a batch on Kubeflow or Vertex AI: one YAML file for each index, read strictly.

`embedding_batch/kubeflow/example.yaml` has all of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from embedding_batch.kubeflow.cron import with_seconds
from model_repository.errors import DocumentMalformed, Misconfigured
from model_repository.fields import Fields

STEPS: Final = ("list", "fetch", "embed", "collect", "build", "publish", "diff", "commit", "report")
MOST_AT_ONCE: Final = 10
"""Some backends take no larger bound of a loop."""
_USUAL: Final[Mapping[str, tuple[str, int, int]]] = {
    "list": ("1", 2048, 1),
    "fetch": ("1", 1024, 1),
    "embed": ("4", 4096, 4),
    "collect": ("1", 2048, 1),
    "build": ("2", 6144, 4),
    "publish": ("1", 2048, 1),
    "diff": ("1", 4096, 1),
    "commit": ("100m", 256, 1),
    "report": ("500m", 1024, 1),
}
"""Cores, memory in MiB, and containers at once, where the values don't say; as on Argo."""
_CPU: Final = re.compile(r"[1-9][0-9]{0,3}|[1-9][0-9]{0,5}m", re.ASCII)
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
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
        return parse_values(file.read_text(encoding="utf-8"), str(file))
    except OSError as error:
        raise Misconfigured(
            f"--values: {file}: {error.strerror}; embedding_batch/kubeflow/example.yaml is an example"
        ) from None
    except UnicodeDecodeError as error:
        raise DocumentMalformed(str(file), f"not UTF-8 (byte {error.start})") from None


def parse_values(text: str, name: str) -> PipelineValues:
    """Read values from YAML; raises DocumentMalformed, also for a field it doesn't know."""
    fields = Fields(_yaml(text, name), name)
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
        env=_env(fields),
        steps={step: _step(step, steps.object(step, default={})) for step in STEPS},
    )
    steps.done()
    fields.done()
    return values


def _step(step: str, fields: Fields) -> StepValues:
    usual_cpu, memory_mib, at_once = _USUAL[step]
    cpu = _cpu(fields, "cpu", usual_cpu)
    values = StepValues(
        cpu=cpu,
        cpu_limit=_cpu(fields, "cpu_limit", cpu),
        memory_mib=fields.whole("memory_mib", least=32, most=4 * 1024 * 1024, default=memory_mib),
        gpu=fields.whole("gpu", most=16, default=0),
        at_once=fields.whole("at_once", least=1, most=MOST_AT_ONCE, default=at_once),
        deadline_seconds=fields.whole("deadline_seconds", least=10, most=_WEEK, default=2 * 3600),
        image=fields.text("image") if fields.has("image") else None,
        options=_options(fields),
    )
    fields.done()
    return values


def _cpu(fields: Fields, field: str, default: str) -> str:
    found = fields.text(field, default=default)
    if not _CPU.fullmatch(found):
        fields.refuse(f"{found[:40]!r} is no number of cores; use '4' or '500m'", field)
    return found


def _options(fields: Fields) -> tuple[str, ...]:
    options = fields.texts("options", most=200, longest=2000, default=())
    for option in options:
        if option.partition("=")[0] in _OURS:
            fields.refuse(f"{option.partition('=')[0]} is set by the pipeline", "options")
        if "{{" in option:
            fields.refuse(
                f"{option[:80]!r} would be filled in by Kubeflow; take the double braces out of it", "options"
            )
    return options


def _env(fields: Fields) -> Mapping[str, str]:
    env = fields.strings("env", default={})
    for name in env:
        if not _VARIABLE.fullmatch(name):
            fields.refuse(f"{name[:80]!r} can't name a variable", "env")
    return env


class _Loader(yaml.SafeLoader):
    """YAML's safe types, and every key once."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 - PyYAML's own signature
        keys = [key.value for key, _ in node.value]
        if twice := next((key for key in keys if keys.count(key) > 1), None):
            raise yaml.constructor.ConstructorError(None, None, f"key {twice!r} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


def _yaml(text: str, name: str) -> object:
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - it is a SafeLoader
    except yaml.MarkedYAMLError as error:
        place = f" (line {error.problem_mark.line + 1})" if error.problem_mark else ""
        raise DocumentMalformed(name, f"not YAML: {error.problem}{place}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DocumentMalformed(name, f"not YAML: {error}") from None
