"""The values of a batch become a WorkflowTemplate and, where there is a schedule, a CronWorkflow."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from manifests.argo.values import EACH, STEPS, BatchValues
from manifests.metadata import BUILD, batch_labels
from manifests.render import LOG_MIB
from manifests.templates import render_template, texts_of
from model_repository.errors import DocumentMalformed
from model_repository.names import Target

_BUILD = (
    "workflow.parameters.build != '' ? workflow.parameters.build : "
    "sprig.dateInZone('20060102t150405z', sprig.int64(workflow.creationTimestamp.s), 'UTC')"
)
"""An expression: the name that was asked for, or the time at which the run began, such as 20261121t120000z.

dateInZone takes seconds, too, and its layout is Go's. Argo's own variables for dates are in the controller's zone.
"""


@dataclass(frozen=True, slots=True)
class _Step:
    """What a step has beside its values. each: of what there is a pod each; empty: there is one pod."""

    each: str
    arguments: tuple[str, ...]
    disk: str
    memory_patch: str
    node_selector: Mapping[str, str]
    tolerations: tuple[Mapping[str, str], ...]


def workflow_objects(target: Target, bucket: str, values: BatchValues) -> list[dict[str, Any]]:
    """The WorkflowTemplate of the index, and the CronWorkflow if there is a schedule.

    Both have the index's name: each environment has a namespace of its own for its batches.
    Raises `DocumentMalformed` for values that Argo would evaluate.
    """
    for place, text in texts_of(asdict(values)):
        if "{{" in text:
            raise DocumentMalformed(
                place, f"{text[:80]!r} would be evaluated by Argo; take the double braces out of it"
            )
    context = {
        "index": target.index,
        "bucket": bucket,
        "build": {BUILD: {"expression": _BUILD}},
        "values": values,
        "labels": {**values.labels, **batch_labels(target.index)},
        "steps": {step: _step(step, target, values) for step in STEPS},
    }
    names = ["argo/workflow_template.yaml.j2"]
    if values.schedule is not None:
        names.append("argo/cron_workflow.yaml.j2")
    return [render_template(name, context) for name in names]


def _step(step: str, target: Target, values: BatchValues) -> _Step:
    own = values.steps[step]
    arguments = ["step", step, f"--index={target.index}", f"--build={{{{={_BUILD}}}}}"]
    if step == "list":
        arguments += [f"--environment={target.environment}", *values.options]
    if each := EACH.get(step):
        arguments.append(f"--{each}={{{{inputs.parameters.{each}}}}}")
    # until a pod was killed lastRetry.exitCode is '0'
    memory = f"{{{{=lastRetry.exitCode == '137' ? {2 * own.memory_mib} : {own.memory_mib}}}}}Mi"
    resources = {"requests": {"memory": memory}, "limits": {"memory": memory}}
    return _Step(
        each=each or "",
        arguments=(*arguments, *own.options),
        disk=f"{own.disk_mib + LOG_MIB}Mi",
        memory_patch=json.dumps({"containers": [{"name": "main", "resources": resources}]}),
        node_selector={**values.node_selector, **own.node_selector},
        tolerations=(*values.tolerations, *own.tolerations),
    )
