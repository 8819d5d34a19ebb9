"""The definition itself, without an engine: what the generator writes, and what it refuses to write."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from manifests import spinnaker_expressions
from manifests.render import Rendered, render
from manifests.spinnaker import pipeline
from manifests.spinnaker_expressions import render_expressions
from manifests.spinnaker_stages import Installation
from manifests.values import Values, load_values, parse_values
from model_repository.deployment import DeploymentRequest, Footprint
from model_repository.errors import DocumentMalformed
from model_repository.names import IndexPrefix, ModelPrefix, Target
from tests.manifests import EXAMPLES

TARGET = Target("production", "home-store")
BUCKET = "acme.models"
INSTALLATION = Installation("indexpush", "prod-gke", "indexpush", "team@example.com", "indexes", "")
VALUES = "namespace: n\nimage: indexpush:1\nservice_account: s\nreplicas: 1\n"


def request_for(target: Target = TARGET, footprint: Footprint = Footprint(1400, 1139, 172)) -> DeploymentRequest:  # noqa: B008 - frozen
    return DeploymentRequest(
        target=target,
        generation=1763683200000001,
        bucket=BUCKET,
        index_prefix=IndexPrefix("home-store", "b1"),
        index_generation=1763683200000000,
        index_digest="sha256:" + "1" * 64,
        model_prefix=ModelPrefix("lite", "v1"),
        model_digest="sha256:" + "2" * 64,
        footprint=footprint,
    )


@pytest.fixture(scope="module")
def values() -> Values:
    return load_values("production", folder=EXAMPLES, variables={})


@pytest.fixture(scope="module")
def generated(values: Values) -> dict[str, Any]:
    return pipeline(TARGET, BUCKET, values, INSTALLATION)


def evaluated(value: Any, parameters: dict[str, str]) -> Any:
    """What Spinnaker makes of the expressions that the generator writes; nothing else is understood."""
    if isinstance(value, dict):
        return {key: evaluated(item, parameters) for key, item in value.items()}
    if isinstance(value, list):
        return [evaluated(item, parameters) for item in value]
    if not isinstance(value, str):
        return value
    number = re.compile(r"\$\{#toInt\(trigger\['parameters'\]\['(\w+)'\]\)(?: ([+-]) (\d+))?\}")

    def compute(found: re.Match[str]) -> int:
        return int(parameters[found[1]]) + int(f"{found[2] or '+'}{found[3] or 0}")

    if found := number.fullmatch(value):
        return compute(found)
    text = number.sub(lambda found: str(compute(found)), value)
    return re.sub(r"\$\{trigger\['parameters'\]\['(\w+)'\]\}", lambda found: parameters[found[1]], text)


@pytest.mark.parametrize("environment", ["local", "staging", "production"])
@pytest.mark.parametrize("memory", [1, 1400, 99_999_999])
def test_the_expressions_say_what_the_templates_compute(environment: str, memory: int) -> None:
    values = load_values(environment, folder=EXAMPLES, variables={})
    request = request_for(Target(environment, "home-store"), Footprint(memory, memory + 1, memory + 2))
    expressed = render_expressions(request.target, BUCKET, values)
    rendered = render(request, values)
    assert evaluated(expressed.deployment, request.to_parameters()) == rendered.deployment
    assert evaluated(expressed.service, request.to_parameters()) == rendered.service


def test_nothing_of_the_made_up_requests_is_left(generated: dict[str, Any]) -> None:
    text = json.dumps(generated)
    assert not re.search(r"probe|9[12]0000000000|sha256:[0-9a-f]{64}", text)


def test_text_that_spinnaker_would_evaluate_is_refused_by_its_place() -> None:
    values = parse_values(VALUES + 'env: {GREETING: "hello ${USER}"}\n', "qa.yaml", "qa", {})
    with pytest.raises(DocumentMalformed, match=r"initContainers\[0\].env\[6\].value: .*evaluated by Spinnaker"):
        render_expressions(Target("qa", "home-store"), BUCKET, values)


def test_values_that_ask_for_a_canary_are_refused_by_name_because_the_pipeline_has_none() -> None:
    values = parse_values(VALUES + "canary: {}\n", "qa.yaml", "qa", {})
    with pytest.raises(DocumentMalformed, match=r"qa\.yaml: canary: the pipeline has none; take it out of qa's values"):
        pipeline(Target("qa", "home-store"), BUCKET, values, INSTALLATION)


@pytest.mark.parametrize("compute", [lambda memory: memory * 2, lambda memory: memory + 20_000])
def test_a_template_that_computes_something_else_is_refused_not_guessed_at(
    monkeypatch: pytest.MonkeyPatch, compute: Any
) -> None:
    def rendering(request: DeploymentRequest, values: Values) -> Rendered:
        rendered = render(request, values)
        (server,) = rendered.deployment["spec"]["template"]["spec"]["containers"]
        server["resources"]["limits"]["memory"] = f"{compute(request.footprint.memory_mib)}Mi"
        return rendered

    monkeypatch.setattr(spinnaker_expressions, "render", rendering)
    values = parse_values(VALUES, "qa.yaml", "qa", {})
    with pytest.raises(DocumentMalformed, match=r"limits.memory: .* no parameter plus a constant"):
        render_expressions(Target("qa", "home-store"), BUCKET, values)


def test_the_trigger_fires_for_this_index_in_this_environment_alone(generated: dict[str, Any]) -> None:
    (trigger,) = generated["triggers"]
    constraints = trigger["payloadConstraints"]
    payload = request_for().to_payload()
    assert all(re.search(pattern, payload[key]) for key, pattern in constraints.items())
    for key, pattern in constraints.items():
        assert not re.search(pattern, f"{payload[key]}-2")
        assert not re.search(pattern, f"x-{payload[key]}")


def test_the_artifact_is_the_index_json_of_a_build_of_this_index(generated: dict[str, Any]) -> None:
    (expected,) = generated["expectedArtifacts"]
    name = expected["matchArtifact"]["name"]
    assert re.fullmatch(name, request_for().to_payload()["artifacts"][0]["name"])
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


def test_the_pipeline_is_for_one_bucket_and_pods_read_no_other(values: Values) -> None:
    generated = pipeline(TARGET, BUCKET, values, INSTALLATION)
    text = json.dumps(generated)
    assert "trigger['parameters']['bucket']}" not in text
    assert f'"value": "gs://{BUCKET}"' in text
