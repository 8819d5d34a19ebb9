"""Requests and values for these tests."""

from __future__ import annotations

from pathlib import Path

from manifests.values import Values, load_values, parse_values
from model_repository.deployment import DeploymentRequest, Footprint
from model_repository.names import IndexPrefix, ModelPrefix, Target

EXAMPLES = Path(__file__).parents[2] / "manifests" / "environments"
"""The values that are shipped."""
EVERYTHING = Path(__file__).parent / "everything.yaml"
"""Values that make every choice there is."""
LEAST = "namespace: n\nimage: i:1\nservice_account: s\nreplicas: 2\n"


def shipped(environment: str, **variables: str) -> Values:
    return load_values(environment, folder=EXAMPLES, variables=variables)


def least(environment: str = "dev") -> Values:
    return parse_values(LEAST, f"{environment}.yaml", environment, {})


def everything(environment: str) -> Values:
    return parse_values(EVERYTHING.read_text(), EVERYTHING.name, environment, {"PASSED": "on"})


def request_for(environment: str, **changes: str) -> DeploymentRequest:
    """A request for home-store there. changes: of its parameters."""
    parameters = DeploymentRequest(
        target=Target(environment, "home-store"),
        generation=1700000000000001,
        bucket="acme-models",
        index_prefix=IndexPrefix("home-store", "20261121t1200z"),
        index_generation=1700000000000000,
        index_digest="sha256:" + "1" * 64,
        model_prefix=ModelPrefix("efficientnet-lite0", "v1"),
        model_digest="sha256:" + "2" * 64,
        footprint=Footprint(memory_mib=1400, volume_mib=1139, deadline_seconds=172),
        by="ann",
        reason='a "quoted" reason: # with {{ everything }}',
    ).to_parameters()
    return DeploymentRequest.from_parameters({**parameters, **changes})
