"""The definition itself, without an engine: what the generator writes, and what it refuses to write."""

from __future__ import annotations

import io
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from spinnaker_scene import BUCKET, INSTALLATION, TARGET, request_for

from manifests import spinnaker_expressions
from manifests.render import Rendered, render
from manifests.spinnaker import pipeline
from manifests.spinnaker_expressions import render_expressions
from manifests.values import Values, load_values, parse_values
from model_repository.deployment import DeploymentRequest, Footprint
from model_repository.errors import DocumentMalformed
from model_repository.names import Target
from model_repository.store import Store
from operator_cli.desk import Desk
from operator_cli.exit_codes import ExitCode
from operator_cli.main import main

VALUES = "namespace: n\nimage: indexpush:1\nservice_account: s\nreplicas: 1\n"


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
    values = load_values(environment, folder=None, variables={})
    request = request_for(
        1763683200000001, target=Target(environment, "home-store"), footprint=Footprint(memory, memory + 1, memory + 2)
    )
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
    payload = request_for(1).to_payload()
    assert all(re.search(pattern, payload[key]) for key, pattern in constraints.items())
    for key, pattern in constraints.items():
        assert not re.search(pattern, f"{payload[key]}-2")
        assert not re.search(pattern, f"x-{payload[key]}")


def test_the_artifact_is_the_index_json_of_a_build_of_this_index(generated: dict[str, Any]) -> None:
    (expected,) = generated["expectedArtifacts"]
    name = expected["matchArtifact"]["name"]
    assert re.fullmatch(name, request_for(1).to_payload()["artifacts"][0]["name"])
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


def shop(said: io.StringIO, complained: io.StringIO) -> Desk:
    def untouched(_url: str, _patience: float) -> Store:
        return pytest.fail("the bucket was opened")

    class Noon:
        def now(self) -> datetime:
            return datetime(2026, 11, 21, 12, tzinfo=UTC)

        def sleep(self, seconds: float) -> None: ...

    environ = {"MODEL_REPOSITORY": f"gs://{BUCKET}", "INDEXPUSH_ENVIRONMENT": "production"}
    return Desk(environ, untouched, Noon(), said, complained)


def command(*arguments: str) -> tuple[int, str, str]:
    said, complained = io.StringIO(), io.StringIO()
    code = main(["spinnaker-pipeline", *arguments], shop(said, complained))
    return code, said.getvalue(), complained.getvalue()


def test_the_command_prints_what_spinnaker_takes(generated: dict[str, Any]) -> None:
    chosen = ["--account", "prod-gke", "--email", "team@example.com", "--slack", "#indexes", "--output", "json"]
    code, out, _ = command("--index", "home-store", "bags", *chosen)
    assert code == ExitCode.OK
    printed = json.loads(out)
    assert printed["application"]["name"] == "indexpush"
    assert [each["name"] for each in printed["pipelines"]] == ["production-home-store", "production-bags"]
    assert printed["pipelines"][0] == generated


def test_the_command_writes_a_file_for_each_definition(tmp_path: Path) -> None:
    code, out, _ = command("--index", "home-store", "--into", str(tmp_path / "definitions"))
    assert code == ExitCode.OK
    written = {path.name: json.loads(path.read_text()) for path in (tmp_path / "definitions").iterdir()}
    assert written["production-home-store.json"] == json.loads(out)["pipelines"][0]
    assert written["application.json"] == json.loads(out)["application"]


def test_without_a_channel_nobody_is_notified_and_without_an_account_nothing_runs_as_one() -> None:
    _, out, _ = command("--index", "home-store")
    (printed,) = json.loads(out)["pipelines"]
    assert printed["notifications"] == []
    assert not any("notifications" in stage for stage in printed["stages"])
    assert "runAsUser" not in printed["triggers"][0]
    _, out, _ = command("--index", "home-store", "--run-as", "indexpush@example.com")
    assert json.loads(out)["pipelines"][0]["triggers"][0]["runAsUser"] == "indexpush@example.com"


def test_values_of_ones_own_are_taken_from_their_folder(tmp_path: Path) -> None:
    (tmp_path / "production.yaml").write_text(VALUES)
    code, out, _ = command("--index", "home-store", "--values", str(tmp_path))
    assert code == ExitCode.OK
    assert '"namespace": "n"' in out


@pytest.mark.parametrize(
    ("arguments", "complaint", "expected"),
    [
        (["--index", "Home"], "index 'Home'", ExitCode.USAGE),
        (["--index", "a", "--application", "${1}"], "--application '${1}'", ExitCode.USAGE),
        (["--index", "a", "--environment", "nowhere"], "environments/nowhere.yaml: no such file", ExitCode.DATA),
        ([], "--index", ExitCode.USAGE),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(arguments: list[str], complaint: str, expected: ExitCode) -> None:
    code, out, err = command(*arguments)
    assert (code, out) == (expected, "")
    assert complaint in err
    assert err.count("\n") == 1


def test_the_pipeline_is_for_one_bucket_and_pods_read_no_other(values: Values) -> None:
    generated = pipeline(TARGET, BUCKET, values, INSTALLATION)
    text = json.dumps(generated)
    assert "trigger['parameters']['bucket']}" not in text
    assert f'"value": "gs://{BUCKET}"' in text
