"""Somebody's own vectors become an index that needs no model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from embedding_batch.errors import CatalogueMalformed, ItemsDropped
from embedding_batch.events import Warned
from embedding_batch.main import main
from embedding_batch.method import Method
from model_repository.bucket.gcs_store import GcsStore
from model_repository.documents.index_manifest import Engine, Storage
from model_repository.names import IndexPrefix, Target
from model_repository.repository import read_build, read_live_commit
from model_repository.telemetry.log import Log
from search_server.build import open_and_prove
from tests.embedding_batch.conftest import pull
from tests.embedding_batch.test_vectors import parquet
from tests.pictures import embed_here

if TYPE_CHECKING:
    from tests.embedding_batch.conftest import Shop


B1 = IndexPrefix("shop", "b1")


def products(path: Path, count: int) -> str:
    vectors = np.random.default_rng(1).normal(size=(count, 8))
    return str(parquet(path, [(f"p{n:03}", f"c{n % 3}", list(vector)) for n, vector in enumerate(vectors)]))


def test_vectors_become_an_index_without_a_model_that_a_server_proves_and_that_is_committed(
    shop: Shop, tmp_path: Path
) -> None:
    report = shop.batch(vectors=products(tmp_path / "a.parquet", 90))
    manifest = shop.manifest()
    assert (manifest.models, manifest.items, report["items"], report["embedded"]) == ((), 90, 90, 0)
    assert (report["outcome"], report["models"], list(report["seconds"])) == (
        "committed",
        [],
        ["list", "collect", "build", "publish", "diff", "commit"],
    )
    assert {partition.model for partition in manifest.partitions} == {None}
    assert read_live_commit(shop.store, Target("production", "shop")).commit.index_prefix == B1
    for stored in shop.store.listing(f"{B1}/"):
        path = tmp_path / "pod/index" / stored.name.removeprefix(f"{B1}/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(shop.store.read(stored.name, limit=2**30).data)
    index, models = open_and_prove(tmp_path / "pod", B1, read_build(shop.store, B1).digest, embed_here, Log())
    assert (len(index.listed(None, None, 100)), models) == (90, ())


def test_a_category_that_only_options_name_is_told(shop: Shop, tmp_path: Path) -> None:
    told = "no item is of the category 'c7', which --model, --engine, --storage or --region names"
    for pictures in ({}, {"vectors": products(tmp_path / "a.parquet", 90)}):
        shop.events.clear()
        named = (
            "c7",
            "c0" if pictures else json.loads((shop.folder / "catalogue.jsonl").open().readline())["category"],
        )
        shop.batch("b2" if pictures else "b1", methods=dict.fromkeys(named, Method()), commits=False, **pictures)
        assert [event.message for event in shop.events if isinstance(event, Warned)] == [told]


def test_vectors_of_a_large_category_become_several_partitions_that_a_server_answers_from_as_one(
    shop: Shop, tmp_path: Path
) -> None:
    shop.batch(vectors=products(tmp_path / "a.parquet", 90), part_items=12)
    sizes = [(one.category, one.items) for one in shop.manifest().partitions]
    assert sizes == [("c0", 10)] * 3 + [("c1", 10)] * 3 + [("c2", 10)] * 3
    pull(shop, shop.manifest(), tmp_path / "pod")
    index, _ = open_and_prove(tmp_path / "pod", B1, read_build(shop.store, B1).digest, embed_here, Log())
    assert len(index.listed("c1", None, 100)) == 30


def test_more_parts_of_vectors_than_an_index_may_have_are_refused_before_one_is_built(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embedding_batch.steps.build.parts.MOST_PARTS", 8)
    with pytest.raises(CatalogueMalformed, match=r"9 parts, an index may have 8; .*--part-items"):
        shop.batch(vectors=products(tmp_path / "a.parquet", 90), part_items=12)
    assert not shop.store.listing(f"{B1}/")


def test_a_run_of_vectors_that_died_goes_on_with_what_the_vectors_are_now(shop: Shop, tmp_path: Path) -> None:
    where = products(tmp_path / "a.parquet", 90)
    shop.store.breaks_after = 6
    with pytest.raises(KeyboardInterrupt):
        shop.batch(vectors=where)
    assert shop.store.stat(B1.manifest) is None
    shop.store.breaks_after = None
    assert shop.batch(vectors=where)["items"] == shop.manifest().items == 90


def test_far_fewer_vectors_than_serve_are_not_committed(shop: Shop, tmp_path: Path) -> None:
    shop.batch(vectors=products(tmp_path / "a.parquet", 90))
    with pytest.raises(ItemsDropped, match="50 items, the committed one 90"):
        shop.batch("b2", vectors=products(tmp_path / "a.parquet", 50))
    report = json.loads(shop.store.read("reports/shop/b2.json", limit=2**20).data)
    assert [(one["step"], one["code"]) for one in report["errors"]] == [("list", "items-dropped")]


def test_the_word_index_runs_it_with_vectors_that_lie_in_a_bucket(
    tmp_path: Path, new_bucket: Callable[[], str], capfd: pytest.CaptureFixture[str]
) -> None:
    bucket = new_bucket()
    products(tmp_path / "a.parquet", 90)
    GcsStore(bucket).upload("out/a.parquet", tmp_path / "a.parquet", if_generation_match=0)
    arguments = ["index", "--vectors", f"gs://{bucket}/out/*.parquet", "--index", "shop", "--environment", "test"]
    arguments += ["--engine", "c1=faiss-hnsw", "--storage", "c1=int8", "--cache", str(tmp_path / "cache")]
    assert main(arguments, {"MODEL_REPOSITORY": f"gs://{bucket}"}) == 0, capfd.readouterr().err
    summary = json.loads(capfd.readouterr().out)
    assert (summary["outcome"], summary["models"], summary["items"]) == ("committed", [], 90)
    manifest = read_build(GcsStore(bucket), IndexPrefix.parse(summary["index_prefix"])).manifest
    assert {(one.category, one.engine, one.storage) for one in manifest.partitions} == {
        ("c0", Engine.EXACT, Storage.FLOAT32),  # so few
        ("c1", Engine.FAISS_HNSW, Storage.INT8),
        ("c2", Engine.EXACT, Storage.FLOAT32),
    }
