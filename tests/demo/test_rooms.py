"""A photo of a room, composed of the catalogue's products."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from local_stack.demo.shop.rooms import SIDE, photo_of

IMAGES = Path("local_stack/demo/home_store/images")


def pictures(*items: str) -> list[bytes]:
    return [(IMAGES / f"{item}.jpg").read_bytes() for item in items]


def test_the_same_room_is_the_same_bytes_and_another_is_not() -> None:
    three = pictures("chair-1", "desk-1", "coffee-mug")
    assert photo_of(three) == photo_of(three)
    assert len({photo_of(three), photo_of(three, seed=2), photo_of(three, busy=True), photo_of(three[:2])}) == 4


def test_products_stand_before_the_wall_without_their_white() -> None:
    room = Image.open(io.BytesIO(photo_of(pictures("chair-1", "desk-1", "coffee-mug")))).convert("RGB")
    assert room.size == (SIDE, SIDE)
    pixels = np.asarray(room, np.int16)
    is_wall = (np.abs(pixels - (228, 224, 216)) < 6).all(axis=2)
    assert 0.5 < is_wall.mean() < 0.95
    for corner in (is_wall[0, 0], is_wall[0, -1], is_wall[-1, 0], is_wall[-1, -1]):
        assert corner


def test_a_room_has_four_places() -> None:
    with pytest.raises(ValueError, match="5 products: a room has 4 places"):
        photo_of(pictures(*["chair-1"] * 5))
