"""The list with all that was found out, and the parts that its categories are built in."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from embedding_batch.errors import CatalogueMalformed
from embedding_batch.state.tables import read_table
from embedding_batch.steps.guards import Limits

if TYPE_CHECKING:
    from pathlib import Path

    from tests.embedding_batch.conftest import Shop


def test_more_parts_than_an_index_may_have_are_refused_before_a_picture_is_looked_at(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embedding_batch.steps.build.parts.MOST_PARTS", 7)
    with pytest.raises(CatalogueMalformed, match=r"8 parts, an index may have 7; .*--part-items"):
        shop.batch("b1", part_items=2)
    assert not [one.name for one in shop.store.listing("shards/shop/b1/") if "shard-" in one.name]
    monkeypatch.setattr("embedding_batch.steps.build.parts.MOST_PARTS", 8)
    shop.batch("b1", part_items=2)
    assert len(shop.manifest("b1").partitions) == 8


def test_the_list_of_a_run_holds_each_item_with_what_is_known_of_its_picture(shop: Shop, tmp_path: Path) -> None:
    (shop.folder / "bed-1.jpg").write_bytes(b"no picture")
    lines = [json.loads(line) for line in (shop.folder / "catalogue.jsonl").open()]
    lines[0] |= {"tags": ["new", "sale"], "version": "7"}
    (shop.folder / "catalogue.jsonl").write_text("\n".join(map(json.dumps, lines)))
    shop.batch(limits=Limits(most_broken=0.1))
    items = {row["id"]: row for row in read_table(shop.store, "catalogues/shop/b1.parquet", tmp_path).to_pylist()}
    assert len(items) == 15
    assert (items["chair-1"]["tags"], items["chair-1"]["version"]) == (["new", "sale"], "7")
    of_a_file = (shop.folder / "chair-2.jpg").stat()
    assert items["chair-2"]["version"] == f"{of_a_file.st_size}-{of_a_file.st_mtime_ns}"
    assert [item for item, row in items.items() if row["reason"]] == ["bed-1"]
    assert all(len(row["sha256"]) == 32 and row["looked"] > 0 for row in items.values())


def test_a_category_whose_pictures_are_all_broken_has_no_partition(shop: Shop) -> None:
    (shop.folder / "washbasin-1.jpg").unlink()
    shop.batch(limits=Limits(most_broken=0.1))
    assert [one.category for one in shop.manifest().partitions] == ["Bedroom", "Lights", "Living room"]
