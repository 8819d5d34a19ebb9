"""What the steps know from run to run: which pictures are looked at, who is broken, and how categories are divided."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest

from embedding_batch.errors import NameTaken
from embedding_batch.method import Method
from embedding_batch.pictures.politeness import Politeness
from embedding_batch.steps.build.tuning import Tuned, tune
from embedding_batch.steps.guards import Limits
from model_repository.documents.index_manifest import Engine
from model_repository.errors import DeliveryError
from model_repository.names import IndexPrefix
from model_repository.repository import read_build
from model_repository.telemetry.log import Log
from search_server.build import open_and_prove
from tests.embedding_batch.picture_host import PictureHost, hosting, status
from tests.pictures import embed_here

if TYPE_CHECKING:
    from tests.embedding_batch.conftest import Shop

CHAIRS = tuple(f"chair-{number}" for number in range(1, 7))


def record(shop: Shop, step: str, build: str = "b1") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(shop.store.read(f"shards/shop/{build}/{step}.json", limit=2**20).data)
    return found


def items(shop: Shop, build: str = "b1") -> dict[str, dict[str, Any]]:
    shop.store.download(f"catalogues/shop/{build}.parquet", shop.folder / "items.parquet")
    return {row["id"]: row for row in pq.read_table(shop.folder / "items.parquet").to_pylist()}


def steps_left(shop: Shop, build: str) -> set[str]:
    names = (info.name.rpartition("/")[2] for info in shop.store.listing(f"shards/shop/{build}/"))
    return {name for name in names if name.endswith(".json")}


def test_what_came_went_and_changed_is_told(shop: Shop) -> None:
    shop.sells((*CHAIRS, "lamp-1", "bed-1"))
    first = shop.batch("b1")
    assert (first["came"], first["went"], first["changed"]) == (8, 0, 0)
    shop.sells((*CHAIRS, "lamp-1", "lamp-2", "lamp-3"))
    lines = (shop.folder / "catalogue.jsonl").read_text().replace('"lamp-1.jpg"', '"lamp-2.jpg"')
    (shop.folder / "catalogue.jsonl").write_text(lines)
    for product in CHAIRS:  # copied anew, they have another time
        os.utime(shop.folder / f"{product}.jpg", ns=(1, 1))
    second = shop.batch("b2")
    assert (second["came"], second["went"], second["changed"]) == (2, 1, 7)


def test_no_picture_is_opened_whose_size_and_time_are_unchanged(shop: Shop) -> None:
    shop.batch("b1")
    for product in CHAIRS:
        path = shop.folder / f"{product}.jpg"
        stood = path.stat()
        path.write_bytes(b"?" * stood.st_size)
        os.utime(path, ns=(stood.st_atime_ns, stood.st_mtime_ns))
    second = shop.batch("b2")
    assert (second["embedded"], second["broken"], record(shop, "list", "b2")["pictures"]) == (0, [], 0)


def test_a_picture_that_only_moved_is_looked_at_and_not_embedded_again(shop: Shop) -> None:
    shop.batch("b1")
    os.utime(shop.folder / "chair-1.jpg", ns=(1, 1))
    assert shop.batch("b2")["embedded"] == 0
    assert record(shop, "fetch-00000", "b2")["fetched"] == 1


def test_a_shard_has_so_many_pictures_and_each_once(shop: Shop) -> None:
    lines = [json.dumps({"id": f"i{n}", "category": "c", "file": f"chair-{n % 5 + 1}.jpg"}) for n in range(20)]
    (shop.folder / "catalogue.jsonl").write_text("\n".join(lines))
    summary = shop.batch(shard_pictures=2)
    assert (summary["items"], summary["embedded"]) == (20, 5)
    assert record(shop, "list")["shards"] == 3


def test_a_run_begins_with_what_a_dead_one_had_found_out(shop: Shop) -> None:
    write = shop.store.write

    def die(name: str, data: bytes, *, if_generation_match: int | None) -> Any:
        if name.endswith("/embed-00002.json"):
            raise KeyboardInterrupt
        return write(name, data, if_generation_match=if_generation_match)

    shop.store.write = die  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        shop.batch("dead", shard_pictures=4)
    shop.store.write = write  # type: ignore[method-assign]
    summary = shop.batch("b1", shard_pictures=4)
    assert summary["embedded"] == 3
    assert record(shop, "fetch-00000")["fetched"] == 3


def test_a_run_that_died_goes_on_under_its_name(shop: Shop) -> None:
    shop.store.breaks_after = 20
    with pytest.raises(KeyboardInterrupt):
        shop.batch("b1", shard_pictures=4)
    done = steps_left(shop, "b1")
    assert {"plan.json", "list.json"} < done
    shop.store.breaks_after = None
    before = len(shop.store.writes)
    assert shop.batch("b1", shard_pictures=4)["outcome"] == "committed"
    again = {name.rpartition("/")[2] for name, _ in shop.store.writes[before:]}
    assert not again & done


def test_a_run_of_other_options_does_not_go_on_with_it(shop: Shop) -> None:
    shop.batch("b1", options={"trees": 5}, commits=False)
    with pytest.raises(NameTaken, match=r"shards/shop/b1/plan\.json.*\(trees\)"):
        shop.batch("b1", options={"trees": 6})


def test_a_build_that_is_done_is_not_made_again_under_its_name(shop: Shop) -> None:
    shop.batch("b1")
    with pytest.raises(NameTaken, match="indexes/shop/b1: this build is done"):
        shop.batch("b1")


def test_a_large_category_has_several_partitions_which_a_server_searches_as_one(shop: Shop, tmp_path: Path) -> None:
    shop.batch(part_items=4)
    manifest = shop.manifest()
    assert [(one.category, one.items) for one in manifest.partitions if one.category == "Living room"] == [
        ("Living room", 3),
        ("Living room", 3),
    ]
    for name, prefix in (("index", manifest.prefix), *((str(one.prefix), one.prefix) for one in manifest.models)):
        for stored in shop.store.listing(f"{prefix}/"):
            path = tmp_path / "pod" / name / stored.name.removeprefix(f"{prefix}/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(shop.store.read(stored.name, limit=2**30).data)
    digest = read_build(shop.store, manifest.prefix).digest
    index, _ = open_and_prove(tmp_path / "pod", IndexPrefix("shop", "b1"), digest, embed_here, Log())
    listed = index.listed("Living room", None, 100)
    assert sorted(item for item, _ in listed) == sorted(CHAIRS)


def test_the_width_is_looked_for_near_that_of_the_build_that_serves(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    near: list[int] = []

    def spy(*given: Any, **asked: Any) -> Tuned:
        near.append(asked["near"])
        return tune(*given, **asked)

    monkeypatch.setattr("embedding_batch.steps.build.checking.tune", spy)
    shop.batch("b1")
    first = {one.category: one.width for one in shop.manifest().partitions}
    assert set(near) == {0}
    near.clear()
    shop.batch("b2")
    assert sorted(near) == sorted(first.values())
    near.clear()
    shop.batch("b3", method=Method(Engine.FAISS_HNSW))  # says nothing of another engine
    assert set(near) == {0}


def test_the_report_is_a_document_and_a_page_without_anybody_s_markup(shop: Shop) -> None:
    lines = (shop.folder / "catalogue.jsonl").read_text().replace('"chair-3", "cat', '"<b>chair-3</b>", "cat')
    (shop.folder / "catalogue.jsonl").write_text(lines)
    (shop.folder / "chair-3.jpg").write_bytes(b"no picture")
    summary = shop.batch(limits=Limits(most_broken=0.2))
    assert json.loads(shop.store.read("reports/shop/b1.json", limit=2**20).data) == summary
    assert list(summary["seconds"]) == ["list", "fetch", "embed", "collect", "build", "publish", "diff", "commit"]
    page = shop.store.read("reports/shop/b1.html", limit=2**20).data.decode()
    assert "&lt;b&gt;chair-3&lt;/b&gt;" in page
    assert "<b>" not in page
    assert "no picture" not in page or "can&#39;t be decoded" in page


def test_a_run_that_is_stopped_leaves_a_report_that_says_why(shop: Shop) -> None:
    (shop.folder / "chair-3.jpg").write_bytes(b"no picture")
    with pytest.raises(DeliveryError):
        shop.batch()
    said = json.loads(shop.store.read("reports/shop/b1.json", limit=2**20).data)
    (error,) = said["errors"]
    assert (said["outcome"], error["code"]) == ("failed", "too-many-broken")
    assert "chair-3" in error["message"]


POLITE = Politeness(requests_a_second=1000, tries=1, longest_pause=0.1)


@pytest.fixture
def host(shop: Shop) -> Iterator[PictureHost]:
    """A host with the shop's pictures, which the catalogue names by their URLs."""
    with hosting() as running:
        running.body = lambda path: (shop.folder / Path(path).name).read_bytes()
        lines = [json.loads(line) for line in (shop.folder / "catalogue.jsonl").open()]
        urls = [{"id": one["id"], "category": one["category"], "picture": running.url(one["file"])} for one in lines]
        (shop.folder / "catalogue.jsonl").write_text("\n".join(map(json.dumps, urls)))
        yield running


