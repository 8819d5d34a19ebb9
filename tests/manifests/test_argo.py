"""The batch on Argo Workflows, without an engine: what is rendered of its values. tests/kubernetes runs it."""

from __future__ import annotations

import copy
import dataclasses
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from hypothesis import given

from embedding_batch.command_line.reading import read_command, read_step
from manifests.argo.values import EACH, STEPS, BatchValues, load_batch_values, parse_batch_values
from manifests.argo.workflow import workflow_objects
from model_repository.errors import DocumentMalformed, Misconfigured
from model_repository.exit_codes import ExitCode
from model_repository.names import IndexPrefix, Target
from tests.manifests.test_golden import GOLDEN, VERSIONS
from tests.manifests.test_templates import PATIENT, TEXTS, replaced

TARGET = Target("production", "home-store")
LEAST = "namespace: n\nimage: i:1\n"
EXAMPLE = Path(__file__).parents[2] / "manifests" / "examples" / "argo-batch.yaml"
EVERYTHING = Path(__file__).with_name("argo_everything.yaml")
MAY_PASS = {ExitCode.OK, ExitCode.NOT_LIVE, ExitCode.SOFTWARE, ExitCode.TRY_AGAIN, ExitCode.INTERRUPTED}
FILES = {"argo-example": EXAMPLE, "argo-everything": EVERYTHING}


def values_of(name: str) -> BatchValues:
    return load_batch_values(FILES[name], {"PASSED": "on"})


def parsed(text: str) -> BatchValues:
    return parse_batch_values(text, "batch.yaml", {})


def template_of(values: BatchValues) -> dict[str, Any]:
    return workflow_objects(TARGET, "acme-models", values)[0]


def step_of(values: BatchValues, name: str) -> dict[str, Any]:
    (found,) = (one for one in template_of(values)["spec"]["templates"] if one["name"] == name)
    return dict(found)


def golden_text(name: str) -> str:
    objects = workflow_objects(TARGET, "acme-models", values_of(name))
    return yaml.safe_dump_all(objects, sort_keys=False, width=120)


@pytest.mark.parametrize("name", FILES)
def test_the_values_render_to_their_golden_file(name: str) -> None:
    golden = (GOLDEN / f"{name}.yaml").read_text()
    assert golden_text(name) == golden, "if the change is meant: python -m tests.manifests.write_golden"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", FILES)
def test_a_steps_pod_is_valid_in_every_kubernetes_we_support(name: str, version: str) -> None:
    values = values_of(name)
    spec = template_of(values)["spec"]
    for step in STEPS:
        template = step_of(values, step)
        pod = {
            "containers": [{"name": "main", **template["container"]}],
            "serviceAccountName": spec["serviceAccountName"],
            "automountServiceAccountToken": spec["automountServiceAccountToken"],
            "securityContext": spec["securityContext"],
            **{key: template[key] for key in ("volumes", "nodeSelector", "tolerations") if key in template},
        }
        value = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": step}, "spec": pod}
        kubernetes_validate.validate(value, version, strict=True)


def test_the_steps_follow_one_another_and_the_report_ends_every_run() -> None:
    spec = template_of(parsed(LEAST))["spec"]
    (batch,) = (one for one in spec["templates"] if one["name"] == spec["entrypoint"])
    order = [step["name"] for (step,) in batch["steps"]]
    assert [*order, spec["onExit"]] == list(STEPS)


@pytest.mark.parametrize("step", STEPS)
def test_a_step_that_would_fail_again_is_not_retried_and_all_others_are(step: str) -> None:
    strategy = step_of(parsed(LEAST), step)["retryStrategy"]
    assert strategy["retryPolicy"] == "Always"  # else a deleted pod would not be
    found = re.fullmatch(r"!\(asInt\(lastRetry\.exitCode\) in \[([0-9, ]+)]\)", strategy["expression"])
    assert found
    assert [int(code) for code in found[1].split(", ")] == sorted(set(ExitCode) - MAY_PASS)


