"""What people and programs read of a run."""

from __future__ import annotations

import errno
import json
import os
from datetime import datetime
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import pytest

from embedding_batch.errors import TooManyBroken, WorkersDied
from embedding_batch.steps.guards import Limits
from model_repository.bucket.store import ObjectInfo
from model_repository.errors import BucketUnavailable
from model_repository.names import IndexPrefix
from notify.event import Reported
from notify.look import read_report
from notify.statements import Report
from notify.subject import Subject
from tests.embedding_batch.one_step import do

if TYPE_CHECKING:
    from tests.embedding_batch.conftest import Shop

EVIL = "<script>alert('&')</script>"


def written(shop: Shop, build: str = "b1") -> tuple[dict[str, Any], str]:
    """The report and its page, as they stand in the bucket."""
    data, page = (shop.store.read(f"reports/shop/{build}.{kind}", limit=2**20).data for kind in ("json", "html"))
    return json.loads(data), page.decode()


def test_a_report_says_what_was_found_made_and_took_how_long(shop: Shop) -> None:
    returned = shop.batch()
    report, page = written(shop)
    assert report == returned
    assert (report["index_prefix"], report["environment"], report["outcome"]) == (
        "indexes/shop/b1",
        "production",
        "committed",
    )
    assert report["created"].startswith("2026-11-21T12:00:00")
    assert (report["items"], report["came"], report["embedded"], report["reused"]) == (15, 15, 15, 0)
    assert {one["category"]: one["items"] for one in report["partitions"]} == {
        "Bathroom": 1,
        "Bedroom": 4,
        "Lights": 4,
        "Living room": 6,
    }
    for one in report["partitions"]:
        assert one["recall"] == 1
        assert one["queries_per_second"] > 0
        assert one["category"] in page
    assert set(report["seconds"]) == {"list", "fetch", "embed", "collect", "build", "publish", "diff", "commit"}
    assert str(report["models"][0]) in page
    assert report["errors"] == []


def test_a_run_that_failed_has_a_report_with_its_error_and_what_was_done_until_then(shop: Shop) -> None:
    (shop.folder / "chair-3.jpg").write_bytes(b"no picture")
    with pytest.raises(TooManyBroken):
        shop.batch()
    report, page = written(shop)
    (error,) = report["errors"]
    assert (report["outcome"], report["generation"]) == ("failed", None)
    assert (error["step"], error["number"], error["code"]) == ("collect", None, "too-many-broken")
    assert "chair-3" in error["message"]
    assert read_report(shop.store, Reported(IndexPrefix("shop", "b1"))) == (
        Subject(report["environment"], "shop"),
        Report(
            IndexPrefix("shop", "b1"),
            "failed",
            datetime.fromisoformat(report["created"]),
            (("too-many-broken", error["message"]),),
        ),
    )
    assert (report["items"], report["embedded"], list(report["seconds"])) == (15, 14, ["list", "fetch", "embed"])
    assert "Step collect: <strong>too-many-broken</strong>" in page


def test_a_failed_run_s_report_is_replaced_when_it_goes_on_and_ends_well(shop: Shop) -> None:
    write = shop.store.write

    def fail(name: str, data: bytes, *, if_generation_match: int | None) -> ObjectInfo:
        if name.endswith("/index.json"):
            raise BucketUnavailable("no answer")
        return write(name, data, if_generation_match=if_generation_match)

    shop.store.write = fail  # type: ignore[method-assign]
    with pytest.raises(BucketUnavailable):
        shop.batch()
    assert written(shop)[0]["outcome"] == "failed"
    shop.store.write = write  # type: ignore[method-assign]
    shop.batch()
    report, _ = written(shop)
    assert (report["outcome"], report["errors"]) == ("committed", [])


def test_what_stops_the_report_too_does_not_hide_what_stopped_the_run(shop: Shop) -> None:
    write = shop.store.write

    def fail(name: str, data: bytes, *, if_generation_match: int | None) -> ObjectInfo:
        if name.endswith("/index.json") or name.startswith("reports/"):
            raise BucketUnavailable(f"no answer for {name}")
        return write(name, data, if_generation_match=if_generation_match)

    shop.store.write = fail  # type: ignore[method-assign]
    with pytest.raises(BucketUnavailable, match=r"no answer for indexes/shop/b1/index\.json"):
        shop.batch()


