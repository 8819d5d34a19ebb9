"""A real Prometheus scrapes the webhook and a search server, and tells when the batch has stopped."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import httpx
import uvicorn
import yaml
from starlette.types import ASGIApp

from cd_webhook.cluster import Object
from cd_webhook.delivery.watcher import Watcher
from cd_webhook.filters import Filters
from cd_webhook.http.app import Dependencies, create_app
from cd_webhook.telemetry.index_figures import BuildTimes, figures
from cd_webhook.telemetry.metrics import Metrics
from local_stack.processes import free_port
from model_repository.clock import SystemClock
from model_repository.names import IndexPrefix
from tests import builds
from tests.cd_webhook.webhook_scene import Scene, request
from tests.monitoring.test_rules import PANELS
from tests.search_server.conftest import Server, make_build

T = TypeVar("T")

RULES = Path(__file__).resolve().parents[2] / "monitoring" / "rules.yaml"
TARGET = timedelta(seconds=5)


def until(ask: Callable[[], T | None], seconds: float = 90) -> T:
    """What is asked for, once it is there: generous, so that it doesn't matter how fast the machine is."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = ask()
        if found is not None:
            return found
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds} s")


def webhook(scene: Scene) -> ASGIApp:
    """The webhook's application, which looks at its cluster all the time, with a freshness target of seconds."""
    metrics = Metrics("test", SystemClock(), TARGET)
    times = BuildTimes(scene.store, scene.delivery.log)

    def saw(deployments: Sequence[Object]) -> None:
        indexes = list(figures(deployments))
        metrics.saw(indexes, times.of({it.build for it in indexes if it.build}), {})

    filters = Filters(
        environment="test", cluster=scene.cluster, store=scene.store, clock=scene.clock, log=scene.delivery.log
    )
    watcher = Watcher(scene.delivery, sweep_seconds=0.2, on_sweep=saw)
    return create_app(Dependencies("", lambda _: "anyone", scene.delivery, filters, watcher, metrics, list))


@contextmanager
def served(app: ASGIApp) -> Iterator[int]:
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until(lambda: server.started or None)
    yield port
    server.should_exit = True
    thread.join(30)


@contextmanager
def prometheus(folder: Path, targets: dict[str, int]) -> Iterator[httpx.Client]:
    """Prometheus with the rules of `monitoring/`, their times scaled to seconds."""
    rules = yaml.safe_load(RULES.read_text())
    for group in rules["groups"]:
        group["interval"] = "1s"
        for rule in group["rules"]:
            if "for" in rule:
                rule["for"] = "2s"
    (folder / "rules.yaml").write_text(yaml.safe_dump(rules))
    jobs = [
        {"job_name": name, "static_configs": [{"targets": [f"127.0.0.1:{port}"], "labels": {"namespace": "shop"}}]}
        for name, port in targets.items()
    ]
    config = {"global": {"scrape_interval": "1s"}, "rule_files": ["rules.yaml"], "scrape_configs": jobs}
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
    port = free_port()
    said = (folder / "log").open("wb")
    process = subprocess.Popen(
        [
            "prometheus",
            f"--config.file={folder / 'prometheus.yaml'}",
            f"--storage.tsdb.path={folder / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ],
        stdout=said,
        stderr=said,
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}/api/v1", timeout=30) as client:
            until(lambda: _answers(client) or None)
            yield client
    finally:
        process.kill()
        process.wait()
        said.close()


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/query", params={"query": "1"}).status_code == 200
    except httpx.TransportError:
        return False


def firing(client: httpx.Client) -> dict[str, dict[str, Any]]:
    alerts = client.get("/alerts").json()["data"]["alerts"]
    return {alert["labels"]["alertname"]: alert for alert in alerts if alert["state"] == "firing"}


def value(client: httpx.Client, query: str) -> float | None:
    result = client.get("/query", params={"query": query}).json()["data"]["result"]
    return float(result[0]["value"][1]) if result else None


def commit(scene: Scene, generation: int) -> datetime:
    """A batch publishes a build, and commits it; returns when the build was made."""
    made = SystemClock().now()
    builds.publish_build(scene.store, IndexPrefix("home-store", f"b{generation}"), created=made)
    scene.deliver(request(generation))
    scene.look_until_finished()
    return made


def test_a_batch_that_stops_is_told_and_forgotten_once_it_commits_again(tmp_path: Path) -> None:
    scene = Scene()
    pod = Server(make_build(tmp_path / "current").environment())
    pod.start()
    try:
        pod.wait_ready()
        made = commit(scene, 1)
        with (
            served(webhook(scene)) as port,
            prometheus(tmp_path, {"webhook": port, "pods": pod.probe_port}) as asked,
        ):
            stale = until(lambda: firing(asked).get("IndexpushIndexStale"))
            assert stale["labels"]["index"] == "home-store"
            assert datetime.fromisoformat(stale["activeAt"][:19] + "+00:00") >= made + TARGET - timedelta(seconds=1)
            until(lambda: value(asked, "indexpush_search_ready == 1"))
            assert set(firing(asked)) == {"IndexpushIndexStale"}
            for query in PANELS.values():
                answer = asked.get("/query", params={"query": query.replace("$environment", "test")})
                assert answer.status_code == 200, answer.text

            age = f"indexpush_index_age_seconds < {TARGET.seconds}"
            commit(scene, 2)
            until(lambda: value(asked, age))
            until(lambda: None if firing(asked) else True)
    finally:
        pod.stop()
