"""The catalogue that the repository ships, and the script that made it."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from embedding_batch.sources import read_catalogue
from tools import make_home_store as script


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


def library(path: Path, entries: str, licences: dict[str, str]) -> None:
    icon = io.BytesIO()
    Image.new("RGBA", (200, 100), (255, 0, 0, 0)).save(icon, "PNG")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("PluginFurnitureCatalog.properties", entries.encode("latin-1"))
        archive.writestr("i.png", icon.getvalue())
        for name, text in licences.items():
            archive.writestr(name, text)


def entry(number: int, name: str, category: str = "Office", source: str = "X#y") -> str:
    fields = {"id": source, "name": name, "category": category, "creator": "Ann", "icon": "/i.png"}
    fields["model"] = f"/m{number}/m.obj"
    return "".join(f"{key}#{number}={value}\n" for key, value in fields.items())


def test_the_script_gives_the_same_bytes_each_time_and_believes_the_stricter_licence(tmp_path: Path) -> None:
    for one in script.LIBRARIES:
        library(tmp_path / one.file, "", {})
    entries = entry(1, "Hôi An chair") + entry(2, "Chair") + entry(3, "Chair") + entry(4, "Ann", "Characters")
    by = {"m2/BLENDSWAP_LICENSE.txt": 'downloading "Oak" by ann\nReleased under\nCreative Commons Attribution 3.0'}
    library(tmp_path / "BlendSwap-CC-0.sh3f", entries, by)
    for folder in ("one", "two"):
        script.make(tmp_path, tmp_path / folder)
    one, two = (
        {str(path.relative_to(tmp_path / folder)): path.read_bytes() for path in (tmp_path / folder).rglob("*.*")}
        for folder in ("one", "two")
    )
    assert one == two
    products = [json.loads(line) for line in one["catalogue.jsonl"].splitlines()]
    assert [(product["id"], product["licence"]) for product in products] == [
        ("chair-1", "CC-BY-3.0"),
        ("chair-2", "CC0-1.0"),
        ("hoi-an-chair", "CC0-1.0"),
    ]


def test_a_transparent_picture_is_laid_in_the_middle_of_a_white_square() -> None:
    square = script.on_white(Image.new("RGBA", (200, 100), (0, 0, 0, 255)))
    assert square.size == (128, 128)
    assert square.getpixel((64, 64)) == (0, 0, 0)
    assert square.getpixel((64, 20)) == square.getpixel((64, 108)) == (255, 255, 255)


def test_a_licence_nobody_has_read_stops_the_script() -> None:
    with pytest.raises(ValueError, match="no known licence"):
        script.parse_licence_file("Creative Commons Attribution-NonCommercial 4.0")
