"""kustomize/: what its files say of one another, and what kubectl builds of them where it is at hand."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from cd_webhook.config import Config
from manifests.metadata import NAME, SEARCH, deployment_selector
from manifests.render import render
from manifests.values import load_values
from model_repository.telemetry.spans import spans_wanted
from tests.manifests import EXAMPLES, least, request_for
from tests.manifests.test_golden import VERSIONS
from tests.manifests.test_webhook_manifests import WEBHOOK

KUSTOMIZE = Path(__file__).parents[2] / "kustomize"
ENVIRONMENTS = ("staging", "production")


def documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


def kubectl() -> str:
    """A kubectl, or the one that the tests on a real Kubernetes have built; skips where there is neither."""
    built = sorted((Path.home() / ".cache" / "indexpush").glob("kubernetes-*/bin/kubectl"))
    return shutil.which("kubectl") or next(map(str, built), "") or pytest.skip("there is no kubectl")


def built(folder: Path) -> Iterator[dict[str, Any]]:
    command = [kubectl(), "kustomize", str(folder)]
    yield from yaml.safe_load_all(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def test_the_webhooks_manifests_are_all_in_it_but_for_the_values_which_each_overlay_has() -> None:
    (listed,) = documents(WEBHOOK / "Kustomization")
    assert {*listed["resources"], "1-values.yaml"} == {path.name for path in WEBHOOK.glob("*.yaml")}


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_an_overlay_has_values_of_its_own_for_its_own_namespace(environment: str) -> None:
    folder = KUSTOMIZE / "overlays" / environment
    (overlay,) = documents(folder / "kustomization.yaml")
    assert (folder / f"{environment}.yaml").read_text() == (EXAMPLES / f"{environment}.yaml").read_text()
    assert load_values(environment, folder=folder, variables={}).namespace == overlay["namespace"]


@pytest.mark.parametrize("version", VERSIONS)
def test_the_network_policies_are_valid(version: str) -> None:
    for policy in documents(KUSTOMIZE / "base" / "network-policies.yaml"):
        kubernetes_validate.validate(policy, version, strict=True)


def test_the_network_policies_shut_out_everybody_and_let_in_by_labels_that_pods_have() -> None:
    nobody, *others = documents(KUSTOMIZE / "base" / "network-policies.yaml")
    assert (nobody["spec"]["podSelector"], "ingress" in nobody["spec"]) == ({}, False)
    (webhook,) = documents(WEBHOOK / "deployment.yaml")
    pods = [webhook["spec"]["template"]["metadata"]["labels"], deployment_selector("home-store")]
    selected = [policy["spec"]["podSelector"].get("matchLabels") for policy in others]
    assert {each[NAME] for each in selected if each} == {pod[NAME] for pod in pods} == {SEARCH, "indexpush-cd-webhook"}
    ports = {port["port"] for policy in others for rule in policy["spec"]["ingress"] for port in rule["ports"]}
    assert ports == {8080, 8081}


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_what_is_built_is_one_environment_in_one_namespace(environment: str) -> None:
    objects = list(built(KUSTOMIZE / "overlays" / environment))
    namespace = f"indexpush-{environment}"
    (head,) = (value for value in objects if value["kind"] == "Namespace")
    assert head["metadata"]["name"] == namespace
    assert {value["metadata"]["namespace"] for value in objects if value is not head} == {namespace}
    for value in objects:
        kubernetes_validate.validate(value, VERSIONS[-1], strict=True)
    (binding,) = (value for value in objects if value["kind"] == "RoleBinding")
    assert binding["subjects"][0]["namespace"] == namespace


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_the_webhook_mounts_a_config_map_that_is_called_by_what_is_in_it(environment: str) -> None:
    objects = list(built(KUSTOMIZE / "overlays" / environment))
    (values,) = (value for value in objects if value["kind"] == "ConfigMap")
    (webhook,) = (value for value in objects if value["kind"] == "Deployment")
    pod = webhook["spec"]["template"]["spec"]
    assert pod["volumes"][0]["configMap"]["name"] == values["metadata"]["name"]
    assert values["metadata"]["name"].startswith("indexpush-cd-webhook-values-")
    assert values["data"] == {f"{environment}.yaml": (EXAMPLES / f"{environment}.yaml").read_text()}
    variables = {each["name"]: each.get("value") for each in pod["containers"][0]["env"]}
    assert (variables["ENVIRONMENT"], variables["MODEL_REPOSITORY"]) == (environment, "gs://BUCKET")
    assert {"WEBHOOK_AUTH", "WEBHOOK_TOKEN", "WEBHOOK_TOKEN_PREVIOUS"} <= variables.keys(), "the patch adds"


def built_with(component: str, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """Production, as it is once somebody took the # from the lines of a component."""
    tree = tmp_path / "kustomize"
    shutil.copytree(KUSTOMIZE, tree)
    shutil.copytree(WEBHOOK, tmp_path / "manifests" / "webhook")
    overlay = tree / "overlays" / "production" / "kustomization.yaml"
    text = overlay.read_text()
    for line in ("components:\n", f"  - ../../components/{component}\n"):
        commented = "# components:\n" if line == "components:\n" else f"# {line}"
        assert commented in text
        text = text.replace(commented, line)
    overlay.write_text(text)
    yield from built(overlay.parent)


