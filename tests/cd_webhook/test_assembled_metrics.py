"""What the assembled webhook tells Prometheus of a commit that it deployed."""

from __future__ import annotations

import io
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from cd_webhook import main
from cd_webhook.cluster import Cluster
from cd_webhook.config import Config
from model_repository.names import IndexPrefix
from model_repository.telemetry.log import Log
from tests import builds
from tests.cd_webhook.fake_cluster import FakeCluster
from tests.cd_webhook.webhook_scene import TARGET, VALUES, SharedStore, request


def test_age_target_pods_and_the_time_from_commit_to_ready_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "test.yaml").write_text(VALUES)
    store, cluster = SharedStore(), FakeCluster()
    builds.publish_build(store, IndexPrefix("home-store", "b1"))

    def connected(variables: Mapping[str, str], namespace: str, log: Log) -> Cluster:
        del variables, namespace, log
        return cluster

    monkeypatch.setattr(main, "GcsStore", lambda _bucket, patience: store)  # noqa: ARG005 - its name for it
    monkeypatch.setattr(main, "load_connect", lambda _: connected)
    variables = {
        "ENVIRONMENT": "test",
        "MODEL_REPOSITORY": "gs://memory",
        "ENVIRONMENTS": str(tmp_path),
        "WEBHOOK_AUTH": "none",
        "FRESHNESS_SECONDS": "7200",
    }
    given = main.assemble(Config.from_environment(variables), variables, Log(stream=io.StringIO()))
    store.commit(TARGET, 1)
    given.delivery.deliver(request(1))
    end = time.monotonic() + 60
    while not given.delivery.advance("home-store").finished:
        assert time.monotonic() < end
    given.watcher.sweep()

    lines = given.metrics.text(0).decode().splitlines()
    assert 'indexpush_index_freshness_target_seconds{environment="test"} 7200.0' in lines
    assert 'indexpush_pods_wanted{environment="test",index="home-store"} 1.0' in lines
    assert 'indexpush_pods_ready{environment="test",index="home-store"} 1.0' in lines
    assert "indexpush_commit_to_ready_seconds_count 1.0" in lines
    assert 'indexpush_rollouts_total{index="home-store",outcome="served"} 1.0' in lines
    assert any(line.startswith('indexpush_index_age_seconds{environment="test",index="home-store"}') for line in lines)