@pytest.mark.parametrize("step", STEPS)
def test_every_step_is_locked_down_and_says_in_the_end_what_it_logged_last(step: str) -> None:
    container = step_of(parsed(LEAST), step)["container"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    assert container["terminationMessagePolicy"] == "FallbackToLogsOnError"


def test_no_container_but_argos_own_can_talk_to_kubernetes() -> None:
    spec = template_of(parsed(LEAST))["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["executor"]["serviceAccountName"] != spec["serviceAccountName"]
    patched = json.loads(spec["podSpecPatch"])
    for container in (*patched["initContainers"], *patched["containers"]):
        assert container["securityContext"] == step_of(parsed(LEAST), "list")["container"]["securityContext"]


def test_a_step_gets_what_its_values_say_and_twice_the_memory_after_it_was_killed_for_want_of_it() -> None:
    template = step_of(values_of("argo-everything"), "embed")
    resources = template["container"]["resources"]
    assert resources["limits"] == {
        "cpu": "16", "memory": "24576Mi", "ephemeral-storage": "8256Mi", "nvidia.com/gpu": 2,
    }  # fmt: skip
    assert resources["requests"] == {"cpu": "14", "memory": "24576Mi", "ephemeral-storage": "8256Mi"}
    assert template["nodeSelector"] == {"pool": "batch", "accelerator": "h100"}
    assert [one["key"] for one in template["tolerations"]] == ["batch", "nvidia.com/gpu"]
    (main,) = json.loads(template["podSpecPatch"])["containers"]
    again = "{{=lastRetry.exitCode == '137' ? 49152 : 24576}}Mi"
    assert main == {"name": "main", "resources": {"requests": {"memory": again}, "limits": {"memory": again}}}


def test_no_step_but_those_that_the_values_name_asks_for_a_gpu() -> None:
    values = values_of("argo-everything")
    asking = [step for step in STEPS if "nvidia.com/gpu" in step_of(values, step)["container"]["resources"]["limits"]]
    assert asking == ["embed"]


@pytest.mark.parametrize(("step", "of"), EACH.items())
def test_pods_of_one_step_run_beside_one_another_up_to_a_bound(step: str, of: str) -> None:
    each = step_of(values_of("argo-everything"), f"each-{step}")
    assert each["parallelism"] == {"fetch": 3, "embed": 9, "build": 11}[step]
    (((inner,),),) = ([each["steps"][0]],)
    assert inner["withSequence"] == {"count": f"{{{{inputs.parameters.{of}s}}}}"}
    assert step_of(parsed(LEAST), step)["inputs"] == {"parameters": [{"name": of}]}


def test_without_a_schedule_there_is_no_cron_workflow() -> None:
    assert [one["kind"] for one in workflow_objects(TARGET, "acme-models", parsed(LEAST))] == ["WorkflowTemplate"]


@pytest.mark.parametrize(
    "schedule",
    ["17 * * * *", "*/5 0-6,22 1,15 */3 mon-Fri", "0/15 9-17/2 * jan,DEC 0", "05 03 31 12 SUN", "59 23 1 1 6"],
)
def test_any_schedule_that_argo_reads_is_taken(schedule: str) -> None:
    assert parsed(f"{LEAST}schedule: '{schedule}'").schedule == schedule


def test_a_schedule_never_runs_two_at_once() -> None:
    template, cron = workflow_objects(TARGET, "acme-models", values_of("argo-everything"))
    assert cron["spec"]["concurrencyPolicy"] == "Forbid"
    assert cron["spec"]["startingDeadlineSeconds"] == 61
    assert cron["spec"]["workflowSpec"]["workflowTemplateRef"]["name"] == template["metadata"]["name"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("colour: red", "unknown field 'colour'"),
        ("steps: {deploy: {}}", "steps: unknown field 'deploy'"),
        ("steps: {list: {at_once: 2}}", "steps.list: unknown field 'at_once'"),
        ("steps: {embed: {gpu: 17}}", "steps.embed.gpu: expected 0 to 16, found 17"),
        ("steps: {embed: {options: [--shard=3]}}", "steps.embed.options: --shard is set by the template"),
        ("options: [--index, x]", "options: --index is set by the template"),
        ("options: [--build=x]", "options: --build is set by the template"),
        ("schedule: 0 0 3 * * *", "schedule: '0 0 3 * * *' doesn't have the form"),
        ("schedule: '@hourly'", "schedule: '@hourly' doesn't have the form"),
        ("schedule: 60 3 * * *", "schedule: '60 3 * * *' doesn't have the form"),
        ("schedule: 0 24 * * *", "schedule: '0 24 * * *' doesn't have the form"),
        ("schedule: 0 3 0 * *", "schedule: '0 3 0 * *' doesn't have the form"),
        ("schedule: 0 3 * 13 *", "schedule: '0 3 * 13 *' doesn't have the form"),
        ("schedule: 0 3 * * 7", "schedule: '0 3 * * 7' doesn't have the form"),
        ("schedule: 0 3 * * FRY", "schedule: '0 3 * * FRY' doesn't have the form"),
        ("schedule: '*/0 * * * *'", "schedule: '*/0 * * * *' doesn't have the form"),
        ("env: {TMPDIR: /tmp}", "env: TMPDIR is set by the template"),
        ("retries: 21", "retries: expected 0 to 20"),
    ],
)
def test_values_that_would_not_do_are_refused_by_name(line: str, said: str) -> None:
    with pytest.raises(DocumentMalformed, match=re.escape(f"batch.yaml: {said}")):
        parsed(f"{LEAST}{line}\n")


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(Misconfigured, match=r"/none\.yaml: No such file or directory; name the file"):
        load_batch_values(Path("/none.yaml"), {})


@pytest.mark.parametrize(
    "line", ["options: ['--by={{workflow.name}}']", "env: {A: 'x {{=1}}'}", "labels: {a: '{{b}}'}"]
)
def test_text_that_argo_would_evaluate_is_refused(line: str) -> None:
    with pytest.raises(DocumentMalformed, match=r"would be evaluated by Argo|can't be a Kubernetes label"):
        template_of(parsed(f"{LEAST}{line}\n"))


@PATIENT
@given(TEXTS, TEXTS)
def test_values_stay_in_their_places_whatever_their_text(option: str, variable: str) -> None:
    def rendered(option: str, variable: str) -> dict[str, Any]:
        return template_of(dataclasses.replace(parsed(LEAST), options=(option,), env={"A": variable}))

    marked = rendered("<option>", "<variable>")
    if "{{" in option + variable:
        with pytest.raises(DocumentMalformed):
            rendered(option, variable)
    else:
        expected = replaced(copy.deepcopy(marked), {"<option>": option, "<variable>": variable})
        assert rendered(option, variable) == expected


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("name", FILES)
def test_a_steps_command_is_one_that_the_batch_understands(name: str, step: str) -> None:
    container = step_of(values_of(name), step)["container"]
    assert container["command"] == ["python", "-m", "embedding_batch"]
    environment = {one["name"]: one["value"] for one in container["env"]}
    arguments = [re.sub(r"\{\{=.*}}", "20261121t120000z", one) for one in container["args"]]
    arguments = [re.sub(r"\{\{inputs.*}}", "7", one) for one in arguments]
    if step == "list":
        assert arguments[:2] == ["step", "list"]
        prefix = read_command(["run", *arguments[2:]], environment, datetime.now(UTC)).prefix
    else:
        read, _ = read_step(arguments[1:], environment)
        assert (read.name, read.number) == (step, 7 if step in EACH else None)
        assert read.repository == "gs://acme-models"
        prefix = read.prefix
    assert prefix == IndexPrefix("home-store", "20261121t120000z")
