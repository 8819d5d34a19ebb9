"""A canary on the local stack: the real webhook, function, puller and search servers, with callers asking meanwhile."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage

from local_stack.demo.client import Client
from local_stack.demo.programs import run_batch
from local_stack.stack import LocalStack, StackOptions
from model_repository.bucket.gcs_store import GcsStore
from model_repository.documents.receipts.filter_receipt import FilterOutcome
from model_repository.documents.receipts.receipt import Outcome, Receipt, parse_receipt
from model_repository.names import Target
from model_repository.repository import read_filter_receipt, write_filter
from operator_cli.commands.compare import compare_items, keep
from operator_cli.commands.status import TargetStatus, status
from operator_cli.webhook import Comparison, Webhook

ROOT = Path(__file__).resolve().parents[2]
CATALOGUE = ROOT / "local_stack" / "demo" / "home_store"
VALUES = ROOT / "manifests" / "environments" / "local.yaml"
TARGET = Target("staging", "home-store")
CANARY = f"{TARGET.index}.canary"
SECONDS = 6
AGENT = "import os, time; open(os.environ['NOTE'], 'w').write(os.environ['SAYS']); time.sleep(86400)"
ADDED = {
    "storage_class": "fast",
    "pod_annotations": {"agent.example/level": "2"},
    "pod_patch": {
        "spec": {
            "imagePullSecrets": [{"name": "registry"}],
            "volumes": [{"name": "notes", "emptyDir": {}}],
            "containers": [
                {
                    "name": "agent",
                    "image": "indexpush:0.1.0",
                    "command": ["python", "-c", AGENT],
                    "env": [{"name": "SAYS", "value": "hello"}, {"name": "NOTE", "value": "/notes/said"}],
                    "volumeMounts": [{"name": "notes", "mountPath": "/notes"}],
                },
                {"name": "search-server", "volumeMounts": [{"name": "notes", "mountPath": "/notes"}]},
            ],
        }
    },
}
"""What the pods of every test here get besides."""


@dataclass
class Scene:
    """A stack whose values ask for a canary, and one build that serves."""

    stack: LocalStack
    prefix: str
    items: list[str]
    bucket: storage.Bucket

    def commit(self) -> int:
        blob = self.bucket.blob(TARGET.commit_name)
        blob.upload_from_string(json.dumps({"index_prefix": self.prefix}))
        return int(blob.generation)

    @property
    def webhook(self) -> Webhook:
        """Who is asked how rollouts go."""
        return Webhook(self.stack.webhook_url, self.stack.webhook_headers["Authorization"].removeprefix("Bearer "))

    def receipt(self, generation: int, within: float = 60.0) -> Receipt:
        blob = self.bucket.blob(TARGET.receipt_name(generation))
        until(blob.exists, within)
        return parse_receipt(blob.download_as_bytes(), TARGET, generation)

    def canary_pids(self) -> list[int]:
        """The search servers of the canary's pods that are ready."""
        ready = {
            pod["metadata"]["name"]
            for pod in self.stack.cluster.pods(CANARY)
            for condition in pod["status"]["conditions"]
            if condition["type"] == "Ready" and condition["status"] == "True"
        }
        return [
            pid for pid, command in processes(str(self.stack.work_dir)) if any(f"/{name}/" in command for name in ready)
        ]

    def watched(self) -> list[int]:
        """Wait until the canary is ready; gives the processes of its server."""
        until(self.canary_pids, 60.0)
        return self.canary_pids()

    def settled(self, pods: int = 1) -> None:
        """No canary is left, nor an old pod."""
        until(lambda: self.stack.cluster.deployment(CANARY) is None, 60.0)
        until(lambda: len(self.stack.cluster.pods(TARGET.index)) == pods, 60.0)
        until(lambda: not self.stack.cluster.pods(CANARY), 60.0)


