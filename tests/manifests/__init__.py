"""Requests and values for these tests."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from manifests.values import Values, load_values, parse_values
from model_repository.deployment import DeploymentRequest, Footprint
from model_repository.names import IndexPrefix, Target
from tests import builds

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


def request_for(environment: str, **fields: Any) -> DeploymentRequest:
    """A request for home-store there."""
    asked = builds.request(
        1700000000000001,
        Target(environment, "home-store"),
        bucket="acme-models",
        index_prefix=IndexPrefix("home-store", "20261121t1200z"),
        index_digest="sha256:" + "1" * 64,
        footprint=Footprint(memory_mib=1400, volume_mib=1139, deadline_seconds=172),
        by="ann",
        reason='a "quoted" reason: # with {{ everything }}',
    )
    return replace(asked, **fields)