def test_a_collector_is_one_line_which_webhook_and_pods_then_tell(tmp_path: Path) -> None:
    def variables(objects: Iterator[dict[str, Any]]) -> dict[str, str]:
        (webhook,) = (value for value in objects if value["kind"] == "Deployment")
        (container,) = webhook["spec"]["template"]["spec"]["containers"]
        return {each["name"]: each.get("value") for each in container["env"]}

    overlay = KUSTOMIZE / "overlays" / "production"
    without = variables(built(overlay))
    assert not spans_wanted(without)
    assert not spans_wanted(load_values("production", folder=overlay, variables=without).env)
    told = variables(built_with("collector", tmp_path))
    assert {name for name in told if name not in without} == {"OTEL_EXPORTER_OTLP_ENDPOINT"}
    assert spans_wanted(told)
    assert spans_wanted(load_values("production", folder=overlay, variables=told).env)


def test_a_board_is_one_line_by_which_the_webhook_lets_it_look(tmp_path: Path) -> None:
    (webhook,) = (value for value in built_with("board", tmp_path) if value["kind"] == "Deployment")
    (container,) = webhook["spec"]["template"]["spec"]["containers"]
    told = {each["name"]: each.get("value", "") for each in container["env"]}
    known = {
        "WEBHOOK_AUTH": "google-id-token",
        "WEBHOOK_AUDIENCE": "http://10.0.0.5",
        "WEBHOOK_CALLERS": "function@acme",
    }
    config = Config.from_environment(told | known | {"MODEL_REPOSITORY": "gs://acme-models"})
    assert config.readers == {"indexpush-board@PROJECT.iam.gserviceaccount.com"}


def test_pod_monitors_are_for_whoever_has_their_operator(tmp_path: Path) -> None:
    assert "PodMonitor" not in {value["kind"] for value in built(KUSTOMIZE / "overlays" / "production")}
    monitors = [value for value in built_with("pod-monitors", tmp_path) if value["kind"] == "PodMonitor"]
    assert {value["metadata"]["namespace"] for value in monitors} == {"indexpush-production"}
    asked = {
        value["spec"]["selector"]["matchLabels"][NAME]: value["spec"]["podMetricsEndpoints"][0]["port"]
        for value in monitors
    }
    (webhook,) = documents(WEBHOOK / "deployment.yaml")
    search = render(request_for("dev"), least("dev")).deployment
    ports = {pod: dict(_ports(deployment)) for pod, deployment in (("indexpush-cd-webhook", webhook), (SEARCH, search))}
    reached = {pod: ports[pod][port] for pod, port in asked.items()}
    assert reached == {"indexpush-cd-webhook": 8080, SEARCH: 8081}, "what docs/monitoring.md says"
    *_, policy = documents(KUSTOMIZE / "base" / "network-policies.yaml")
    assert {port["port"] for port in policy["spec"]["ingress"][0]["ports"]} == set(reached.values())


def _ports(deployment: dict[str, Any]) -> list[tuple[str, int]]:
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    return [(port["name"], port["containerPort"]) for port in container["ports"]]