def until(look: object, within: float) -> None:
    assert callable(look)
    end = time.monotonic() + within
    while not look():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def processes(work_dir: str) -> list[tuple[int, str]]:
    """Search servers of this stack: pid, and the environment that names its pod's folder."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command, environment = (folder / "cmdline").read_bytes(), (folder / "environ").read_bytes().decode()
        except OSError:
            continue
        if b"search_server" in command and work_dir in environment:
            found.append((int(folder.name), environment))
    return found


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("canary")
    values = folder / "values.yaml"
    chosen = {"canary": {"seconds": SECONDS, "latency_floor_ms": 500}, **ADDED}
    values.write_text(f"{VALUES.read_text()}\n{yaml.safe_dump(chosen)}")
    lines = (CATALOGUE / "catalogue.jsonl").read_text(encoding="utf-8").splitlines()[::20]
    catalogue = folder / "catalogue"
    catalogue.mkdir()
    (catalogue / "images").symlink_to(CATALOGUE / "images")
    (catalogue / "catalogue.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    cache = folder / "cache"
    cache.mkdir()
    models = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "indexpush" / "models"
    models.mkdir(parents=True, exist_ok=True)
    (cache / "models").symlink_to(models)
    with LocalStack(folder / "stack", StackOptions(environment=TARGET.environment, pod_values=values)) as stack:
        arguments = ["--index", TARGET.index, "--environment", TARGET.environment, "--build", "first"]
        summary = run_batch(["--catalogue", str(catalogue), *arguments], stack.variables(), cache, lambda *_: None)
        anonymous = AnonymousCredentials()  # type: ignore[no-untyped-call]
        client = storage.Client("local", anonymous, client_options={"api_endpoint": stack.bucket_url})
        items = [json.loads(line)["id"] for line in lines]
        scene = Scene(stack, summary["index_prefix"], items, client.bucket(stack.options.bucket))
        first = scene.receipt(int(summary["generation"]))
        assert (first.outcome, first.canary) == (Outcome.SERVED, None), first.detail
        yield scene


def test_pods_have_what_values_add_to_them(scene: Scene) -> None:
    scene.settled()
    (pod,) = scene.stack.cluster.pods(TARGET.index)
    assert pod["metadata"]["annotations"]["agent.example/level"] == "2"
    assert {status["name"]: status["ready"] for status in pod["status"]["containerStatuses"]} == {
        "search-server": True,
        "agent": True,
    }
    (said,) = scene.stack.work_dir.glob(f"**/{pod['metadata']['name']}/volumes/notes/said")
    assert said.read_text() == "hello"


def test_the_bucket_says_where_an_index_answers(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.settled()
    for name, value in scene.stack.variables().items():
        monkeypatch.setenv(name, value)
    (found,) = status(GcsStore(scene.bucket.name), TARGET.environment, TARGET.index)
    assert isinstance(found, TargetStatus)
    assert found.serving
    assert found.address
    with urllib.request.urlopen(f"{found.address.inside}/v1/status", timeout=30) as answer:
        assert json.load(answer)["generation"] == found.serving.generation


def test_a_good_build_is_promoted_while_callers_ask_and_none_of_them_notices(scene: Scene) -> None:
    url = scene.stack.service_url(TARGET.index)
    assert url
    shown: list[Comparison] = []

    def shows_figures() -> bool:
        progress = scene.webhook.ask().of(TARGET, generation)
        shown.extend([progress.comparison] if progress and progress.comparison else [])
        return bool(shown)

    with Client(url, scene.items) as before_it, Client(url, scene.items, connections=4) as client:
        generation = scene.commit()
        scene.watched()
        with Client(url, scene.items, connections=4) as during_it:
            until(shows_figures, 60.0)
            receipt = scene.receipt(generation)
            scene.settled()
    assert receipt.outcome is Outcome.SERVED, receipt.detail
    assert receipt.canary is not None
    assert receipt.canary.promoted
    assert receipt.canary.seconds >= SECONDS
    assert receipt.canary.canary.probes >= 40
    assert receipt.canary.canary.probes_failed == receipt.canary.canary.errors == 0
    assert receipt.canary.stable.requests > receipt.canary.stable.probes / 2
    (first,) = shown
    assert 0 < first.figures.canary.probes <= receipt.canary.canary.probes
    assert (first.figures.wrong_answers, first.figures.canary.pods, first.figures.stable.pods) == (0, 1, 1)
    for one in (before_it, client, during_it):
        assert one.traffic.failures == ()
        assert one.traffic.requests > 20
    assert generation in during_it.traffic.generations


def test_what_is_sold_out_is_gone_from_all_pods_soon_after_the_upload_and_nothing_polls(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.settled()
    url = scene.stack.service_url(TARGET.index)
    assert url
    item, hidden, *_ = scene.items
    for name, value in scene.stack.variables().items():
        monkeypatch.setenv(name, value)
    store = GcsStore(scene.bucket.name)

    def put_in_force(items: list[str]) -> int:
        """Upload a filter, through event, function and webhook to the pods; how many confirmed it."""
        live = write_filter(store, TARGET, items, by="stock")
        until(lambda: store.stat(TARGET.filter_receipt_name(live.generation)) is not None, 60.0)
        receipt = read_filter_receipt(store, TARGET, live.generation)
        assert receipt.outcome is FilterOutcome.APPLIED, receipt.detail
        return receipt.pods

    def is_found() -> bool:
        with urllib.request.urlopen(f"{url}/v1/items/{item}/similar?k=1000", timeout=30) as answer:
            return hidden in [one["id"] for one in json.load(answer)["neighbors"]]

    assert is_found()
    with Client(url, scene.items, connections=4) as client:
        assert put_in_force([hidden]) == 1
        assert not is_found()
        put_in_force([])
        assert is_found()
    assert client.traffic.failures == ()


def test_a_shadow_serves_beside_the_index_and_goes_with_its_commit_and_callers_notice_nothing(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.settled()
    for name, value in scene.stack.variables().items():
        monkeypatch.setenv(name, value)
    store = GcsStore(scene.bucket.name)
    shadow, cluster = TARGET.shadow, scene.stack.cluster
    url = scene.stack.service_url(TARGET.index)
    assert url
    with Client(url, scene.items, connections=4) as client:
        blob = scene.bucket.blob(shadow.commit_name)
        blob.upload_from_string(json.dumps({"index_prefix": scene.prefix, "reason": "v2"}))
        receipt_blob = scene.bucket.blob(shadow.receipt_name(int(blob.generation)))
        until(receipt_blob.exists, 60.0)
        receipt = parse_receipt(receipt_blob.download_as_bytes(), shadow, int(blob.generation))
        assert (receipt.outcome, receipt.canary) == (Outcome.SERVED, None), receipt.detail
        address = scene.stack.service_url(shadow.index)
        assert address
        live, answers, compared = compare_items(url, address, 20, 10)
        assert (answers["generation"], compared.overlap) == (receipt.generation, 1.0)
        keep(store, shadow, (live, answers), [compared], finished=receipt.finished, least_overlap=0.9, by="ada")
        (found,) = status(store, shadow.environment, shadow.index)
        assert isinstance(found, TargetStatus)
        assert found.comparison
        assert (found.comparison.answers[0].asked, found.comparison.too_different) == (20, False)
        blob.delete()
        scene.stack.sweep()
        until(lambda: cluster.deployment(shadow.index) is None, 60.0)
        until(lambda: scene.stack.service_url(shadow.index) is None, 60.0)
    assert client.traffic.failures == ()
    assert receipt.generation not in client.traffic.generations
    assert cluster.deployment(TARGET.index) is not None


def test_a_canary_that_hangs_is_aborted_and_what_served_serves_on(scene: Scene) -> None:
    scene.settled()
    (before,) = scene.stack.cluster.pods(TARGET.index)
    generation = scene.commit()
    pids = scene.watched()
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        progress = scene.webhook.ask().of(TARGET, generation)
        receipt = scene.receipt(generation)
    finally:
        for pid in pids:
            with_no_error(pid, signal.SIGCONT)
    assert progress
    assert (progress.canary, progress.wanted) == (True, 1)
    assert progress.detail.startswith("canary: ")
    assert (receipt.outcome, receipt.code) == (Outcome.UNDONE, "canary-errors"), receipt.detail
    assert receipt.canary is not None
    assert receipt.canary.canary.probes_failed >= 5
    assert receipt.canary.stable.probes_failed == 0
    scene.settled()
    (after,) = scene.stack.cluster.pods(TARGET.index)
    assert after["metadata"]["name"] == before["metadata"]["name"]


def with_no_error(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def test_a_webhook_that_is_killed_while_it_watches_is_followed_by_one_that_finishes(scene: Scene) -> None:
    scene.settled()
    generation = scene.commit()
    scene.watched()
    scene.stack.kill("cd-webhook")
    assert scene.stack.revive()
    receipt = scene.receipt(generation)
    assert receipt.outcome is Outcome.SERVED, receipt.detail
    assert receipt.canary is not None
    scene.settled()


def test_a_newer_commit_supersedes_a_canary_that_is_being_watched(scene: Scene) -> None:
    scene.settled()
    older = scene.commit()
    scene.watched()
    newer = scene.commit()
    assert scene.receipt(older).outcome is Outcome.SUPERSEDED
    receipt = scene.receipt(newer)
    assert receipt.outcome is Outcome.SERVED, receipt.detail
    assert receipt.canary is not None
    scene.settled()
