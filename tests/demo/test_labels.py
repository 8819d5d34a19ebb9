"""What a product's name says of its kind."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from local_stack.demo.shop.labels import KINDS, kind_of, kinds


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("Chair", "chair"),
        ("Chair with cushion", "chair"),
        ("Armchair ottoman", "chair"),
        ("Sofa 2 seats", "sofa"),
        ("Opened convertible sofa BZ", "sofa"),
        ("Piano bench", "bench"),
        ("Plate, glass and cutlery", None),
        ("Glasses", None),
        ("Table fan", None),
        ("Table on trestles", "table"),
        ("Double French window small panes", "window"),
        ("Window blind", None),
        ("Wheelchair", None),
        ("Socket", None),
        ("Wall socket", "plug"),
        ("Rounded type C plug", "plug"),
        ("Deer", None),
    ],
)
def test_the_head_noun_tells(name: str, kind: str | None) -> None:
    assert kind_of(name) == kind


def test_in_the_home_store_every_kind_has_several_products(home_store: Path) -> None:
    lines = (home_store / "catalogue.jsonl").read_text(encoding="utf-8").splitlines()
    found = kinds(json.loads(line) for line in lines)
    assert len(found) == 341
    assert min(Counter(found.values()).values()) >= 3
    assert set(found.values()) == set(KINDS)
