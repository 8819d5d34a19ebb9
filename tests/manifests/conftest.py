from __future__ import annotations

import pytest

from model_repository.deployment import DeploymentRequest, Footprint
from model_repository.names import IndexPrefix, ModelPrefix, Target


@pytest.fixture
def request_for() -> object:
    def make(environment: str, **changes: str) -> DeploymentRequest:
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

    return make
