"""What monitoring is told of each index."""

from __future__ import annotations

import io
from datetime import timedelta

from cd_webhook.cluster import Object
from cd_webhook.delivery.receipts import committed_at
from cd_webhook.telemetry.index_figures import BuildTimes, IndexFigures, figures
from model_repository.bucket.store import StoredObject
from model_repository.errors import TransientError
from model_repository.names import IndexPrefix
from model_repository.telemetry.log import Log
from tests import builds
from tests.cd_webhook.webhook_scene import Scene, SharedStore, request
from tests.memory_store import MemoryStore

B1, B2 = IndexPrefix("home-store", "b1"), IndexPrefix("home-store", "b2")


def told(scene: Scene) -> list[IndexFigures]:
    found: list[Object] = scene.cluster.deployments()
    return list(figures(found))


def test_what_serves_is_told_while_another_build_rolls_out() -> None:
    scene = Scene()
    scene.serve(1)
    (settled,) = told(scene)
    assert (settled.build, settled.rolling_out_since, settled.receipts_owed) == (B1, None, 0)
    assert settled.pods_wanted == settled.pods_ready == 1
    scene.clock.moment += timedelta(minutes=5)
    scene.deliver(request(2))
    (rolling_out,) = told(scene)
    assert (rolling_out.build, rolling_out.rolling_out_since) == (B1, scene.clock.moment)


def test_an_index_that_never_served_and_a_shadow_have_no_age() -> None:
    scene = Scene()
    scene.deliver(request(1))
    scene.deliver(request(1, index="home-store-shadow"))
    scene.look_until_finished(name="home-store-shadow")
    assert {it.index: it.build for it in told(scene)} == {"home-store": None, "home-store-shadow": None}


class CountingStore(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self.reads: list[str] = []
        self.away = False

    def read(self, name: str, *, limit: int) -> StoredObject:
        self.reads.append(name)
        if self.away:
            raise TransientError("away")
        return super().read(name, limit=limit)


def test_each_index_json_is_read_once_and_one_that_is_gone_has_no_age() -> None:
    store = CountingStore()
    manifest = builds.publish_build(store, B1)
    times = BuildTimes(store, Log(stream=io.StringIO()))
    for _ in range(3):
        assert times.of([B1]) == {B1: manifest.created}
    assert store.reads.count(B1.manifest) == 1
    assert times.of([B1, B2]) == {B1: manifest.created}


def test_a_bucket_that_is_away_is_asked_once_a_look_and_what_is_known_stays() -> None:
    store = CountingStore()
    manifest = builds.publish_build(store, B1)
    times = BuildTimes(store, Log(stream=io.StringIO()))
    times.of([B1])
    store.away, store.reads = True, []
    assert times.of([IndexPrefix("home-store", f"c{n}") for n in range(9)] + [B1]) == {B1: manifest.created}
    assert len(store.reads) == 1


def test_the_time_of_a_commit_is_known_while_it_is_the_live_one() -> None:
    scene = Scene()
    scene.serve(1)
    store: SharedStore = scene.store
    receipt = scene.receipt(1)
    assert committed_at(store, receipt) == store.stat(receipt.target.commit_name).updated  # type: ignore[union-attr]
    scene.store.commit(receipt.target, 2)
    assert committed_at(store, receipt) is None
