"""What is delivered to, and the webhook that it is posted to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cd_webhook.app_scene import Stage
from tests.cd_webhook.webhook_scene import Scene


@pytest.fixture
def scene() -> Scene:
    """A cluster and a bucket in memory, and what delivers to them."""
    return Scene()


@pytest.fixture
def stage(scene: Scene) -> Iterator[Stage]:
    """A webhook over these."""
    stage = Stage(scene)
    with stage.client:
        yield stage
