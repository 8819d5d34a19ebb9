"""The catalogue that the repository ships."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path

from PIL import Image

from embedding_batch.sources import read_catalogue


def column(home_store: Path, name: str) -> list[str]:
    return [value for batch in read_catalogue(str(home_store)) for value in batch.column(name).to_pylist()]


def test_every_product_has_its_picture_and_every_picture_its_product(home_store: Path) -> None:
    pictures = [Path(picture) for picture in column(home_store, "picture")]
    assert len(pictures) == 770
    assert set(pictures) == set((home_store / "images").iterdir())
    assert len({hashlib.sha256(picture.read_bytes()).digest() for picture in pictures}) == 770


def test_categories_are_ten_and_none_is_tiny(home_store: Path) -> None:
    sizes = Counter(column(home_store, "category"))
    assert len(sizes) == 10
    assert min(sizes.values()) >= 28


def test_every_product_names_its_creator_and_a_licence_that_lets_us_ship_it(home_store: Path) -> None:
    products = [json.loads(line) for line in (home_store / "catalogue.jsonl").open()]
    assert Counter(product["licence"] for product in products) == {
        "CC-BY-3.0": 511,
        "CC-BY-3.0-US": 88,
        "CC0-1.0": 171,
    }
    assert all(product["creator"] and product["source"] for product in products)


def test_the_licence_page_credits_every_work_that_asks_for_it(home_store: Path) -> None:
    page = (home_store / "LICENCES.md").read_text()
    for product in map(json.loads, (home_store / "catalogue.jsonl").open()):
        if product["source"].startswith("Blend Swap"):
            assert f"| {product['id']} | {product['creator']}" in page
    for licence in ("licenses/by/3.0/)", "licenses/by/3.0/us/)", "publicdomain/zero/1.0/)"):
        assert licence in page


def test_pictures_are_small_and_square(home_store: Path) -> None:
    for path in (home_store / "images").iterdir():
        with Image.open(path) as picture:
            assert (picture.format, picture.mode, picture.size) == ("JPEG", "RGB", (128, 128))
