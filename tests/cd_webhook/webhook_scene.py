"""A webhook without its door: the real decisions and templates, over a fake cluster and a bucket in memory."""

from __future__ import annotations

import io
import pickle
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

from cd_webhook.canary import Canaries
from cd_webhook.cluster import Cluster, ClusterRefused, Object
from cd_webhook.delivery.deliver import Delivery, DeliveryResult
from cd_webhook.delivery.receipts import Receipts
from cd_webhook.state import Deployed, read_deployed
from manifests import metadata as marks
from manifests.render import Rendered, render
from manifests.values import Values, parse_values
from model_repository.bucket.store import ObjectInfo, Store, StoredObject
from model_repository.deployment import DeploymentRequest, Footprint
from model_repository.documents.receipts.receipt import Receipt
from model_repository.names import IndexPrefix, Target
from model_repository.repository import list_receipts, read_receipt
from model_repository.telemetry.log import Log
from tests import builds
from tests.cd_webhook.fake_cluster import FakeClock, FakeCluster
from tests.cd_webhook.fake_pods import FakePods
from tests.memory_store import MemoryStore
from tests.remembering_notifier import RememberingNotifier

VALUES = "namespace: n\nimage: indexpush:1\nservice_account: s\nreplicas: 1\n"
TARGET = Target("test", "home-store")


def values(text: str = VALUES) -> Values:
    return parse_values(text, "test.yaml", "test", {})


_RENDERED: dict[tuple[DeploymentRequest, str], bytes] = {}


def rendered_once(asked: DeploymentRequest, chosen: Values) -> Rendered:
    """What the real templates make of it; parsing YAML hundreds of times is what would make the races slow."""
    key = (asked, repr(chosen))
    if key not in _RENDERED:
        _RENDERED[key] = pickle.dumps(render(asked, chosen))
    return cast("Rendered", pickle.loads(_RENDERED[key]))  # noqa: S301 - a copy, faster than `copy.deepcopy`


def request(generation: int, build: str = "", index: str = "home-store") -> DeploymentRequest:
    return builds.request(
        generation,
        Target("test", index),
        bucket="memory",
        index_prefix=IndexPrefix(index, build or f"b{generation}"),
        index_generation=100 + generation,
        footprint=Footprint(memory_mib=300, volume_mib=100, deadline_seconds=60),
        by="ann",
        reason="because",
    )


class SharedStore:
    """A bucket in memory that threads may share."""

    bucket = "memory"

    def __init__(self) -> None:
        self._store = MemoryStore()
        self._lock = threading.Lock()

    def read(self, name: str, *, limit: int) -> StoredObject:
        return self._store.read(name, limit=limit)

    def stat(self, name: str) -> ObjectInfo | None:
        return self._store.stat(name)

    def listing(self, prefix: str, *, deep: bool = True) -> list[ObjectInfo]:
        return self._store.listing(prefix, deep=deep)

    def folders(self, prefix: str) -> list[str]:
        return self._store.folders(prefix)

    def write(self, name: str, data: bytes, *, if_generation_match: int | None) -> ObjectInfo:
        with self._lock:
            return self._store.write(name, data, if_generation_match=if_generation_match)

    def commit(self, target: Target, generation: int) -> None:
        """Somebody uploads a commit, and the bucket gives it this generation."""
        name = target.commit_name
        with self._lock:
            info = ObjectInfo(name, 2, "", generation, datetime(2026, 11, 21, tzinfo=UTC))
            self._store._objects[name] = (info, b"{}")

    def forget(self, name: str) -> None:
        """Somebody deletes an object."""
        with self._lock:
            del self._store._objects[name]

    def upload(self, name: str, path: Path, *, if_generation_match: int | None) -> ObjectInfo:
        return self.write(name, path.read_bytes(), if_generation_match=if_generation_match)


class Scene:
    """One environment."""

    def __init__(self, *, alive: bool = True) -> None:
        self.cluster = FakeCluster(alive=alive)
        self.store = SharedStore()
        self.clock = FakeClock()
        self.values = values()
        self.pods = FakePods(self.cluster, self.clock)
        self.lines = io.StringIO()
        self.notifier = RememberingNotifier()
        self.delivery = self.webhook()

    def webhook(self, cluster: Cluster | None = None, store: Store | None = None) -> Delivery:
        """A webhook process, freshly started."""

        chosen, log = self.values, Log(stream=self.lines)

        def rendered(asked: DeploymentRequest) -> Rendered:
            return rendered_once(asked, chosen)

        cluster, store = cluster or self.cluster, store or self.store
        receipts = Receipts(
            environment="test",
            cluster=cluster,
            store=store,
            clock=self.clock,
            log=log,
            notifier=self.notifier,
            url=chosen.url or "",
        )
        return Delivery(
            environment="test",
            cluster=cluster,
            store=store,
            render=rendered,
            canaries=Canaries(chosen.canary, cluster, store, log, self.pods.ask),
            clock=self.clock,
            log=log,
            receipts=receipts,
        )

    def deliver(self, request: DeploymentRequest, webhook: Delivery | None = None) -> DeliveryResult:
        """Somebody uploads this commit, and the webhook hears of it."""
        self.store.commit(request.target, request.generation)
        return (webhook or self.delivery).deliver(request)

    def configure(self, chosen: Values) -> None:
        """The environment's values change, and the webhook starts anew with them."""
        self.values = chosen
        self.delivery = self.webhook()

    def look_until_finished(
        self, delivery: Delivery | None = None, name: str = "home-store", pause: timedelta = timedelta()
    ) -> str:
        for _ in range(50):
            self.clock.moment += pause
            step = (delivery or self.delivery).advance(name)
            if step.finished:
                return step.sentence
        raise AssertionError(f"still in progress: {step.sentence}")

    def serve(self, generation: int) -> None:
        self.deliver(request(generation))
        self.look_until_finished()

    def deployed(self, name: str = "home-store") -> Deployed:
        live = self.cluster.deployment(name)
        assert live is not None
        return read_deployed(live)

    def receipt(self, generation: int) -> Receipt:
        return read_receipt(self.store, TARGET, generation)

    def outcomes(self) -> dict[int, str]:
        return {g: self.receipt(g).outcome.value for g in list_receipts(self.store, TARGET)}


def template_generation(scene: Scene) -> str:
    live = scene.cluster.deployment("home-store")
    assert live is not None
    return str(live["spec"]["template"]["metadata"]["annotations"][marks.COMMIT_GENERATION])


def refuse(*_: object, **__: object) -> Object:
    raise ClusterRefused("admission webhook says no")