def test_a_run_that_a_full_disk_or_a_defect_stopped_has_a_report_too(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    for build, error, code in (
        ("b1", OSError(errno.ENOSPC, "No space left on device", "/cache"), "disk-trouble"),
        ("b2", ZeroDivisionError("x"), "defect"),
    ):
        monkeypatch.setattr("embedding_batch.steps.build.indexing.build_part", Mock(side_effect=error))
        with pytest.raises(type(error)):
            shop.batch(build)
        report, _ = written(shop, build)
        assert report["outcome"] == "failed"
        assert {(one["step"], one["code"]) for one in report["errors"]} == {("build", code)}
        assert {one["number"] for one in report["errors"]} <= set(range(4))


def test_a_name_that_is_no_text_is_told_in_the_report_too(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    error = OSError(errno.EIO, "Input/output error", os.fsdecode(b"/cache/\xff"))
    monkeypatch.setattr("embedding_batch.steps.collecting.collect", Mock(side_effect=error))
    with pytest.raises(OSError, match="Input/output"):
        shop.batch()
    report, page = written(shop)
    assert report["errors"][0]["message"] == r"/cache/\udcff: Input/output error; make room, or try again"
    assert r"/cache/\udcff" in page


def test_what_stops_a_run_between_its_steps_is_in_its_report(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embedding_batch.batch._side_by_side", Mock(side_effect=BucketUnavailable("no answer")))
    with pytest.raises(BucketUnavailable):
        shop.batch()
    report, page = written(shop)
    assert report["errors"] == [
        {"step": None, "number": None, "code": "bucket-unavailable", "message": "no answer"},
    ]
    assert "<strong>bucket-unavailable</strong>: no answer" in page


@pytest.mark.parametrize("breaks", [False, True], ids=["", "where-nothing-can-be-written"])
def test_the_report_of_steps_run_alone_says_which_one_stopped_and_why_until_it_is_done(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, *, breaks: bool
) -> None:
    do(shop, "list", shard_pictures=8)
    do(shop, "fetch", 0, shard_pictures=8)
    do(shop, "fetch", 1, shard_pictures=8)
    do(shop, "embed", 0, shard_pictures=8)
    write = shop.store.write

    def fail(name: str, data: bytes, *, if_generation_match: int | None) -> ObjectInfo:
        if breaks and "/failed/" in name:
            raise ZeroDivisionError(name)
        return write(name, data, if_generation_match=if_generation_match)

    with monkeypatch.context() as broken:
        broken.setattr(shop.store, "write", fail)
        died = Mock(side_effect=[WorkersDied("killed once"), WorkersDied("killed <again>")])
        broken.setattr("embedding_batch.steps.embedding.embed_shard", died)
        for _ in range(2):
            with pytest.raises(WorkersDied):
                do(shop, "embed", 1, shard_pictures=8)
    report = do(shop, "report", shard_pictures=8)
    (stored, page) = written(shop)
    assert stored == report
    if breaks:
        assert (report["outcome"], report["errors"]) == ("unfinished", [])
        return
    assert report["outcome"] == "failed"
    assert report["errors"] == [
        {"step": "embed", "number": 1, "code": "workers-died", "message": "killed <again>"},
    ]
    assert "Step embed 1: <strong>workers-died</strong>: killed &lt;again&gt;" in page
    do(shop, "embed", 1, shard_pictures=8)
    report = do(shop, "report", shard_pictures=8)
    assert (report["outcome"], report["errors"]) == ("unfinished", [])


def test_several_shards_that_failed_are_all_named_in_their_order(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    do(shop, "list", shard_pictures=4)
    with monkeypatch.context() as broken:
        broken.setattr("embedding_batch.steps.fetching.fetch_shard", Mock(side_effect=lambda _, number: [][number]))
        for number in (3, 0, 1):
            with pytest.raises(IndexError):
                do(shop, "fetch", number, shard_pictures=4)
    do(shop, "fetch", 1, shard_pictures=4)
    report = do(shop, "report", shard_pictures=4)
    assert [(one["step"], one["number"]) for one in report["errors"]] == [("fetch", 0), ("fetch", 3)]


def test_names_from_the_catalogue_are_text_on_the_page_and_nothing_else(shop: Shop) -> None:
    lines = [
        {"id": "a", "category": EVIL, "file": "chair-1.jpg"},
        {"id": EVIL, "category": "c", "file": f"{EVIL.replace('/', '')}.jpg"},
    ]
    (shop.folder / "catalogue.jsonl").write_text("\n".join(map(json.dumps, lines)))
    report = shop.batch(limits=Limits(most_broken=0.5))
    _, page = written(shop)
    assert report["broken"][0]["id"] == EVIL
    assert "<script" not in page
    assert page.count("&lt;script&gt;alert(&#39;&amp;&#39;)&lt;/script&gt;") == 2


def test_a_thousand_broken_items_are_named_and_all_are_counted(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embedding_batch.steps.collecting._NAMED", 3)
    lines = [{"id": f"gone-{number}", "category": "c", "file": f"{number}.jpg"} for number in range(5)]
    lines.append({"id": "there", "category": "c", "file": "chair-1.jpg"})
    (shop.folder / "catalogue.jsonl").write_text("\n".join(map(json.dumps, lines)))
    report = shop.batch(limits=Limits(most_broken=1))
    assert [one["id"] for one in report["broken"]] == ["gone-0", "gone-1", "gone-2"]
    assert report["items"] == 1
    record = json.loads(shop.store.read("shards/shop/b1/collect.json", limit=2**20).data)
    assert record["broken"] == 5
