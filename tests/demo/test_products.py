"""A shop of any kind that the batch takes becomes two days of a catalogue, and pictures with names."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import quote

import pytest

from local_stack.demo.shop.products import catalogue_lines, picture_server, pictures, product_ids, read_shop, two_days
from local_stack.processes import ProgramFailed

ITEMS = [f"chairs/{number:02}" for number in range(40)]


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """Folders of pictures."""
    (tmp_path / "shop" / "chairs").mkdir(parents=True)
    for item in ITEMS:
        (tmp_path / "shop" / f"{item}.jpg").write_bytes(item.encode())
    return tmp_path / "shop"


def test_folders_a_csv_and_a_list_of_them_are_the_same_shop(shop: Path, tmp_path: Path) -> None:
    rows = [{"id": item, "category": "chairs", "picture": f"{item}.jpg"} for item in ITEMS]
    found = [read_shop(str(shop), tmp_path)]
    (shop / "a.csv").write_text("id,category,picture\n" + "".join(",".join(row.values()) + "\n" for row in rows))
    found.append(read_shop(str(shop / "a.csv"), tmp_path))
    (shop / "catalogue.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    found.append(read_shop(str(shop), tmp_path))
    assert found[0] == [row | {"picture": f"{shop}/{row['picture']}", "name": ""} for row in rows]
    assert found[1:] == found[:1] * 2


def test_a_shop_with_a_wrong_row_is_shown_a_right_one(shop: Path, tmp_path: Path) -> None:
    (shop / "catalogue.jsonl").write_text("chairs, oak")
    with pytest.raises(ProgramFailed, match=r"status 65: .*catalogue\.jsonl:1: not JSON .*a line is such as"):
        read_shop(str(shop), tmp_path)


def test_from_one_day_to_the_next_a_twentieth_goes_and_as_many_come(shop: Path, tmp_path: Path) -> None:
    products = read_shop(str(shop), tmp_path)
    yesterday, today = two_days(products, tmp_path / "days")
    assert set(product_ids(yesterday)) - set(product_ids(today)) == {"chairs/00", "chairs/20"}
    assert set(product_ids(today)) - set(product_ids(yesterday)) == {"chairs/01", "chairs/21"}
    assert catalogue_lines(today)[0] == products[1]


def test_a_picture_that_several_products_share_is_one_and_new_only_where_none_had_it(
    shop: Path, tmp_path: Path
) -> None:
    products = read_shop(str(shop), tmp_path)
    Path(products[1]["picture"]).write_bytes(b"chairs/07")
    products[21]["picture"] = "https://shop.example/21.jpg"
    yesterday, today = two_days(products, tmp_path / "days")
    assert pictures(today) - pictures(yesterday) == {"https://shop.example/21.jpg"}


def test_pictures_are_served_by_id_from_wherever_they_lie_and_names_beside_them(shop: Path, tmp_path: Path) -> None:
    products = read_shop(str(shop), tmp_path)
    products[1]["name"] = "Oak chair"
    with picture_server(products) as url:
        with urllib.request.urlopen(f"{url}/pictures/{quote('chairs/07', safe='')}") as answer:
            assert (answer.read(), answer.headers["content-type"]) == (b"chairs/07", "image/jpeg")
        products[2]["picture"] = f"{url}/pictures/chairs%2F03"
        with urllib.request.urlopen(f"{url}/pictures/chairs%2F02") as answer:
            assert answer.read() == b"chairs/03"
        with urllib.request.urlopen(f"{url}/names.json") as answer:
            assert json.load(answer) == {"chairs/01": "Oak chair"}
            assert answer.headers["access-control-allow-origin"] == "*"
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"{url}/pictures/..%2F..%2Fetc%2Fpasswd")
