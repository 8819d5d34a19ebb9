"""The definition itself, without an engine: what the generator writes, and what it refuses to write."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest

from manifests.metadata import COMMIT_GENERATION
from manifests.render import render
from manifests.spinnaker import Installation, pipeline
from manifests.values import Values, parse_values
from model_repository.deployment import Footprint
from model_repository.errors import DocumentMalformed, NameRefused
from model_repository.names import Target
from tests.manifests import LEAST, everything, request_for, shipped

TARGET = Target("production", "home-store")
BUCKET = "acme.models"
INSTALLATION = Installation("indexpush", "prod-gke", "indexpush", "team@example.com", "indexes", "")


@pytest.fixture(scope="module")
def generated() -> dict[str, Any]:
    return pipeline(TARGET, BUCKET, shipped("production"), INSTALLATION)


def stage(generated: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = (stage for stage in generated["stages"] if stage["name"] == name)
    return dict(found)


def expressions(value: object) -> set[str]:
    """What Spinnaker would evaluate."""
    return set(re.findall(r"\$\{[^}]*\}", json.dumps(value)))


def evaluated(value: Any, parameters: dict[str, str]) -> Any:
    """What Spinnaker makes of the expressions that stand in the manifests; nothing else is understood."""
    if isinstance(value, dict):
        return {key: evaluated(item, parameters) for key, item in value.items()}
    if isinstance(value, list):
        return [evaluated(item, parameters) for item in value]
    if not isinstance(value, str):
        return value
    number = re.compile(r"\$\{#toInt\(trigger\['parameters'\]\['(\w+)'\]\) \+ (\d+)\}")

    def compute(found: re.Match[str]) -> int:
        return int(parameters[found[1]]) + int(found[2])

    eighth = re.compile(r"\$\{(#toInt\(trigger\['parameters'\]\['(\w+)'\]\)) \+ \1 / 8 \+ (\d+)\}")
    value = eighth.sub(lambda found: str(int(parameters[found[2]]) * 9 // 8 + int(found[3])), value)
    if found := number.fullmatch(value):
        return compute(found)
    text = number.sub(lambda found: str(compute(found)), value)
    return re.sub(r"\$\{trigger\['parameters'\]\['(\w+)'\]\}", lambda found: parameters[found[1]], text)


@pytest.mark.parametrize("values", [shipped("local"), shipped("staging"), shipped("production"), everything("qa")])
@pytest.mark.parametrize("memory", [1, 1400, 99_999_999])
def test_the_expressions_say_what_our_webhook_would_render(values: Values, memory: int) -> None:
    request = request_for(values.environment, bucket=BUCKET, footprint=Footprint(memory, memory + 1, memory + 2))
    generated = pipeline(request.target, BUCKET, values, INSTALLATION)
    manifests = [manifest for name in ("Service", "Deploy") for manifest in stage(generated, name)["manifests"]]
    rendered = render(request, values)
    assert evaluated(manifests, request.to_parameters()) == [rendered.service, rendered.deployment]


def test_every_expression_of_the_manifests_is_tried_before_anything_is_deployed(generated: dict[str, Any]) -> None:
    deployed = expressions([stage(generated, name)["manifests"] for name in ("Service", "Deploy")])
    assert len(deployed) >= 7
    assert deployed <= expressions(stage(generated, "Compare")["variables"])


def test_the_record_goes_by_the_name_that_the_deployment_itself_carries(generated: dict[str, Any]) -> None:
    ((name, generation),) = stage(generated, "Write the record")["patchBody"][0]["metadata"]["annotations"].items()
    deployment = stage(generated, "Deploy")["manifests"][0]
    assert deployment["metadata"]["annotations"][COMMIT_GENERATION] == generation
    assert name == COMMIT_GENERATION
    for reads_it in ("Compare", "Undo", "Stop"):
        assert f"['{COMMIT_GENERATION}']" in json.dumps(stage(generated, reads_it))


def test_text_that_spinnaker_would_evaluate_is_refused_by_its_place() -> None:
    for place, text in (
        ("env.GREETING", 'env: {GREETING: "hello ${USER}"}\n'),
        ("service_annotations.note", 'service_annotations: {note: "${USER}"}\n'),
        ("pod_annotations.note", 'pod_annotations: {note: "${USER}"}\n'),
        (r"pod_patch.spec.hostAliases\[0\].ip", "pod_patch: {spec: {hostAliases: [{ip: '${USER}'}]}}\n"),
        (r"pod_patch.spec.affinity.a\${X}", "pod_patch: {spec: {affinity: {'a${X}': y}}}\n"),
        (r"tolerations\[0\].value", "tolerations: [{key: a, value: '${USER}'}]\n"),
    ):
        values = parse_values(LEAST + text, "qa.yaml", "qa", {})
        with pytest.raises(DocumentMalformed, match=rf"^qa\.yaml: {place}: .*would be evaluated by Spinnaker"):
            pipeline(Target("qa", "home-store"), BUCKET, values, INSTALLATION)
    with pytest.raises(NameRefused, match=r"--run-as '\${x}': use letters"):
        replace(INSTALLATION, run_as="${x}")


def test_values_that_ask_for_a_canary_are_refused_by_name_because_the_pipeline_has_none() -> None:
    values = parse_values(LEAST + "canary: {}\n", "qa.yaml", "qa", {})
    with pytest.raises(DocumentMalformed, match=r"qa\.yaml: canary: the pipeline has none; take it out of the values"):
        pipeline(Target("qa", "home-store"), BUCKET, values, INSTALLATION)


def test_the_trigger_fires_for_this_index_in_this_environment_alone(generated: dict[str, Any]) -> None:
    (trigger,) = generated["triggers"]
    constraints = trigger["payloadConstraints"]
    payload = request_for("production", bucket=BUCKET).to_payload()
    assert all(re.search(pattern, payload[key]) for key, pattern in constraints.items())
    for key, pattern in constraints.items():
        assert not re.search(pattern, f"{payload[key]}-2")
        assert not re.search(pattern, f"x-{payload[key]}")


def test_the_artifact_is_the_index_json_of_a_build_of_this_index(generated: dict[str, Any]) -> None:
    (expected,) = generated["expectedArtifacts"]
    name = expected["matchArtifact"]["name"]
    assert re.fullmatch(name, request_for("production", bucket=BUCKET).to_payload()["artifacts"][0]["name"])
    for other in (
        "gs://acme.models/indexes/other/b1/index.json",
        "gs://acme-models/indexes/home-store/b1/index.json",
        "gs://acme.models/indexes/home-store/b1/b2/index.json",
        "gs://acme.models/indexes/home-store/b1/index-json",
    ):
        assert not re.fullmatch(name, other)


def test_stages_follow_one_another_and_none_hides_a_wrong_expression(generated: dict[str, Any]) -> None:
    met: set[str] = set()
    for stage in generated["stages"]:
        assert set(stage["requisiteStageRefIds"]) <= met
        assert stage["failOnFailedExpressions"] is True
        met.add(stage["refId"])


def test_runs_of_an_index_wait_for_one_another_and_none_is_dropped(generated: dict[str, Any]) -> None:
    assert (generated["limitConcurrent"], generated["keepWaitingPipelines"]) == (True, True)


def test_the_pipeline_is_for_one_bucket_and_pods_read_no_other(generated: dict[str, Any]) -> None:
    text = json.dumps(generated)
    assert "trigger['parameters']['bucket']}" not in text
    assert f'"value": "gs://{BUCKET}"' in text


def test_the_parameters_are_those_that_the_function_sends(generated: dict[str, Any]) -> None:
    declared = {each["name"]: each["required"] for each in generated["parameterConfig"]}
    assert declared == {
        name: name not in {"by", "reason", "models"}
        for name in request_for("production", bucket=BUCKET).to_parameters()
    }
