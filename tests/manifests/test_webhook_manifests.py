"""What is installed to run the webhook itself: manifests/webhook."""

from __future__ import annotations

from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from manifests.values import FOLDER
from tests.manifests import EXAMPLES
from tests.manifests.test_golden import VERSIONS

WEBHOOK = Path(__file__).parents[2] / "manifests" / "webhook"


@pytest.mark.parametrize("version", VERSIONS)
def test_the_webhooks_own_manifests_are_valid(version: str) -> None:
    objects = [value for file in sorted(WEBHOOK.glob("*.yaml")) for value in yaml.safe_load_all(file.read_text())]
    assert {value["kind"] for value in objects} == {
        *("Namespace", "ConfigMap", "Deployment", "PodDisruptionBudget"),
        *("Role", "RoleBinding", "Service", "ServiceAccount"),
    }
    for value in objects:
        kubernetes_validate.validate(value, version, strict=True)


def test_the_shipped_values_are_mounted_where_the_webhook_looks_for_them() -> None:
    config_map = yaml.safe_load((WEBHOOK / "1-values.yaml").read_text())
    assert config_map["data"] == {"production.yaml": (EXAMPLES / "production.yaml").read_text()}
    pod = yaml.safe_load((WEBHOOK / "deployment.yaml").read_text())["spec"]["template"]["spec"]
    assert pod["volumes"] == [{"name": "values", "configMap": {"name": config_map["metadata"]["name"]}}]
    (mount,) = pod["containers"][0]["volumeMounts"]
    assert (mount["name"], mount["mountPath"]) == ("values", str(FOLDER))
    assert "ENVIRONMENTS" not in {variable["name"] for variable in pod["containers"][0]["env"]}


def test_the_webhooks_role_covers_what_stands_for_an_index_and_reading_pods_and_no_more() -> None:
    role, binding = yaml.safe_load_all((WEBHOOK / "role.yaml").read_text())
    granted = {(r, v) for rule in role["rules"] for r in rule["resources"] for v in rule["verbs"]}
    assert {resource for resource, _ in granted} == {
        "deployments",
        "services",
        "poddisruptionbudgets",
        "pods",
        "events",
    }
    assert {verb for resource, verb in granted if resource == "pods"} == {"list", "watch"}
    assert {verb for resource, verb in granted if resource == "events"} == {"create"}
    assert not {verb for _, verb in granted} & {"deletecollection", "update", "*", "escalate", "bind"}
    assert [resource for resource, verb in granted if verb == "delete"] == ["deployments"]  # canaries and shadows
    assert binding["roleRef"]["name"] == role["metadata"]["name"]


def test_the_example_of_a_network_policy_lets_the_webhook_in_and_is_not_applied_with_the_rest() -> None:
    policy = yaml.safe_load((WEBHOOK.parent / "examples" / "network-policy.yaml").read_text())
    (rule,) = policy["spec"]["ingress"]
    pods = yaml.safe_load((WEBHOOK / "deployment.yaml").read_text())["spec"]["template"]["metadata"]["labels"]
    assert rule["from"][0]["podSelector"]["matchLabels"].items() <= pods.items()
    assert [port["port"] for port in rule["ports"]] == [8080, 8081]
    assert not list(WEBHOOK.glob("network*"))
