"""What monitoring is told of each index."""

from __future__ import annotations

import io
from datetime import timedelta

from cd_webhook.cluster import Object
from cd_webhook.delivery.receipts import committed_at
from cd_webhook.telemetry.index_figures import BuildTimes, Holds, IndexFigures, figures
from model_repository.bucket.store import StoredObject
from model_repository.documents.commit import Commit
from model_repository.errors import TransientError
from model_repository.names import IndexPrefix, Target
from model_repository.repository import write_commit
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


def asked(index: str, generation: int) -> IndexFigures:
    """An index whose newest request is that one."""
    return IndexFigures(index, B1, None, 1, 1, 0, generation)


def test_a_hold_is_read_once_for_each_request_and_is_over_with_the_commit_that_ends_it() -> None:
    store = CountingStore()
    target = Target("test", "home-store")
    holds = Holds("test", store, Log(stream=io.StringIO()))
    first = write_commit(store, target, Commit(B1, hold=True), if_generation_match=None).generation
    since = store.stat(target.commit_name).updated  # type: ignore[union-attr]
    for _ in range(3):
        assert holds.of([asked("home-store", first)]) == {"home-store": since}
    assert store.reads.count(target.commit_name) == 1
    second = write_commit(store, target, Commit(B2), if_generation_match=first).generation
    assert holds.of([asked("home-store", second)]) == {}


def test_neither_a_shadow_nor_what_has_no_commit_nor_one_of_another_environment_is_held() -> None:
    store = CountingStore()
    for target in (Target("elsewhere", "home-store"), Target("test", "home-store").shadow):
        write_commit(store, target, Commit(B1, hold=True), if_generation_match=None)
    indexes = [asked("home-store", 1), asked("home-store-shadow", 1)]
    assert Holds("test", store, Log(stream=io.StringIO())).of(indexes) == {}


def test_holds_that_cannot_be_read_are_asked_for_once_a_look_and_what_is_known_stays() -> None:
    store = CountingStore()
    write_commit(store, Target("test", "home-store"), Commit(B1, hold=True), if_generation_match=None)
    holds = Holds("test", store, Log(stream=io.StringIO()))
    known = holds.of([asked("home-store", 1)])
    store.away, store.reads = True, []
    assert holds.of([*(asked(f"c{n}", 1) for n in range(9)), asked("home-store", 1)]) == known != {}
    assert len(store.reads) == 1
