"""A real Prometheus scrapes the local stack, and tells when the batch has stopped."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pyarrow as pa
import pytest
import yaml
from pyarrow import parquet

from cd_webhook.pod_client import address_of
from embedding_batch.batch import run
from embedding_batch.command_line.reading import read_command
from local_stack.delivery import DeliveryPolicy
from local_stack.processes import free_port
from local_stack.stack import LocalStack, StackOptions
from model_repository.bucket.gcs_store import GcsStore
from model_repository.clock import SystemClock
from tests.monitoring.test_rules import PANELS

T = TypeVar("T")

RULES = Path(__file__).resolve().parents[2] / "monitoring" / "rules.yaml"
INDEX, ENVIRONMENT = "home-store", "local"
TARGET = timedelta(hours=1)


def until(ask: Callable[[], T | None], seconds: float = 300) -> T:
    """What is asked for, once it is there: generous, so that it doesn't matter how fast the machine is."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = ask()
        if found is not None:
            return found
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds} s")


@contextmanager
def prometheus(folder: Path, targets: dict[str, str]) -> Iterator[httpx.Client]:
    """Prometheus with the rules of `monitoring/`, their times scaled to seconds."""
    rules = yaml.safe_load(RULES.read_text())
    for group in rules["groups"]:
        group["interval"] = "1s"
        for rule in group["rules"]:
            if "for" in rule:
                rule["for"] = "2s"
    (folder / "rules.yaml").write_text(yaml.safe_dump(rules))
    jobs = [
        {"job_name": name, "static_configs": [{"targets": [address], "labels": {"namespace": "shop"}}]}
        for name, address in targets.items()
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


@dataclass
class Batch:
    """Somebody's job, which indexes the same few vectors again and again."""

    stack: LocalStack
    store: GcsStore
    folder: Path

    def commit(self, build: str, made: datetime) -> None:
        """Run as if it were that time; returns once the commit has its receipt. Raises what the batch does."""
        vectors = [[float(number == place) for place in range(16)] for number in range(16)]
        items = [f"item-{number}" for number in range(16)]
        table = pa.table({"id": items, "category": ["chairs"] * 16, "vector": vectors})
        parquet.write_table(table, self.folder / "vectors.parquet")
        arguments = ["index", "--vectors", str(self.folder / "vectors.parquet"), "--cache", str(self.folder / "cache")]
        arguments += ["--index", INDEX, "--environment", ENVIRONMENT, "--build", build]
        config = read_command(arguments, self.stack.variables(), made)
        generation = run(config, self.store, made, lambda _: None)["generation"]
        receipt = f"deployments/{ENVIRONMENT}/{INDEX}/{generation}.json"
        until(lambda: self.store.stat(receipt))
        said = json.loads(self.store.read(receipt, limit=2**16).data)
        assert said["outcome"] == "served", said


@pytest.fixture
def batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Batch]:
    options = StackOptions(
        environment=ENVIRONMENT,
        delivery=DeliveryPolicy(duplicates=0.0),
        freshness_seconds=round(TARGET.total_seconds()),
    )
    with LocalStack(tmp_path / "stack", options) as stack:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", stack.bucket_url)
        yield Batch(stack, GcsStore(options.bucket), tmp_path)


def pod_address(stack: LocalStack) -> str | None:
    return next((address_of(pod, "probes") for pod in stack.cluster.pods(INDEX)), None)


@pytest.mark.timeout(1200)
def test_a_batch_that_stops_is_told_and_forgotten_once_it_commits_again(batch: Batch, tmp_path: Path) -> None:
    made = SystemClock().now() - TARGET + timedelta(seconds=30)  # an hour, most of which has passed
    batch.commit("first", made)
    targets = {
        "webhook": batch.stack.webhook_url.removeprefix("http://"),
        "pods": until(lambda: pod_address(batch.stack)),
    }
    with prometheus(tmp_path, targets) as asked:
        stale = until(lambda: firing(asked).get("IndexpushIndexStale"))
        assert (stale["labels"]["index"], stale["labels"]["environment"]) == (INDEX, ENVIRONMENT)
        assert datetime.fromisoformat(stale["activeAt"][:19] + "+00:00") >= made + TARGET - timedelta(seconds=1)
        until(lambda: value(asked, "indexpush_search_ready == 1"))
        until(lambda: value(asked, f'indexpush_rollouts_total{{index="{INDEX}",outcome="served"}} == 1'))
        assert set(firing(asked)) == {"IndexpushIndexStale"}
        for query in PANELS.values():
            answer = asked.get("/query", params={"query": query.replace("$environment", ENVIRONMENT)})
            assert answer.status_code == 200, answer.text

        batch.commit("second", SystemClock().now())
        until(lambda: value(asked, f"indexpush_index_age_seconds < {TARGET.total_seconds()}"))
        until(lambda: None if firing(asked) else True)
