"""What Spinnaker deploys is what our own webhook renders, object by object; every difference is named here."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from cd_webhook.rules.plan import begun, deployment_of
from cd_webhook.state import Deployed
from cd_webhook.state.annotations import LAST_GOOD, RECEIPTS_OWED, REQUEST, ROLLOUT
from manifests.metadata import MANAGED_BY, STATE
from manifests.render import render
from manifests.spinnaker import pipeline
from manifests.values import Values
from model_repository.deployment import DeploymentRequest, Footprint
from model_repository.names import Target
from tests.manifests import everything
from tests.spinnaker.clouddriver_stand_in import mark
from tests.spinnaker.spinnaker_scene import BUCKET, INSTALLATION, Spinnaker, request_for

pytestmark = [pytest.mark.spinnaker, pytest.mark.timeout(900)]

NEXT = 1763683200000001


def deployed(spinnaker: Spinnaker, request: DeploymentRequest, values: Values) -> list[dict[str, Any]]:
    """The manifests of the run, as Orca evaluated them: Service, then Deployment."""
    generated = pipeline(request.target, BUCKET, values, INSTALLATION)
    spinnaker.pipelines = [json.loads(json.dumps(generated)) | {"id": spinnaker.pipelines[0]["id"]}]
    assert spinnaker.deliver(request).status == "SUCCEEDED"
    return spinnaker.cluster.deployed


@pytest.mark.parametrize(
    "request_",
    [
        request_for(NEXT),
        request_for(NEXT + 1, "b.2-x"),
        request_for(NEXT + 2, footprint=Footprint(memory_mib=1, volume_mib=1, deadline_seconds=1)),
        request_for(NEXT + 3, footprint=Footprint(memory_mib=123456, volume_mib=7890123, deadline_seconds=45678)),
        request_for(NEXT + 4, index_digest="sha256:" + "0123456789abcdef" * 4, by="", reason=""),
    ],
    ids=["an ordinary one", "another build", "the smallest", "a huge one", "without who and why"],
)
def test_every_request_gives_the_same_objects(
    spinnaker: Spinnaker, values: Values, request_: DeploymentRequest
) -> None:
    rendered = render(request_, values)
    assert deployed(spinnaker, request_, values) == [rendered.service, rendered.deployment]


def test_every_choice_of_an_environment_gives_the_same_objects(spinnaker: Spinnaker) -> None:
    values = everything("qa")
    request = request_for(NEXT, target=Target("qa", "home-store"))
    rendered = render(request, values)
    assert deployed(spinnaker, request, values) == [rendered.service, rendered.deployment]
    assert "replicas" not in spinnaker.cluster.deployed[1]["spec"]


def test_what_stands_in_the_cluster_differs_only_in_who_manages_it(spinnaker: Spinnaker, values: Values) -> None:
    request = request_for(NEXT)
    rendered = render(request, values)
    state = begun(Deployed(), request, rendered.deployment["spec"], datetime.now(UTC))
    ours = deployment_of(rendered.deployment, state)
    deployed(spinnaker, request, values)
    theirs = spinnaker.cluster.live("deployment home-store")

    # Ours writes the state of the rollout on the Deployment, and nothing else; Spinnaker has runs for that.
    state = ours["metadata"]["annotations"].keys() - rendered.deployment["metadata"]["annotations"].keys()
    assert {REQUEST, LAST_GOOD, ROLLOUT, RECEIPTS_OWED} <= state
    assert not state & theirs["metadata"]["annotations"].keys()
    for mark_ in state:
        del ours["metadata"]["annotations"][mark_]
    del ours["metadata"]["labels"][STATE]  # which seals them
    assert ours == rendered.deployment

    # Clouddriver signs for what it deploys, on the Deployment and on its pods; the selector needs neither mark.
    expected = copy.deepcopy(rendered.deployment)
    for metadata in (expected["metadata"], expected["spec"]["template"]["metadata"]):
        metadata["labels"][MANAGED_BY] = "spinnaker"
        metadata["annotations"]["moniker.spinnaker.io/application"] = "indexpush"
    assert theirs == expected == mark(rendered.deployment, "indexpush")
    assert MANAGED_BY not in theirs["spec"]["selector"]["matchLabels"]


def test_the_service_carries_the_record_besides(spinnaker: Spinnaker, values: Values) -> None:
    request = request_for(NEXT)
    deployed(spinnaker, request, values)
    expected = mark(render(request, values).service, "indexpush")
    expected["metadata"]["annotations"] |= {
        "indexpush.dev/commit-generation": str(NEXT),
        "indexpush.dev/served-generation": str(NEXT),
    }
    assert spinnaker.cluster.live("service home-store") == expected


ASKED = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def containers(deployment: dict[str, Any]) -> list[dict[str, Any]]:
    """Of its pods: those that run before, and the server."""
    pod = deployment["spec"]["template"]["spec"]
    return [*pod["initContainers"], *pod["containers"]]


def told(deployment: dict[str, Any]) -> list[str]:
    """What each container of a pod goes on from in a trace."""
    return [each["value"] for it in containers(deployment) for each in it["env"] if each["name"] == "TRACEPARENT"]


@pytest.mark.parametrize("asked", [ASKED, ""], ids=["the function records spans", "it records none"])
def test_pods_that_know_a_collector_go_on_from_the_span_that_asked(
    spinnaker: Spinnaker, values: Values, asked: str
) -> None:
    values = replace(values, env={**values.env, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector.observability:4318"})
    request = request_for(NEXT, traceparent=asked)
    _, deployment = deployed(spinnaker, request, values)
    assert told(deployment) == [asked, asked]
    for container in containers(deployment):
        container["env"] = [each for each in container["env"] if each["name"] != "TRACEPARENT"]
    assert deployment == render(replace(request, traceparent=""), values).deployment


def test_without_a_collector_no_pod_is_told_of_a_trace(spinnaker: Spinnaker, values: Values) -> None:
    request = request_for(NEXT, traceparent=ASKED)
    _, deployment = deployed(spinnaker, request, values)
    assert told(deployment) == []


def test_what_is_no_place_in_a_trace_is_refused_before_anything_is_deployed(
    spinnaker: Spinnaker, values: Values
) -> None:
    values = replace(values, env={"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector.observability:4318"})
    request = request_for(NEXT, traceparent="$ {1 + 1}")
    generated = pipeline(request.target, BUCKET, values, INSTALLATION)
    spinnaker.pipelines = [json.loads(json.dumps(generated)) | {"id": spinnaker.pipelines[0]["id"]}]
    assert spinnaker.deliver(request).status == "TERMINAL"
    assert spinnaker.cluster.deployed == []