def test_pictures_from_the_web_are_kept_in_the_bucket_once_and_not_asked_for_while_fresh(
    shop: Shop, host: PictureHost
) -> None:
    assert shop.batch("b1", politeness=POLITE)["embedded"] == 15
    kept = [info.name for info in shop.store.listing("pictures/")]
    assert kept == sorted(f"pictures/{row['sha256'].hex()}" for row in items(shop).values())
    asked = len(host.arrivals)
    assert shop.batch("b2", politeness=POLITE)["embedded"] == 0
    assert len(host.arrivals) == asked


def test_what_is_no_longer_fresh_is_asked_for_by_its_etag_and_moves_no_bytes(shop: Shop, host: PictureHost) -> None:
    shop.batch("b1", politeness=POLITE)
    sent, asked = host.body_bytes, len(host.arrivals)
    second = shop.batch("b2", politeness=POLITE, fresh_seconds=-1)
    assert (second["items"], second["embedded"], host.body_bytes) == (15, 0, sent)
    assert len(host.arrivals) >= asked + 15
    assert items(shop, "b2")["chair-1"]["looked"] >= items(shop, "b1")["chair-1"]["looked"]


def test_a_picture_that_is_not_to_be_had_now_counts_as_it_was_and_one_that_is_gone_goes(
    shop: Shop, host: PictureHost
) -> None:
    shop.batch("b1", politeness=POLITE)
    host.always |= {"chair-1.jpg": status(503), "chair-2.jpg": status(404)}
    second = shop.batch("b2", politeness=POLITE, fresh_seconds=-1, limits=Limits(most_broken=0.1))
    assert (second["not_asked_again"], [one["id"] for one in second["broken"]]) == (1, ["chair-2"])
    assert second["items"] == 14
    host.always.clear()
    assert shop.batch("b3", politeness=POLITE, fresh_seconds=-1)["items"] == 15
