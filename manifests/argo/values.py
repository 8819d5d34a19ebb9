"""What a team decides about a batch on Argo Workflows: one YAML file for each index, read strictly.

`manifests/examples/argo-batch.yaml` has all of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from manifests.kubernetes_fields import DNS_LABEL, DNS_NAME, IMAGE, KubernetesFields, read_fields, read_file
from model_repository.errors import Misconfigured

_MONTHS, _DAYS = "JAN|FEB|MAR|APR|MAY|JUN|JUL|AUG|SEP|OCT|NOV|DEC", "SUN|MON|TUE|WED|THU|FRI|SAT"
_CRON = ("[0-5]?[0-9]", "[01]?[0-9]|2[0-3]", "0?[1-9]|[12][0-9]|3[01]", f"0?[1-9]|1[0-2]|{_MONTHS}", f"0?[0-6]|{_DAYS}")
"""What each field counts for Argo: Sunday is 0 alone. A schedule that it can't read never runs, and nobody is told."""


def _times(one: str) -> str:
    some = rf"(?:\*|(?:{one})(?:-(?:{one}))?)(?:/[1-9][0-9]?)?"
    return f"{some}(?:,{some})*"


_SCHEDULE = re.compile(" ".join(map(_times, _CRON)), re.ASCII | re.IGNORECASE)
_TIMEZONE = re.compile(r"[A-Za-z0-9_+-]+(?:/[A-Za-z0-9_+-]+)*", re.ASCII)
_DAY, _WEEK = 86_400, 7 * 86_400
_MOST_MIB = 4 * 1024 * 1024
_OURS = ("--index", "--environment", "--repository", "--build", "--shard", "--part", "--cache")
SET_BY_TEMPLATE = frozenset({"MODEL_REPOSITORY", "TMPDIR", "XDG_CACHE_HOME"})
"""Variables of the steps that no values may set."""


@dataclass(frozen=True, slots=True)
class StepValues:
    """What one step needs.

    cpu, cpu_limit: Kubernetes quantities: what its pod is promised, and the most that it gets (and has workers for).
    memory_mib, disk_mib: promised, and the most as well; memory is doubled after a pod that wanted more.
    gpu: how many. at_once: pods of this step at one time. deadline_seconds: of a pod, which is then tried again.
    image: None: the batch's. options: of the command in this place, such as --workers=8.
    node_selector, tolerations: besides those of all steps.
    """

    cpu: str
    cpu_limit: str
    memory_mib: int
    disk_mib: int
    gpu: int
    at_once: int
    deadline_seconds: int
    image: str | None
    options: tuple[str, ...]
    node_selector: Mapping[str, str]
    tolerations: tuple[Mapping[str, str], ...]


@dataclass(frozen=True, slots=True)
class BatchValues:
    """The choices for one index.

    service_account: of the pods; bind it to who may write to the bucket. executor_service_account: of Argo's own
    container beside each step, the only one that talks to Kubernetes.
    schedule: five fields of cron; None: no CronWorkflow. timezone: of the schedule.
    starting_deadline_seconds: a start that was missed, also because another run was at work, is made up for within.
    deadline_seconds: of a whole run. keep_seconds: how long a run that ended, and its pods that failed, stay.
    retries: of a step that may work when tried again; retry_seconds: before the first one, doubled with each.
    options: of `python -m embedding_batch run`.
    """

    namespace: str
    image: str
    image_pull_policy: str
    service_account: str
    executor_service_account: str
    priority_class: str | None
    schedule: str | None
    timezone: str
    starting_deadline_seconds: int
    deadline_seconds: int
    keep_seconds: int
    retries: int
    retry_seconds: int
    options: tuple[str, ...]
    node_selector: Mapping[str, str]
    tolerations: tuple[Mapping[str, str], ...]
    labels: Mapping[str, str]
    env: Mapping[str, str]
    steps: Mapping[str, StepValues]


