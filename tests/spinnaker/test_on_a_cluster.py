"""The evaluated manifests on a real Kubernetes: what stands there is what our webhook would have written.

No pod is needed for that: the image named here doesn't exist, and a Deployment of no replicas is rolled out at once.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from manifests.metadata import COMMIT_GENERATION
from manifests.render import render
from manifests.spinnaker import pipeline
from manifests.values import Values, parse_values
from model_repository.deployment import Footprint
from model_repository.names import Target
from tests.spinnaker.clouddriver_kubectl import KubectlClouddriver
from tests.spinnaker.clouddriver_stand_in import Server, mark
from tests.spinnaker.spinnaker_scene import BUCKET, INSTALLATION, SERVED_GENERATION, Orca, Spinnaker, request_for

pytestmark = [
    pytest.mark.spinnaker,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not os.environ.get("KUBECONFIG"), reason="KUBECONFIG names no cluster"),
]

NEXT = 1763683200000001
TARGET = Target("qa", "home-store")
SHORT = Footprint(memory_mib=64, volume_mib=16, deadline_seconds=8)
DEPLOYMENT, SERVICE = "deployment home-store", "service home-store"


@pytest.fixture
def cluster() -> Iterator[KubectlClouddriver]:
    cluster = KubectlClouddriver(namespace=f"spinnaker-{uuid.uuid4().hex[:8]}")
    cluster.kubectl("create", "namespace", cluster.namespace)
    cluster.kubectl("create", "serviceaccount", "search")
    yield cluster
    cluster.kubectl("delete", "namespace", cluster.namespace, "--wait=false")


@pytest.fixture
def autoscaled(cluster: KubectlClouddriver) -> Values:
    text = f"namespace: {cluster.namespace}\nimage: no.such.image/indexpush:1\nimage_pull_policy: Never\n"
    return parse_values(f"{text}service_account: search\nreplicas: null\n", "qa.yaml", "qa", {})


@pytest.fixture
def spinnaker(orca: Orca, clouddriver: Server, cluster: KubectlClouddriver, autoscaled: Values) -> Spinnaker:
    clouddriver.clouddriver = cluster
    generated: dict[str, Any] = json.loads(json.dumps(pipeline(TARGET, BUCKET, autoscaled, INSTALLATION)))
    generated["id"] = str(uuid.uuid4())
    generated["triggers"][0]["correlationId"] += f"/{generated['id']}"
    return Spinnaker(orca, cluster, [generated])


def serving(cluster: KubectlClouddriver) -> str:
    template = cluster.live(DEPLOYMENT)["spec"]["template"]
    return str(template["metadata"]["annotations"][COMMIT_GENERATION])


def record(cluster: KubectlClouddriver) -> tuple[str | None, str | None]:
    read = cluster.live(SERVICE)["metadata"]["annotations"].get
    return read(COMMIT_GENERATION), read(SERVED_GENERATION)


def test_first_failure_then_served_then_undone_and_the_objects_are_our_webhooks(
    spinnaker: Spinnaker, cluster: KubectlClouddriver, autoscaled: Values
) -> None:
    failed = spinnaker.deliver(request_for(NEXT, target=TARGET, footprint=SHORT))
    assert failed.status == "TERMINAL"
    assert "exceeded its progress deadline" in str(failed.stage("Deploy")["context"]["exception"])
    assert (failed.statuses()["Undo"], failed.statuses()["Stop"]) == ("SKIPPED", "SUCCEEDED")
    assert cluster.live(DEPLOYMENT)["spec"]["replicas"] == 0
    assert record(cluster) == (str(NEXT), None)

    request = request_for(NEXT + 1, "b1", target=TARGET, footprint=SHORT)
    served = spinnaker.deliver(request)
    assert served.status == "SUCCEEDED", served.messages()
    assert record(cluster) == (str(NEXT + 1), str(NEXT + 1)), "applying the Service again keeps what a patch added"

    rendered = render(request, autoscaled)
    for manifest in (rendered.deployment, rendered.service):
        name = f"{manifest['kind'].lower()} {manifest['metadata']['name']}"
        dry = ("apply", "--server-side", "--force-conflicts", "--dry-run=server", "--output=json", "--filename=-")
        marked = json.dumps(mark(manifest, INSTALLATION.application))
        ours = json.loads(cluster.kubectl(*dry, "--field-manager=indexpush", stdin=marked))
        theirs = cluster.live(name)
        assert ours["spec"] == theirs["spec"]
        assert ours["metadata"].get("generation") == theirs["metadata"].get("generation"), "nothing would change"

    cluster.kubectl("scale", "deployment", "home-store", "--replicas=1")
    undone = spinnaker.deliver(request_for(NEXT + 2, "b2", target=TARGET, footprint=SHORT))
    assert undone.status == "TERMINAL"
    assert (undone.statuses()["Undo"], undone.statuses()["Stop"]) == ("SUCCEEDED", "SKIPPED")
    assert serving(cluster) == str(NEXT + 1)
    assert record(cluster) == (str(NEXT + 2), str(NEXT + 1))
    again = spinnaker.deliver(request_for(NEXT + 2, "b2", target=TARGET, footprint=SHORT))
    assert again.statuses()["Only newer"] == "STOPPED"
