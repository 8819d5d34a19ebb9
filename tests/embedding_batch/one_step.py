"""A step of a run by itself, for tests of what it leaves."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from embedding_batch.state.folder import RunFolder
from embedding_batch.state.plan import open_plan
from embedding_batch.state.tables import read_table
from embedding_batch.step import step
from embedding_batch.steps.guards import Limits
from model_repository.names import IndexPrefix
from tests.embedding_batch.conftest import NOW

if TYPE_CHECKING:
    from tests.embedding_batch.conftest import Shop

ANY = Limits(most_broken=1, most_dropped=1)
STALE = -10.0
"""Of freshness: whatever was looked at up to now is to be looked at again."""


def do(shop: Shop, name: str, number: int | None = None, build: str = "b1", **changes: Any) -> dict[str, Any]:
    config = replace(shop.config, prefix=IndexPrefix("shop", build), **changes)
    plan = open_plan(shop.store, config, NOW)
    return step(name, number, config=config, plan=plan, store=shop.store, listener=shop.events.append)


def shard(shop: Shop, tmp_path: Path, number: int, kind: str = "shard", build: str = "b1") -> pa.Table:
    name = RunFolder(shop.store, IndexPrefix("shop", build)).table(kind, number)
    return read_table(shop.store, name, tmp_path)


def catalogue(shop: Shop, *lines: dict[str, str]) -> None:
    (shop.folder / "catalogue.jsonl").write_text("\n".join(map(json.dumps, lines)))


def category(shop: Shop, product: str) -> str:
    lines = map(json.loads, (shop.folder / "catalogue.jsonl").open())
    return next(str(line["category"]) for line in lines if line["id"] == product)
