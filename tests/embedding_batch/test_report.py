"""What people and programs read of a run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from embedding_batch.errors import TooManyBroken
from embedding_batch.steps.guards import Limits
from model_repository.errors import BucketUnavailable
from model_repository.store import ObjectInfo

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
    assert set(report["seconds"]) == {"list", "fetch", "embed", "collect", "build", "publish", "commit"}
    assert str(report["models"][0]) in page
    assert "error" not in report


def test_a_run_that_failed_has_a_report_with_its_error_and_what_was_done_until_then(shop: Shop) -> None:
    (shop.folder / "chair-3.jpg").write_bytes(b"no picture")
    with pytest.raises(TooManyBroken):
        shop.batch()
    report, page = written(shop)
    assert (report["outcome"], report["generation"], report["error"]["code"]) == ("failed", None, "too-many-broken")
    assert "chair-3" in report["error"]["message"]
    assert (report["items"], report["embedded"], list(report["seconds"])) == (15, 14, ["list", "fetch", "embed"])
    assert "too-many-broken" in page


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
    assert (report["outcome"], "error" in report) == ("committed", False)


def test_what_stops_the_report_too_does_not_hide_what_stopped_the_run(shop: Shop) -> None:
    write = shop.store.write

    def fail(name: str, data: bytes, *, if_generation_match: int | None) -> ObjectInfo:
        if name.endswith("/index.json") or name.startswith("reports/"):
            raise BucketUnavailable(f"no answer for {name}")
        return write(name, data, if_generation_match=if_generation_match)

    shop.store.write = fail  # type: ignore[method-assign]
    with pytest.raises(BucketUnavailable, match=r"no answer for indexes/shop/b1/index\.json"):
        shop.batch()


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
