"""Only what may be found is found: filters from a real bucket server, put in force in a running pod."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from cd_webhook.pod_client import Told, tell_pod
from model_repository.bucket.gcs_store import GcsStore
from model_repository.documents.index_manifest import Engine, Storage
from model_repository.documents.items.item_filter import make_filter, read_hashes
from model_repository.documents.items.item_ids import ItemLookup, encode_item_lookup, hash_item
from model_repository.names import Target
from model_repository.repository import keep_last_good_filter, write_filter
from search_server.filters.masks import hidden_positions, open_masks, write_masks
from tests import plain_http
from tests.search_server.conftest import Build, Server
from tests.search_server.vector_builds import make_vector_build

TARGET = Target("production", "home-store")


class Shop:
    """A pod, and the bucket with its filters."""

    def __init__(self, store: GcsStore, environment: dict[str, str], start: Callable[..., Server]) -> None:
        self.store = store
        self._environment = environment
        self._start = start
        self.server: Server | None = None

    def start(self, *, wait: bool = True) -> Server:
        self.server = self._start(self._environment, wait=wait)
        return self.server

    def hide(self, *items: str) -> int:
        """Upload a filter; its generation."""
        return write_filter(self.store, TARGET, items).generation

    def tell(self, generation: int) -> Told | int:
        """Tell the pod until it has done it, as the webhook does: a busy machine may need more than one telling."""
        end = time.monotonic() + 60
        while (told := self.tell_once(generation)) is Told.NOT_YET and time.monotonic() < end:
            pass
        return told

    def tell_once(self, generation: int) -> Told | int:
        assert self.server is not None
        return tell_pod(f"127.0.0.1:{self.server.probe_port}", generation)

    def get(self, path: str, **query: object) -> Any:
        assert self.server is not None
        return plain_http.get(f"{self.server.url}{path}", params=query, timeout=30).json()  # type: ignore[arg-type]

    def found(self, item: str, k: int = 100) -> list[str]:
        """Ask both workers: a new connection each time."""
        answers = {
            tuple(one["id"] for one in self.get(f"/v1/items/{item}/similar", k=k)["neighbors"]) for _ in range(12)
        }
        assert len(answers) == 1, "the workers don't agree"
        return list(answers.pop())

    def filter(self) -> dict[str, int]:
        found: dict[str, int] = self.get("/v1/status")["filter"]
        return found


@pytest.fixture
def shop(
    new_bucket: Callable[[], str],
    bucket_server: str,
    good_build: Build,
    start: Callable[..., Server],
    tmp_path: Path,
) -> Shop:
    bucket = new_bucket()
    environment = good_build.environment() | {
        "FILTER": TARGET.filter_name,
        "MODEL_REPOSITORY": f"gs://{bucket}",
        "STORAGE_EMULATOR_HOST": bucket_server,
        "TMPDIR": str(tmp_path),
    }
    return Shop(GcsStore(bucket), environment, start)


def test_a_pod_reads_the_live_filter_before_it_is_ready(shop: Shop) -> None:
    generation = shop.hide("chair-1", "chair-2", "not-in-this-build")
    shop.start()
    assert shop.filter() == {"generation": generation, "hidden": 3, "here": 2}
    found = shop.found("chair-0")
    assert {"chair-1", "chair-2"} & set(found) == set()
    assert len(found) == 71 - 1 - 2


def test_a_filter_is_in_force_in_all_workers_when_the_pod_says_so(shop: Shop) -> None:
    shop.start()
    assert shop.filter() == {"generation": 0, "hidden": 0, "here": 0}
    assert "chair-1" in shop.found("chair-0")
    generation = shop.hide("chair-1")
    assert shop.tell(generation) == generation
    assert "chair-1" not in shop.found("chair-0")
    assert len(shop.found("chair-1")) == 70  # who is hidden has neighbours, and is none
    listed = {one["id"] for one in shop.get("/v1/items", limit=100)["items"]}
    assert (len(listed), "chair-1" in listed) == (70, False)
    again = shop.hide()
    assert shop.tell(again) == again
    assert "chair-1" in shop.found("chair-0")


def test_as_many_are_found_as_are_asked_for_while_most_are_hidden(shop: Shop) -> None:
    shop.start()
    shown = [f"chair-{number}" for number in range(4)]
    everything = {one["id"] for one in shop.get("/v1/items", limit=100)["items"]}
    shop.tell(shop.hide(*(everything - set(shown))))
    assert sorted(shop.found("lamp-0", k=4)) == shown
    shop.tell(shop.hide(*everything))
    assert shop.found("lamp-0") == []


def test_in_files_that_categories_share_each_hides_its_own(
    new_bucket: Callable[[], str], bucket_server: str, start: Callable[..., Server], tmp_path: Path
) -> None:
    bucket = new_bucket()
    catalogue = {"one": 1, "few": 4, "some": 30, "another": 1}
    build = make_vector_build(tmp_path, catalogue, 16, kind=(Engine.EXACT, Storage.FLOAT32))
    build |= {"FILTER": TARGET.filter_name, "MODEL_REPOSITORY": f"gs://{bucket}"}
    shop = Shop(GcsStore(bucket), build | {"STORAGE_EMULATOR_HOST": bucket_server, "TMPDIR": str(tmp_path)}, start)
    shop.start()
    everything = {f"{category}-{n}" for category, items in catalogue.items() for n in range(items)}
    hidden = {"one-0", "few-3", *(f"some-{n}" for n in range(25))}
    assert set(shop.found("few-0")) == everything - {"few-0"}
    generation = shop.hide(*hidden)
    assert shop.tell(generation) == generation
    assert set(shop.found("few-0")) == everything - hidden - {"few-0"}
    assert set(shop.found("one-0")) == everything - hidden
    listed = shop.get("/v1/items", category="some", limit=100)["items"]
    assert [item["id"] for item in listed] == [f"some-{n}" for n in range(25, 30)]


def test_a_malformed_filter_changes_nothing_and_the_pod_says_that_it_is_not_in_force(shop: Shop) -> None:
    generation = shop.hide("chair-1")
    shop.start()
    bad = shop.store.write(TARGET.filter_name, b"{", if_generation_match=None)
    assert shop.tell_once(bad.generation) is Told.NOT_YET
    assert shop.filter()["generation"] == generation
    assert "chair-1" not in shop.found("chair-0")
    newer = shop.hide("chair-2")
    assert shop.tell(newer) == newer
    assert "chair-1" in shop.found("chair-0")


def test_a_worker_that_replaces_another_hides_the_same(shop: Shop) -> None:
    generation = shop.hide("chair-1")
    server = shop.start()
    assert server.process is not None
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
    workers = [
        int(pid) for pid in children if b"search_server.processes.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    os.kill(workers[0], signal.SIGKILL)
    end = time.monotonic() + 60
    while Path(f"/proc/{workers[0]}").exists() or plain_http.get(f"{server.url}/readyz").status_code != 200:
        assert time.monotonic() < end
        time.sleep(0.05)
    assert shop.filter()["generation"] == generation
    assert "chair-1" not in shop.found("chair-0")


def test_a_pod_that_starts_while_the_live_filter_is_malformed_hides_what_the_others_do(shop: Shop) -> None:
    good = write_filter(shop.store, TARGET, ["chair-1"])
    keep_last_good_filter(shop.store, good, replacing=0)
    shop.store.write(TARGET.filter_name, b"{", if_generation_match=None)
    shop.start()
    assert shop.filter()["generation"] == good.generation
    assert "chair-1" not in shop.found("chair-0")


def test_a_pod_is_not_ready_while_the_bucket_does_not_say_what_is_hidden(shop: Shop) -> None:
    shop.store.write(TARGET.filter_name, b"{", if_generation_match=None)
    shop.store.write(TARGET.last_good_filter_name, b"{", if_generation_match=None)
    server = shop.start(wait=False)
    end = time.monotonic() + 60
    because = ""
    while "filter" not in because:
        assert time.monotonic() < end
        with suppress(httpx.TransportError):
            because = plain_http.get(f"http://127.0.0.1:{server.probe_port}/readyz").json()["error"]["message"]
        time.sleep(0.05)
    generation = shop.hide("chair-1")
    server.wait_ready()
    assert shop.filter()["generation"] == generation


def test_callers_notice_nothing_of_filters_that_come_one_after_another(shop: Shop) -> None:
    shop.start()
    ended, failed = threading.Event(), []

    def ask() -> None:
        with plain_http.Client(base_url=shop.server.url if shop.server else "", timeout=60) as client:
            while not ended.is_set():
                answer = client.get("/v1/items/chair-0/similar", params={"k": 20})
                if answer.status_code != 200 or len(answer.json()["neighbors"]) != 20:
                    failed.append(answer.text)

    callers = [threading.Thread(target=ask) for _ in range(4)]
    for caller in callers:
        caller.start()
    for number in range(5):
        generation = shop.hide(f"chair-{number}", f"lamp-{number}")
        assert shop.tell(generation) == generation
    ended.set()
    for caller in callers:
        caller.join()
    assert failed == []


def test_what_is_no_message_about_a_filter_is_refused(shop: Shop) -> None:
    server = shop.start()
    url = f"http://127.0.0.1:{server.probe_port}/v1/filter"
    for body in (b"", b"{}", b"[]", b"\xff"):
        assert plain_http.post(url, content=body).status_code == 400
    assert plain_http.post(url, content=b" " * 10_000).status_code == 413
    assert plain_http.get(url).status_code == 404


def test_masks_say_of_each_partition_what_is_left(tmp_path: Path) -> None:
    partitions = [[f"a-{number}" for number in range(9)], ["b-0"], [f"c-{number}" for number in range(17)]]
    lookup = ItemLookup(encode_item_lookup(partitions), "lookup")
    _, data = make_filter(["a-3", "a-8", "b-0", "elsewhere"])
    hashes = np.frombuffer(read_hashes(data), np.uint64)
    write_masks(tmp_path / "masks", 7, hashes, lookup, [9, 1, 17])
    masks = open_masks(tmp_path / "masks", [9, 1, 17])
    assert (masks.generation, masks.hidden, masks.here) == (7, 4, 3)
    first, second, third = masks.visible
    assert first is not None
    assert [position for position in range(9) if position not in first] == [3, 8]
    assert second is not None
    assert second.count == 0
    assert third is None
    with pytest.raises(ValueError, match="zip"):
        open_masks(tmp_path / "masks", [9, 1])


def test_items_that_share_a_hash_are_hidden_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model_repository.documents.items.item_ids.hash_item", len)
    lookup = ItemLookup(encode_item_lookup([["aa", "b"], ["cc", "ddd"]]), "lookup")
    partitions, positions = hidden_positions(lookup, np.array([2], np.uint64))
    assert sorted(zip(partitions.tolist(), positions.tolist(), strict=True)) == [(0, 0), (1, 0)]


def test_a_million_items_take_an_eighth_of_a_megabyte(tmp_path: Path) -> None:
    ids = [f"item-{number}" for number in range(1_000_000 // 20)]
    lookup = ItemLookup(encode_item_lookup([ids]), "lookup")
    hashes = np.array(sorted(hash_item(item) for item in ids[::10]), np.uint64)
    write_masks(tmp_path / "masks", 1, hashes, lookup, [len(ids)])
    assert (tmp_path / "masks").stat().st_size <= len(ids) / 8 + 200
