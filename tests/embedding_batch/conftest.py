"""A small shop with real pictures, and a bucket that remembers in which order it was written to."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from embedding_batch.batch import run
from embedding_batch.config import Config
from embedding_batch.events import Event, StepEnded
from embedding_batch.method import Method
from model_repository.bucket.store import ObjectInfo
from model_repository.documents.index_manifest import IndexManifest
from model_repository.documents.items.item_ids import ItemIds
from model_repository.names import IndexPrefix, Target
from model_repository.repository import read_build
from tests.conftest import HOME_STORE
from tests.embedding_batch.picture_host import PictureHost, hosting
from tests.memory_store import MemoryStore

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
TARGET = Target("production", "shop")
B1, B2 = IndexPrefix("shop", "b1"), IndexPrefix("shop", "b2")
CHAIRS = tuple(f"chair-{number}" for number in range(1, 7))
PRODUCTS = (
    *CHAIRS,
    *(f"lamp-{number}" for number in range(1, 5)),
    *(f"bed-{number}" for number in range(1, 5)),
    "washbasin-1",
)
"""Four categories, one of them with a single item."""


def lines(text: str) -> list[dict[str, object]]:
    """The JSON objects that a program printed, one a line."""
    return [json.loads(line) for line in text.splitlines()]


class RecordingStore(MemoryStore):
    """A bucket that remembers its writes, and stops answering after some."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[tuple[str, int | None]] = []
        self.breaks_after: int | None = None

    def write(self, name: str, data: bytes, *, if_generation_match: int | None) -> ObjectInfo:
        if self.breaks_after is not None and len(self.writes) >= self.breaks_after:
            raise KeyboardInterrupt
        info = super().write(name, data, if_generation_match=if_generation_match)
        self.writes.append((name, if_generation_match))
        return info

    @property
    def bytes_by_name(self) -> dict[str, bytes]:
        return {info.name: self.read(info.name, limit=2**30).data for info in self.listing("")}


@dataclass
class Shop:
    """A catalogue folder, a bucket, and a batch between them."""

    folder: Path
    config: Config
    store: RecordingStore
    events: list[Event] = field(default_factory=list)

    def sells(self, products: Iterable[str]) -> None:
        """Write the catalogue anew, with pictures and categories of the home store."""
        known = {line["id"]: line for line in map(json.loads, (HOME_STORE / "catalogue.jsonl").open())}
        lines = []
        for product in products:
            shutil.copy(HOME_STORE / known[product]["file"], self.folder / f"{product}.jpg")
            lines.append({"id": product, "category": known[product]["category"], "file": f"{product}.jpg"})
        (self.folder / "catalogue.jsonl").write_text("\n".join(map(json.dumps, lines)))

    def batch(self, build: str = "b1", **changes: object) -> dict[str, Any]:
        config = replace(self.config, prefix=IndexPrefix(self.config.target.index, build), **changes)
        return run(config, self.store, NOW, self.events.append)

    @property
    def last_detail(self) -> str:
        """What the step that ended last said."""
        return [event.detail for event in self.events if isinstance(event, StepEnded)][-1]

    def manifest(self, build: str = "b1") -> IndexManifest:
        return read_build(self.store, IndexPrefix(self.config.target.index, build)).manifest


def items_of(shop: Shop, prefix: IndexPrefix) -> set[str]:
    manifest = read_build(shop.store, prefix).manifest
    files = (shop.store.read(f"{prefix}/{partition.ids}", limit=2**20).data for partition in manifest.partitions)
    return {item for data in files for item in ItemIds(data, "ids")}


def pull(shop: Shop, manifest: IndexManifest, folder: Path) -> None:
    """What the puller does for a pod."""
    models = [model.prefix for model in manifest.models]
    for name, prefix in (("index", manifest.prefix), *((str(model), model) for model in models)):
        for stored in shop.store.listing(f"{prefix}/"):
            path = folder / name / stored.name.removeprefix(f"{prefix}/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(shop.store.read(stored.name, limit=2**30).data)


@pytest.fixture
def new_shop(tmp_path: Path, cache: Path) -> Callable[[], Shop]:
    """Makes shops that sell PRODUCTS; each with its own bucket, all with one cache of models."""

    def make() -> Shop:
        folder = tmp_path / f"shop-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        own = folder / "cache"
        own.mkdir()
        (cache / "models").mkdir(exist_ok=True)
        (own / "models").symlink_to(cache / "models")
        config = Config(
            repository="gs://memory",
            catalogue=str(folder),
            target=TARGET,
            prefix=B1,
            cache=own,
            method=Method(trees=5),
            workers=2,
            exact_items=0,  # else no category of these few would have files, and an engine, of its own
        )
        shop = Shop(folder, config, RecordingStore())
        shop.sells(PRODUCTS)
        return shop

    return make


@pytest.fixture
def shop(new_shop: Callable[[], Shop]) -> Shop:
    return new_shop()


@pytest.fixture
def host() -> Iterator[PictureHost]:
    """A host with pictures."""
    with hosting() as running:
        yield running