USUAL: Mapping[str, tuple[str, int, int, int]] = {
    "list": ("1", 2048, 8192, 1),
    "fetch": ("1", 1024, 4096, 1),
    "embed": ("4", 4096, 8192, 4),
    "collect": ("1", 2048, 8192, 1),
    "build": ("2", 6144, 8192, 4),
    "publish": ("1", 2048, 2048, 1),
    "diff": ("1", 4096, 16384, 1),
    "commit": ("100m", 256, 512, 1),
    "report": ("500m", 1024, 1024, 1),
}
"""Every step in its order: cores, memory and disk in MiB, and pods at once, where the values don't say."""
STEPS = tuple(USUAL)
EACH: Mapping[str, str] = {"fetch": "shard", "embed": "shard", "build": "part"}
"""Of what a step has a pod each; other steps have one pod."""


def load_batch_values(file: Path, variables: Mapping[str, str]) -> BatchValues:
    """Read a file of values; raises `Misconfigured` where there is none, `DocumentMalformed` naming the field.

    variables: what `pass_env` may take over from the process that renders.
    """
    try:
        text = read_file(file)
    except OSError as error:
        raise Misconfigured(
            f"{file}: {error.strerror}; name the file of the batch's values (manifests/examples/argo-batch.yaml is one)"
        ) from None
    return parse_batch_values(text, str(file), variables)


def parse_batch_values(text: str, name: str, variables: Mapping[str, str]) -> BatchValues:
    """Read the values of a batch from YAML; raises `DocumentMalformed`, also for a field it doesn't know."""
    fields = read_fields(text, name)
    service_account = fields.matching("service_account", DNS_NAME, default="indexpush-batch")
    steps = fields.object("steps", default={})
    values = BatchValues(
        namespace=fields.matching("namespace", DNS_LABEL),
        image=fields.matching("image", IMAGE),
        image_pull_policy=fields.one_of("image_pull_policy", "IfNotPresent", "Always", "Never"),
        service_account=service_account,
        executor_service_account=fields.matching(
            "executor_service_account", DNS_NAME, default=f"{service_account}-executor"
        ),
        priority_class=fields.matching_or_none("priority_class", DNS_NAME),
        schedule=fields.matching("schedule", _SCHEDULE) if fields.has("schedule") else None,
        timezone=fields.matching("timezone", _TIMEZONE, default="Etc/UTC"),
        starting_deadline_seconds=fields.whole("starting_deadline_seconds", least=1, most=_DAY, default=600),
        deadline_seconds=fields.whole("deadline_seconds", least=60, most=_WEEK, default=6 * 3600),
        keep_seconds=fields.whole("keep_seconds", least=60, most=30 * _DAY, default=2 * _DAY),
        retries=fields.whole("retries", most=20, default=3),
        retry_seconds=fields.whole("retry_seconds", least=1, most=3600, default=20),
        options=_options(fields),
        node_selector=fields.labels("node_selector"),
        tolerations=fields.tolerations("tolerations"),
        labels=fields.own_labels("labels"),
        env=fields.variables(variables, SET_BY_TEMPLATE),
        steps={step: _step(step, steps.object(step, default={})) for step in STEPS},
    )
    steps.done()
    fields.done()
    return values


def _step(step: str, fields: KubernetesFields) -> StepValues:
    usual_cpu, memory_mib, disk_mib, at_once = USUAL[step]
    cpu = fields.cpu("cpu", default=usual_cpu)
    values = StepValues(
        cpu=cpu,
        cpu_limit=fields.cpu("cpu_limit", default=cpu),
        memory_mib=fields.whole("memory_mib", least=32, most=_MOST_MIB, default=memory_mib),
        disk_mib=fields.whole("disk_mib", least=64, most=_MOST_MIB, default=disk_mib),
        gpu=fields.whole("gpu", most=16, default=0),
        at_once=fields.whole("at_once", least=1, most=1000, default=at_once) if step in EACH else 1,
        deadline_seconds=fields.whole("deadline_seconds", least=10, most=_WEEK, default=2 * 3600),
        image=fields.matching_or_none("image", IMAGE),
        options=_options(fields),
        node_selector=fields.labels("node_selector"),
        tolerations=fields.tolerations("tolerations"),
    )
    fields.done()
    return values


def _options(fields: KubernetesFields) -> tuple[str, ...]:
    options = fields.texts("options", most=200, longest=2000, default=())
    for option in options:
        word = option.partition("=")[0]
        if word in _OURS:
            fields.refuse(f"{word} is set by the template", "options")
    return options
