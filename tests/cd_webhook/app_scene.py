"""A webhook that runs, on a cluster and a bucket in memory."""

from __future__ import annotations

import time
from typing import Any

import pytest
from starlette.testclient import TestClient

from cd_webhook.check import Checked
from cd_webhook.delivery.watcher import Watcher
from cd_webhook.filters import Filters
from cd_webhook.http.app import Dependencies, create_app
from cd_webhook.http.auth import Checks, bearer_check
from cd_webhook.telemetry.metrics import Metrics
from tests.cd_webhook.webhook_scene import TARGET, Scene, request

URL = "/webhooks/webhook/indexpush"


class Stage:
    """A running webhook."""

    def __init__(self, scene: Scene, token: str = "", may: Checks | None = None) -> None:
        self.scene = scene
        self.lines = scene.lines
        may = may or Checks.same(bearer_check(token) if token else lambda _: "anyone")
        watcher = Watcher(scene.delivery, sweep_seconds=0.1)
        filters = Filters(
            environment="test",
            cluster=scene.cluster,
            store=scene.store,
            clock=scene.clock,
            log=scene.delivery.log,
            tell=lambda _, generation: generation,
        )
        dependencies = Dependencies(
            "acme",
            may,
            scene.delivery,
            filters,
            watcher,
            Metrics("test", scene.clock, seconds=lambda: scene.clock.now().timestamp()),
            lambda: [Checked("bucket", "gone", ok=False)],
            "0123abcd",
            "search/indexpush-search",
        )
        self.app = create_app(dependencies)
        self.client = TestClient(self.app)

    def until(self, generation: int, outcome: str) -> None:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            if self.scene.outcomes().get(generation) == outcome:
                return
            time.sleep(0.02)
        pytest.fail(f"{self.scene.outcomes()}: {self.lines.getvalue()}")


def post(stage: Stage, generation: int, *, late: bool = False, **changes: Any) -> Any:
    """Have a commit delivered; unless that is late, it is the live one."""
    if not late:
        stage.scene.store.commit(TARGET, generation)
    return stage.client.post(URL, json={**request(generation).to_payload(), **changes})
