"""Everything installed in the cluster, and what a test does with it."""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cd_webhook.state.annotations import ROLLOUT
from local_stack.demo.client import Client, Traffic
from local_stack.demo.programs import run_batch
from local_stack.demo.sabotage import Files, Manifest, copy_build
from local_stack.demo.search import Search
from manifests import metadata as marks
from model_repository.bucket.gcs_store import GcsStore
from model_repository.deployment import DeploymentRequest
from model_repository.documents.commit import Commit, LiveCommit
from model_repository.documents.receipts.receipt import Outcome, Receipt
from model_repository.errors import ObjectMissing
from model_repository.names import IndexPrefix, Target
from model_repository.repository import list_receipts, read_build, read_receipt
from tests.kubernetes.installation import BUCKET, ENVIRONMENT, NAMESPACE, STAND_INS, TOKEN, install
from tests.kubernetes.kube import Kube, Object, until

INDEX = "home-store"
CATALOGUE = Path(__file__).resolve().parents[2] / "local_stack" / "demo" / "home_store"
PRODUCTS = 60


@dataclass
class Scene:
    """The environment "production" of a cluster, with one small build of real pictures in the bucket."""

    kube: Kube
    store: GcsStore
    build: IndexPrefix
    items: list[str]
    first_generation: int
    """Of the commit that the batch made of it."""
    first_committed: float
    """When it had done so, in seconds since the epoch."""
    first_status: dict[str, Any]
    """What the server said of itself once it answered with that."""
    _copies: dict[tuple[str, str], IndexPrefix] = field(default_factory=dict)

    # Commits

    def commit(self, prefix: IndexPrefix, **fields: object) -> int:
        """Commit a build of an index; gives the generation."""
        body = json.dumps({"index_prefix": str(prefix), **fields}).encode()
        return self.store.write(_target(prefix.index).commit_name, body, if_generation_match=None).generation

    def upload(self, prefix: IndexPrefix) -> int:
        """Commit a build, and tell nobody: for requests that the test makes itself. Gives the generation."""
        body = json.dumps({"index_prefix": str(prefix)})
        blob = self.store._bucket.blob(_target(prefix.index).commit_name)
        blob.upload_from_string(body, content_type="text/x-not-delivered")  # see stand_ins.py
        return int(blob.generation)

    def receipt(self, index: str, generation: int, within: float = 90.0) -> Receipt:
        """The receipt of a commit, as soon as there is one."""

        def look() -> Receipt | None:
            try:
                return read_receipt(self.store, _target(index), generation)
            except ObjectMissing:
                return None

        return until(look, f"a receipt of {index} {generation}", within)

    def serve(self, prefix: IndexPrefix, within: float = 90.0) -> int:
        """Commit a good build and wait until it serves; gives the generation."""
        generation = self.commit(prefix)
        receipt = self.receipt(prefix.index, generation, within)
        assert receipt.outcome is Outcome.SERVED, receipt.detail
        return generation

    def settled(self, prefix: IndexPrefix) -> int:
        """A good build of the index serves, alone: no rollout goes on, no old pod drains. Gives the generation."""
        noted = (self.kube.deployment(NAMESPACE, prefix.index) or {"metadata": {"annotations": {}}})["metadata"][
            "annotations"
        ]
        if noted.get(ROLLOUT) != "served":
            self.serve(prefix)
        self.alone(prefix.index)
        generation = int(self.deployment(prefix.index)["metadata"]["annotations"][marks.COMMIT_GENERATION])
        self.answers(prefix.index, generation)
        return generation

    def alone(self, index: str) -> None:
        """Wait until the old pods are gone: also a drain must not be noticed."""
        until(lambda: len(self.pods(index)) == 1, f"the old pods of {index} to leave")

    def receipts(self, index: str) -> dict[int, str]:
        """Outcomes by generation."""
        target = _target(index)
        return {g: read_receipt(self.store, target, g).outcome.value for g in list_receipts(self.store, target)}

    def times_written(self, index: str, generation: int) -> int:
        """How often the receipt of a commit was written."""
        return int(self.stand_ins("/uploads").get(_target(index).receipt_name(generation), 0))

    def request(self, prefix: IndexPrefix, generation: int, **changed: int) -> DeploymentRequest:
        """The request that the function would make; `changed`: fields of the footprint."""
        live = LiveCommit(_target(prefix.index), generation, Commit(prefix))
        request = DeploymentRequest.of(live, read_build(self.store, prefix), bucket=BUCKET)
        return replace(request, footprint=replace(request.footprint, **changed))

    def post(self, request: DeploymentRequest, address: str | None = None) -> dict[str, Any]:
        """Hand a request to the webhook as the function does; `address`: of one replica, or None for the Service."""
        host = address or f"{self.kube.service_address(NAMESPACE, 'indexpush-cd-webhook')}:80"
        asked = urllib.request.Request(
            f"http://{host}/webhooks/webhook/test", json.dumps(request.to_payload()).encode()
        )
        asked.add_header("Authorization", f"Bearer {TOKEN}")
        asked.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(asked, timeout=30) as answer:
                return dict(json.load(answer))
        except urllib.error.HTTPError as error:
            return dict(json.load(error))

    def status(self, index: str) -> dict[str, Any]:
        """What the webhook tells people about an index."""
        return self._deployment("GET", index)

    def withdraw(self, shadow: str) -> dict[str, Any]:
        """Ask for the end of a shadow, as a sweep does once its commit is gone."""
        return self._deployment("DELETE", shadow)

    def _deployment(self, method: str, index: str) -> dict[str, Any]:
        host = self.kube.service_address(NAMESPACE, "indexpush-cd-webhook")
        asked = urllib.request.Request(f"http://{host}/v1/deployments/{index}", method=method)
        asked.add_header("Authorization", f"Bearer {TOKEN}")
        with urllib.request.urlopen(asked, timeout=30) as answer:
            return dict(json.load(answer))

    # Builds

    def copy(
        self, name: str, index: str = INDEX, change: Callable[[Manifest, Files], None] = lambda *_: None
    ) -> IndexPrefix:
        """The build under another name, perhaps of another index, after `change` had its way with it; made once."""
        key = (index, name)
        if key not in self._copies:

            def changed(manifest: Manifest, files: Files) -> None:
                manifest["index"] = index
                change(manifest, files)

            self._copies[key] = copy_build(
                self.store, self.build, IndexPrefix(index, f"{name}-of-{self.build.build}"), changed
            )
        return self._copies[key]

    # The cluster

    def deployment(self, index: str) -> Object:
        found = self.kube.deployment(NAMESPACE, index)
        assert found, f"no Deployment {index}"
        return found

    def pods(self, index: str, generation: int | None = None) -> list[Object]:
        """The pods of an index, or those of one generation."""
        found = self.kube.pods(NAMESPACE, marks.selector(index))
        wanted = None if generation is None else str(generation)
        return [p for p in found if wanted in (None, p["metadata"]["annotations"][marks.COMMIT_GENERATION])]

    def webhooks(self) -> list[Object]:
        """The pods of the webhook that aren't leaving."""
        pods = self.kube.pods(NAMESPACE, {marks.NAME: "indexpush-cd-webhook"})
        return [pod for pod in pods if not pod["metadata"].get("deletionTimestamp")]

    # Callers

    def url(self, index: str) -> str:
        address = self.kube.service_address(NAMESPACE, index)
        assert address, f"no Service {index}"
        return f"http://{address}"

    def search(self, index: str) -> Search:
        return Search(self.url(index))

    def answers(self, index: str, generation: int, within: float = 30.0) -> float:
        """Wait until the Service answers with `generation`; gives the time in seconds since the epoch."""

        def look() -> float | None:
            try:
                return (
                    time.time() if self.search(index).status()["generation"] in (generation, str(generation)) else None
                )
            except (OSError, AssertionError):
                return None

        return until(look, f"an answer of {index} {generation}", within)

    @contextmanager
    def asking(self, index: str) -> Iterator[Client]:
        """A client that asks the Service without pause."""
        with Client(self.url(index), self.items) as client:
            yield client

    def stand_ins(self, path: str, *, act: bool = False) -> Any:
        host = self.kube.service_address(STAND_INS, "google")
        asked = urllib.request.Request(f"http://{host}:8090{path}", method="POST" if act else "GET")
        with urllib.request.urlopen(asked, timeout=30) as answer:
            return json.load(answer)


