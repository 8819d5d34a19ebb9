"""manifests/examples: what people copy names the objects of an index as the webhook makes them."""

from __future__ import annotations

from typing import Any

import kubernetes_validate
import pytest
import yaml

from manifests.render import render
from tests.manifests import EXAMPLES, request_for, shipped
from tests.manifests.test_golden import VERSIONS

INDEX = "home-store"


def _objects(name: str) -> dict[str, Any]:
    path = EXAMPLES.parent / "examples" / f"{name}.yaml"
    return {value["kind"]: value for value in yaml.safe_load_all(path.read_text())}


@pytest.mark.parametrize("version", VERSIONS)
def test_the_autoscaler_is_valid_and_scales_an_indexs_deployment(version: str) -> None:
    autoscaler = _objects("autoscaler")["HorizontalPodAutoscaler"]
    kubernetes_validate.validate(autoscaler, version, strict=True)
    deployment = render(request_for("production"), shipped("production")).deployment
    target = autoscaler["spec"]["scaleTargetRef"]
    assert (target["apiVersion"], target["kind"]) == (deployment["apiVersion"], deployment["kind"])
    assert autoscaler["metadata"]["namespace"] == deployment["metadata"]["namespace"]
    assert target["name"] == INDEX == autoscaler["metadata"]["name"]


def test_the_gateway_leads_to_an_indexs_service_and_asks_where_probes_are_answered() -> None:
    objects = _objects("gateway")
    rendered = render(request_for("production"), shipped("production"))
    route, policy = objects["HTTPRoute"], objects["HealthCheckPolicy"]
    (backend,) = route["spec"]["rules"][0]["backendRefs"]
    (port,) = rendered.service["spec"]["ports"]
    assert (backend["name"], backend["port"]) == (INDEX, port["port"])
    assert route["spec"]["parentRefs"] == [{"name": objects["Gateway"]["metadata"]["name"]}]
    (server,) = rendered.deployment["spec"]["template"]["spec"]["containers"]
    (probes,) = [each["containerPort"] for each in server["ports"] if each["name"] == "probes"]
    check = policy["spec"]["default"]["config"]["httpHealthCheck"]
    assert (check["port"], check["requestPath"]) == (probes, server["readinessProbe"]["httpGet"]["path"])
    assert policy["spec"]["targetRef"] == {"group": "", "kind": "Service", "name": INDEX}
    assert {each["metadata"]["namespace"] for each in objects.values()} == {rendered.service["metadata"]["namespace"]}
