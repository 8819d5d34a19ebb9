"""A photo of a room with some products of the catalogue in it: what a person who searches would take."""

from __future__ import annotations

import io
import random
from collections.abc import Sequence
from typing import Final

from PIL import Image, ImageChops, ImageDraw, ImageFilter

SIDE: Final = 600
"""Pixels of a room's picture."""
PLACES: Final = 4
"""Most products in a room: each has a quarter of it."""

_WALL: Final = (228, 224, 216)
_MARK: Final = (255, 0, 255)
_WHITE: Final = 24
"""Further from white than this, in all channels together, is the product."""

Colour = tuple[int, int, int]


def photo_of(pictures: Sequence[bytes], *, seed: int = 1, busy: bool = False) -> bytes:
    """Return a JPEG of a room of SIDE x SIDE pixels with products in it, the same for the same seed.

    pictures: the products' in the catalogue, encoded, on white; PLACES at most. Each is cut out, scaled and laid into a
    quarter of its own, some mirrored. busy: the room has stripes, pictures on the wall and a floor of boards.
    """
    rng = random.Random(seed)  # noqa: S311 - a room, no secret
    room = _busy_room(rng) if busy else Image.new("RGB", (SIDE, SIDE), _WALL)
    half = SIDE // 2
    quarters = [(0, 0), (half, 0), (0, half), (half, half)]
    rng.shuffle(quarters)
    if len(pictures) > len(quarters):
        raise ValueError(f"{len(pictures)} products: a room has {PLACES} places")
    for data, (left, top) in zip(pictures, quarters, strict=False):
        side = rng.randint(SIDE * 3 // 8, half)
        spare = half - side
        product, mask = _cut_out(data, side)
        if rng.randrange(2):
            product, mask = (one.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for one in (product, mask))
        room.paste(product, (left + rng.randint(0, spare), top + rng.randint(0, spare)), mask)
    stream = io.BytesIO()
    room.save(stream, "JPEG", quality=90)
    return stream.getvalue()


def _cut_out(data: bytes, side: int) -> tuple[Image.Image, Image.Image]:
    """A product's picture, and where it isn't the white that reaches in from its corners."""
    with Image.open(io.BytesIO(data)) as opened:
        picture = opened.convert("RGB")
    marked = picture.copy()
    right, bottom = picture.width - 1, picture.height - 1
    for corner in ((0, 0), (right, 0), (0, bottom), (right, bottom)):
        ImageDraw.floodfill(marked, corner, _MARK, thresh=_WHITE)
    red, green, blue = ImageChops.difference(marked, Image.new("RGB", marked.size, _MARK)).split()
    is_product = ImageChops.lighter(ImageChops.lighter(red, green), blue).point([0] + [255] * 255)
    mask = is_product.filter(ImageFilter.GaussianBlur(0.7))
    return picture.resize((side, side), Image.Resampling.BICUBIC), mask.resize((side, side), Image.Resampling.BICUBIC)


def _busy_room(rng: random.Random) -> Image.Image:
    room = Image.new("RGB", (SIDE, SIDE), _colour(rng))
    draw = ImageDraw.Draw(room)
    stripe, step = _colour(rng), rng.randint(14, 40)
    for at in range(0, SIDE, step):
        draw.line([(at, 0), (at, SIDE)], stripe, step // 3)
    for _ in range(6):
        x, y = rng.randint(0, SIDE), rng.randint(0, SIDE // 2)
        box = (x, y, x + rng.randint(30, 140), y + rng.randint(30, 140))
        draw.rectangle(box, _colour(rng), _colour(rng), 5)
    floor = SIDE * 5 // 8
    draw.rectangle((0, floor, SIDE, SIDE), _colour(rng))
    joint = _colour(rng)
    for at in range(floor, SIDE, 22):
        draw.line([(0, at), (SIDE, at)], joint, 2)
    return room


def _colour(rng: random.Random) -> Colour:
    return rng.randint(60, 240), rng.randint(60, 240), rng.randint(60, 240)