def ready(pod: Object) -> bool:
    conditions = pod["status"].get("conditions") or []
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def restarts(pods: list[Object]) -> dict[str, int]:
    """How often each pod's server restarted, by name: the same again means that they never stopped."""
    return {
        pod["metadata"]["name"]: sum(c["restartCount"] for c in pod["status"].get("containerStatuses", []))
        for pod in pods
    }


def unbroken(traffic: Traffic, least: int = 20) -> None:
    """No request failed, none mixed generations, and there were enough of them to tell."""
    assert traffic.failures == ()
    assert traffic.mixed == 0
    assert traffic.requests >= least


def _target(index: str) -> Target:
    return Target(ENVIRONMENT, index)


@contextmanager
def install_scene(kube: Kube, work: Path) -> Iterator[Scene]:
    """Install everything, build one index of real pictures, and commit it."""
    address = install(kube)
    variables = {"STORAGE_EMULATOR_HOST": f"http://{address}", "MODEL_REPOSITORY": f"gs://{BUCKET}"}
    os.environ.update(variables)  # Google's client in this process finds the bucket by it
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        del os.environ[name]
    catalogue, items = _some_products(work)
    cache = work / "cache"
    cache.mkdir()
    models = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "indexpush" / "models"
    models.mkdir(parents=True, exist_ok=True)
    (cache / "models").symlink_to(models)
    arguments = ["--index", INDEX, "--environment", ENVIRONMENT, "--build", f"first-{time.time_ns() // 10**9}"]
    summary = run_batch(["--catalogue", str(catalogue), *arguments], variables, cache, lambda *_: None)
    committed = time.time()
    prefix, generation = IndexPrefix.parse(summary["index_prefix"]), int(summary["generation"])
    scene = Scene(kube, GcsStore(BUCKET), prefix, items, generation, committed, {})
    scene.answers(INDEX, generation, 120.0)  # before other tests replace it
    scene.first_status = scene.search(INDEX).status()
    yield scene


def _some_products(work: Path) -> tuple[Path, list[str]]:
    """A catalogue of some of the shop's products, and their ids."""
    lines = (CATALOGUE / "catalogue.jsonl").read_text(encoding="utf-8").splitlines()
    chosen = lines[:: len(lines) // PRODUCTS][:PRODUCTS]
    folder = work / "catalogue"
    folder.mkdir()
    (folder / "images").symlink_to(CATALOGUE / "images")
    (folder / "catalogue.jsonl").write_text("".join(f"{line}\n" for line in chosen), encoding="utf-8")
    return folder, [json.loads(line)["id"] for line in chosen]
