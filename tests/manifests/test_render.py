"""What the templates make of a request, held to golden files and to Kubernetes' published schemas."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from manifests import metadata as marks
from manifests.render import _TEMPLATES, _render_one, render
from manifests.values import FOLDER, Values, load_values, parse_values
from model_repository.deployment import DeploymentRequest
from model_repository.errors import DocumentMalformed
from search_server.config import Limits
from tests.manifests import EXAMPLES

GOLDEN = Path(__file__).parent / "golden"
VERSIONS = ("1.30", "1.33", "1.36")
Make = Callable[..., DeploymentRequest]


def values(environment: str, text: str = "") -> Values:
    if text:
        return parse_values(text, "values", environment, {})
    return load_values(environment, folder=EXAMPLES, variables={"STORAGE_EMULATOR_HOST": "http://127.0.0.1:4443"})


@pytest.mark.parametrize("environment", ["local", "staging", "production"])
def test_each_environment_renders_to_its_golden_file(
    environment: str, request_for: Make, request: pytest.FixtureRequest
) -> None:
    rendered = render(request_for(environment), values(environment))
    text = yaml.safe_dump_all([rendered.deployment, rendered.service], sort_keys=False, width=120)
    golden = GOLDEN / f"{environment}.yaml"
    if request.config.getoption("--write-golden", default=False):  # pragma: no cover
        golden.write_text(text)
    assert text == golden.read_text(), "if the change is meant: python tests/manifests/write_golden.py"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("environment", ["local", "staging", "production"])
def test_what_is_rendered_is_valid_in_every_kubernetes_we_support(
    environment: str, version: str, request_for: Make
) -> None:
    rendered = render(request_for(environment), values(environment))
    for value in (rendered.deployment, rendered.service):
        kubernetes_validate.validate(value, version, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_webhooks_own_manifests_are_valid(version: str) -> None:
    folder = Path(__file__).parents[2] / "manifests" / "webhook"
    objects = [value for file in sorted(folder.glob("*.yaml")) for value in yaml.safe_load_all(file.read_text())]
    assert {value["kind"] for value in objects} == {
        "Namespace", "ConfigMap", "Deployment", "PodDisruptionBudget",
        "Role", "RoleBinding", "Service", "ServiceAccount",
    }  # fmt: skip
    for value in objects:
        kubernetes_validate.validate(value, version, strict=True)


def test_the_webhook_mounts_the_shipped_values_where_it_looks_for_them() -> None:
    folder = Path(__file__).parents[2] / "manifests" / "webhook"
    config_map = yaml.safe_load((folder / "1-values.yaml").read_text())
    assert config_map["data"] == {"production.yaml": (EXAMPLES / "production.yaml").read_text()}
    pod = yaml.safe_load((folder / "deployment.yaml").read_text())["spec"]["template"]["spec"]
    assert pod["volumes"] == [{"name": "values", "configMap": {"name": config_map["metadata"]["name"]}}]
    (mount,) = pod["containers"][0]["volumeMounts"]
    assert (mount["name"], mount["mountPath"]) == ("values", str(FOLDER))


def test_the_webhooks_role_covers_deployments_services_and_reading_pods_and_no_more() -> None:
    file = Path(__file__).parents[2] / "manifests" / "webhook" / "role.yaml"
    role, binding = yaml.safe_load_all(file.read_text())
    granted = {(r, v) for rule in role["rules"] for r in rule["resources"] for v in rule["verbs"]}
    assert {resource for resource, _ in granted} == {"deployments", "services", "pods"}
    assert {verb for resource, verb in granted if resource == "pods"} == {"list", "watch"}
    assert not {verb for _, verb in granted} & {"deletecollection", "update", "*", "escalate", "bind"}
    assert [resource for resource, verb in granted if verb == "delete"] == ["deployments"]  # canaries
    assert binding["roleRef"]["name"] == role["metadata"]["name"]


def test_a_pod_gets_the_memory_disk_and_deadline_of_its_index(request_for: Make) -> None:
    request = request_for("staging", memory_mib="5000", volume_mib="4200", deadline_seconds="333")
    spec = render(request, values("staging")).deployment["spec"]
    pod = spec["template"]["spec"]
    server = pod["containers"][0]["resources"]
    assert server["requests"]["memory"] == server["limits"]["memory"] == "5000Mi"
    assert pod["volumes"] == [{"name": "data", "emptyDir": {"sizeLimit": "4200Mi"}}]
    assert server["requests"]["ephemeral-storage"] == "4264Mi"
    assert pod["initContainers"][0]["resources"]["limits"]["ephemeral-storage"] == "4264Mi"
    assert spec["progressDeadlineSeconds"] == 333 + spec["minReadySeconds"]


def test_no_rollout_stops_a_pod_that_serves(request_for: Make) -> None:
    strategy = render(request_for("production"), values("production")).deployment["spec"]["strategy"]
    assert strategy == {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": "25%"}}


def test_a_pod_has_time_to_leave_the_endpoints_to_drain_and_to_end(request_for: Make) -> None:
    chosen = values("production")
    pod = render(request_for("production"), chosen).deployment["spec"]["template"]["spec"]
    leaving = chosen.pre_stop_seconds + chosen.drain_seconds + Limits().body_seconds
    assert pod["terminationGracePeriodSeconds"] > leaving
    assert pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"] == chosen.pre_stop_seconds


def test_every_container_is_locked_down(request_for: Make) -> None:
    pod = render(request_for("production"), values("production")).deployment["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    for container in [*pod["initContainers"], *pod["containers"]]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
        }  # fmt: skip


def test_both_containers_run_the_one_image(request_for: Make) -> None:
    pod = render(request_for("local"), values("local")).deployment["spec"]["template"]["spec"]
    assert {c["image"] for c in [*pod["initContainers"], *pod["containers"]]} == {"indexpush:0.1.0"}


def test_a_new_generation_of_the_same_build_makes_new_pods(request_for: Make) -> None:
    first = render(request_for("local"), values("local")).deployment
    again = render(request_for("local", generation="1700000000000009"), values("local")).deployment
    assert first["spec"]["template"] != again["spec"]["template"]
    assert again["metadata"]["annotations"][marks.COMMIT_GENERATION] == "1700000000000009"
    assert first["spec"]["selector"] == again["spec"]["selector"]


def test_the_same_request_renders_the_same_bytes(request_for: Make) -> None:
    assert render(request_for("local"), values("local")) == render(request_for("local"), values("local"))


def test_replicas_are_left_to_an_autoscaler_that_owns_them(request_for: Make) -> None:
    text = "{namespace: n, image: i, service_account: s, replicas: null}"
    assert "replicas" not in render(request_for("dev"), values("dev", text)).deployment["spec"]


def test_the_bucket_emulator_reaches_the_pods_only_where_the_environment_says_so(request_for: Make) -> None:
    def names(environment: str) -> set[str]:
        pod = render(request_for(environment), values(environment)).deployment["spec"]["template"]["spec"]
        return {v["name"] for c in [*pod["initContainers"], *pod["containers"]] for v in c["env"]}

    assert "STORAGE_EMULATOR_HOST" in names("local")
    assert "STORAGE_EMULATOR_HOST" not in names("production")


NASTY = [
    '": {}\nevil: true #',
    "'\n---\nkind: Role",
    "{{ 7 * 7 }}",
    "${jndi:x}",
    "yes",
    "0x1F",
    "1e3",
    "null",
    "~",
    "&a *a !!python/object:os.system",
    "\u2028\x85\x00\x07",
    "\U0001f600",
    "- a\n- b",
    "a: b",
    "\\",
    "\\ud83d\\ude00",
]


@pytest.mark.parametrize("value", NASTY)
def test_no_value_breaks_out_of_its_place(value: str, request_for: Make) -> None:
    text = "{namespace: n, image: i, service_account: s, replicas: 1}"
    plain = values("dev", text)
    nasty = dataclasses.replace(plain, env={"VALUE": value}, service_annotations={"note": value})
    rendered = render(request_for("dev"), nasty)
    env = rendered.deployment["spec"]["template"]["spec"]["containers"][0]["env"]
    assert {"name": "VALUE", "value": value} in env
    assert rendered.service["metadata"]["annotations"] == {"note": value}


def test_the_values_of_another_environment_are_refused(request_for: Make) -> None:
    with pytest.raises(DocumentMalformed, match="values of 'production'"):
        render(request_for("staging"), values("production"))


def test_a_template_that_forgets_a_value_says_which() -> None:
    with pytest.raises(DocumentMalformed, match="'name' is undefined"):
        _render_one("service.yaml.j2", {})


def test_a_template_cannot_print_a_value_unquoted() -> None:
    with pytest.raises(TypeError, match="without to_json"):
        _TEMPLATES.from_string("a: {{ value }}").render(value=3)
