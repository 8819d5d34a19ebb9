"""The whole run, on real pictures: what it leaves in the bucket, and when it must not commit."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from embedding_batch.errors import ItemsDropped, NameTaken, RecallTooLow, TooManyBroken
from embedding_batch.events import Progress, StepEnded, Warned
from embedding_batch.method import Method
from embedding_batch.steps.build.tuning import Tuned, tune
from embedding_batch.steps.guards import Limits
from model_repository.documents.files import check_files
from model_repository.documents.index_manifest import Engine
from model_repository.documents.items.item_ids import ItemIds, ItemLookup
from model_repository.errors import BuildIncomplete, DocumentMalformed
from model_repository.names import IndexPrefix
from model_repository.repository import read_build, read_live_commit
from model_repository.telemetry.log import Log
from search_server.build import open_and_prove
from tests.embedding_batch.conftest import B1, B2, CHAIRS, PRODUCTS, TARGET, items_of, pull
from tests.pictures import embed_here

if TYPE_CHECKING:
    from tests.embedding_batch.conftest import Shop


def but_for_speed(objects: dict[str, bytes]) -> dict[str, bytes]:
    """What is served, and the embeddings, without what is never measured the same twice."""
    return {
        name: re.sub(rb'"queries_per_second": [0-9.e+]+', b"", data)
        for name, data in objects.items()
        if name.startswith(("indexes/", "models/", "features/", "commits/"))
    }


def nothing_is_live(shop: Shop, prefix: IndexPrefix = B1) -> bool:
    """Whether there is no build, no model and no commit."""
    names = shop.store.bytes_by_name
    documents = {prefix.manifest, TARGET.commit_name} | {name for name in names if name.endswith("/model.json")}
    return not documents & names.keys()


def test_a_first_run_publishes_a_whole_build_and_commits_it(shop: Shop) -> None:
    report = shop.batch()
    manifest = shop.manifest()
    assert report["index_prefix"] == str(manifest.prefix) == str(B1)
    check_files(str(B1), manifest.files, shop.store.listing(str(B1)))
    (model,) = manifest.models
    check_files(str(model.prefix), model.files, shop.store.listing(str(model.prefix)))
    live = read_live_commit(shop.store, TARGET)
    assert live.commit.index_prefix == B1
    assert (report["outcome"], report["generation"]) == ("committed", live.generation)
    assert (report["items"], report["embedded"], report["reused"], report["broken"]) == (15, 15, 0, [])


def test_every_item_is_found_in_exactly_one_partition_which_is_its_category(shop: Shop) -> None:
    shop.batch()
    manifest = shop.manifest()
    assert [(partition.category, partition.items) for partition in manifest.partitions] == [
        ("Bathroom", 1),
        ("Bedroom", 4),
        ("Lights", 4),
        ("Living room", 6),
    ]
    lookup = ItemLookup(shop.store.read(f"{B1}/{manifest.lookup}", limit=2**20).data, "lookup")
    for number, partition in enumerate(manifest.partitions):
        ids = ItemIds(shop.store.read(f"{B1}/{partition.ids}", limit=2**20).data, "ids")
        assert [(number, position) in lookup.find(item) for position, item in enumerate(ids)] == [True] * len(ids)


def test_index_json_is_the_last_object_of_a_build_and_only_records_the_commit_and_the_report_follow(
    shop: Shop,
) -> None:
    shop.batch()
    names = [name for name, _ in shop.store.writes]
    assert names[names.index(B1.manifest) + 1 :] == [
        "shards/shop/b1/publish.json",
        "shards/shop/b1/diff.json",
        TARGET.commit_name,
        "shards/shop/b1/commit.json",
        "reports/shop/b1.html",
        "reports/shop/b1.json",
    ]
    model_json = next(name for name in names if name.endswith("/model.json"))
    of_the_model = [name for name in names if name.startswith("models/")]
    assert of_the_model[-1] == model_json


def test_what_is_served_is_never_written_without_a_generation_precondition(shop: Shop) -> None:
    shop.batch("b1")
    shop.batch("b2")
    first, second = (condition for name, condition in shop.store.writes if name == TARGET.commit_name)
    assert first == 0
    assert second
    others = {condition for name, condition in shop.store.writes if name.startswith(("indexes/", "models/"))}
    assert others == {0}


def test_the_same_inputs_give_the_same_bytes(new_shop: Callable[[], Shop]) -> None:
    one, other = new_shop(), new_shop()
    other.sells(reversed(tuple(json.loads(line)["id"] for line in (one.folder / "catalogue.jsonl").open())))
    one.batch(workers=1)
    other.batch(workers=3)
    assert but_for_speed(one.store.bytes_by_name) == but_for_speed(other.store.bytes_by_name)


def test_a_second_run_embeds_only_what_is_new(shop: Shop) -> None:
    shop.batch("b1")
    shop.sells(
        (*CHAIRS[1:], "lamp-1", "lamp-2", "lamp-3", "lamp-4", "bed-1", "bed-2", "bed-3", "bed-4", "deer", "rock-1")
    )
    report = shop.batch("b2")
    assert (report["embedded"], report["reused"]) == (2, 13)
    assert (report["came"], report["went"]) == (2, 2)
    assert items_of(shop, B2) == items_of(shop, B1) - {"chair-1", "washbasin-1"} | {"deer", "rock-1"}
    assert read_live_commit(shop.store, TARGET).commit.index_prefix == B2


def test_an_embedding_from_the_cache_gives_the_same_build_as_a_fresh_one(new_shop: Callable[[], Shop]) -> None:
    grown, fresh = new_shop(), new_shop()
    grown.sells(CHAIRS)
    grown.batch("b0")
    grown.sells((*CHAIRS, "deer", "bed-1"))
    fresh.sells((*CHAIRS, "deer", "bed-1"))
    assert grown.batch("b1")["embedded"] == 2
    assert fresh.batch("b1")["embedded"] == 8
    of_build = [{n: d for n, d in s.store.bytes_by_name.items() if n.startswith(f"{B1}/p")} for s in (grown, fresh)]
    assert of_build[0] == of_build[1] != {}


def test_a_picture_that_changed_under_its_name_is_embedded_again(shop: Shop) -> None:
    shop.batch("b1")
    (shop.folder / "chair-1.jpg").write_bytes((shop.folder / "bed-1.jpg").read_bytes())
    report = shop.batch("b2")
    assert (report["embedded"], report["changed"]) == (0, 1)  # as a bed's picture it was known
    changed = (shop.folder / "chair-2.jpg").read_bytes() + b"a tail that decoders skip"
    (shop.folder / "chair-2.jpg").write_bytes(changed)
    assert shop.batch("b3")["embedded"] == 1


def test_a_broken_photo_is_reported_by_name_and_skipped(shop: Shop) -> None:
    (shop.folder / "chair-3.jpg").write_bytes(b"\xff\xd8 no picture")
    (shop.folder / "bed-1.jpg").unlink()
    report = shop.batch(limits=Limits(most_broken=0.2))
    assert [one["id"] for one in report["broken"]] == ["bed-1", "chair-3"]
    warnings = [event.message for event in shop.events if isinstance(event, Warned)]
    assert [message.split(":")[0] for message in warnings] == ["bed-1", "chair-3"]
    assert "bed-1.jpg" in warnings[0]
    assert not items_of(shop, B1) & {"bed-1", "chair-3"}


def test_two_items_with_one_broken_picture_are_both_reported(shop: Shop) -> None:
    for product in ("chair-3", "chair-4"):
        (shop.folder / f"{product}.jpg").write_bytes(b"no picture")
    report = shop.batch(limits=Limits(most_broken=0.2))
    assert [one["id"] for one in report["broken"]] == ["chair-3", "chair-4"]


def test_a_picture_that_stays_broken_is_reported_each_time_and_once_mended_is_back(shop: Shop) -> None:
    (shop.folder / "chair-3.jpg").write_bytes(b"no picture")
    for build in ("b1", "b2"):
        report = shop.batch(build, limits=Limits(most_broken=0.2))
        assert [one["id"] for one in report["broken"]] == ["chair-3"]
    shop.sells(PRODUCTS)
    assert shop.batch("b3")["broken"] == []
    assert "chair-3" in items_of(shop, IndexPrefix("shop", "b3"))


def test_more_broken_photos_than_allowed_stop_the_run_before_anything_of_a_build_is_written(shop: Shop) -> None:
    (shop.folder / "chair-3.jpg").write_bytes(b"no picture")
    with pytest.raises(TooManyBroken, match="chair-3"):
        shop.batch()
    assert not [name for name, _ in shop.store.writes if name.startswith(("indexes/", "models/", "commits/"))]


def test_recall_below_the_threshold_stops_the_run_before_there_is_a_build(shop: Shop) -> None:
    with pytest.raises(RecallTooLow):
        shop.batch(limits=Limits(least_recall=1.01))
    assert nothing_is_live(shop)


def test_a_catalogue_that_lost_many_items_is_not_committed(shop: Shop) -> None:
    shop.batch("b1")
    shop.sells(CHAIRS)
    with pytest.raises(ItemsDropped, match="6 items"):
        shop.batch("b2")
    assert read_live_commit(shop.store, TARGET).commit.index_prefix == B1
    assert shop.store.stat(B2.manifest) is None
    shop.batch("b3", limits=Limits(most_dropped=0.6))
    assert read_live_commit(shop.store, TARGET).commit.index_prefix == IndexPrefix("shop", "b3")


@pytest.mark.parametrize(
    "picture",
    [
        "a.jpg?itok=x",
        " (1).jpg",
        "椅子 №1.jpg",
        "Screenshot 9.00\u202fAM.png",
        "line\u2028break.jpg",
        "b/" * 249 + "a.j",
    ],
)
def test_a_picture_may_be_called_what_a_shop_calls_it(shop: Shop, picture: str, tmp_path: Path) -> None:
    path = shop.folder / picture
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes((shop.folder / "chair-1.jpg").read_bytes())
    item = {"id": picture[:1] * 500, "category": picture[:1] * 100, "file": picture}
    (shop.folder / "catalogue.jsonl").write_text(json.dumps(item, ensure_ascii=False), encoding="utf-8")
    shop.batch("b1")
    manifest = shop.manifest()
    pull(shop, manifest, tmp_path / "pod")
    index, (model,) = open_and_prove(tmp_path / "pod", B1, read_build(shop.store, B1).digest, embed_here, Log())
    assert [index.listed(None, None, 9), len(model.manifest.golden_images)] == [[(item["id"], item["category"])], 1]
    assert shop.batch("b2")["generation"] == read_live_commit(shop.store, TARGET).generation


@pytest.mark.parametrize("document", ["index.json", "model.json", "a file's name"])
def test_what_its_own_reader_would_not_take_is_not_even_begun_to_be_uploaded(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, document: str
) -> None:
    if document == "index.json":
        monkeypatch.setattr("embedding_batch.steps.build.checking.METRIC", "manhattan")
    elif document == "model.json":
        monkeypatch.setattr("embedding_batch.steps.publish.models.RUNTIME", "torch")
    else:
        monkeypatch.setattr("embedding_batch.steps.publish.models.MODEL_FILE", "../model.onnx")
    with pytest.raises(DocumentMalformed):
        shop.batch()
    begun = {name.split("/")[0] for name, _ in shop.store.writes}
    assert not begun & ({"indexes", "models", "commits"} if document == "index.json" else {"models", "commits"})
    assert shop.store.stat(B1.manifest) is None


def test_a_build_that_is_done_is_never_made_again(shop: Shop) -> None:
    shop.batch("b1")
    before = shop.store.bytes_by_name
    shop.sells((*CHAIRS, "lamp-1", "lamp-2", "lamp-3", "lamp-4", "bed-1", "bed-2", "bed-3", "deer"))
    with pytest.raises(NameTaken, match="indexes/shop/b1: this build is done already"):
        shop.batch("b1")
    assert shop.store.bytes_by_name == before


def test_a_build_that_was_begun_with_other_options_is_not_gone_on_with_and_they_are_named(shop: Shop) -> None:
    shop.store.breaks_after = 8
    with pytest.raises(KeyboardInterrupt):
        shop.batch(options={"trees": 5, "seed": 1, "by": "ann"})
    shop.store.breaks_after = None
    with pytest.raises(NameTaken, match=r"shards/shop/b1/plan\.json: .*\(by, trees\)"):
        shop.batch(options={"trees": 6, "seed": 1, "by": "bob"})
    assert nothing_is_live(shop)
    shop.batch(options={"trees": 5, "seed": 1, "by": "ann"})


def test_other_bytes_under_the_name_of_a_build_are_never_replaced(shop: Shop) -> None:
    shop.store.write(B1.manifest, b"{}", if_generation_match=0)
    with pytest.raises((NameTaken, DocumentMalformed)):
        shop.batch("b1")
    assert shop.store.read(B1.manifest, limit=9).data == b"{}"
    assert shop.store.stat(TARGET.commit_name) is None


def test_a_model_that_lost_a_file_is_not_built_upon(shop: Shop) -> None:
    shop.batch("b1")
    shop.store.delete(f"{shop.manifest().models[0].prefix}/model.onnx")
    with pytest.raises(BuildIncomplete, match=r"model\.onnx"):
        shop.batch("b2")


def test_every_step_tells_how_far_it_is_and_when_it_ends(shop: Shop) -> None:
    report = shop.batch(shard_pictures=8)
    ended = [event.step for event in shop.events if isinstance(event, StepEnded)]
    shards = ["fetch", "embed"] * 2
    assert ended == ["list", "model", "changes", *shards, "collect", "build", "publish", "diff", "commit"]
    assert list(report["seconds"]) == ["list", "fetch", "embed", "collect", "build", "publish", "diff", "commit"]
    for step, total in (("fetch", 15), ("embed", 15), ("build", 4)):
        told = [event for event in shop.events if isinstance(event, Progress) and event.step == step]
        assert (told[0].done, told[-1].done, {event.total for event in told}) == (0, total, {total})
        assert [event.done for event in told] == sorted(event.done for event in told)


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
