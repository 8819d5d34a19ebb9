"""From the bytes of a picture to what a model takes in."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from image_embedder.decoding import decode
from model_repository.documents.model_manifest import Layout, ModelInput, PixelType, Resize

PREPROCESSING: Final = "1"
"""Names what `preprocess` does. It changes when an ordinary picture's result does: embeddings of before are stale then.

What had been read wrongly may change without that (1: grey of 16 bits was white)."""

Pixels = NDArray[np.float32] | NDArray[np.uint8]


def preprocess(data: bytes, wanted: ModelInput) -> Pixels:
    """Return a picture as a model wants it: float32 or uint8, [3,S,S] or [S,S,3], S = wanted.size, RGB.

    data: an encoded JPEG, PNG, WebP or GIF (its first frame). It is turned upright as its EXIF data says, laid on white
    where it is transparent, and made square (see `Resize`). Raises PictureUnreadable (see `decode`).
    """
    return preprocess_decoded(decode(data, 2 * wanted.size), wanted)


def preprocess_decoded(upright: Image.Image, wanted: ModelInput) -> Pixels:
    """Return a picture that is decoded already, or a part of one, as `preprocess` does."""
    pixels = np.asarray(_square(upright, wanted.resize, wanted.size))
    if wanted.layout is Layout.NCHW:
        pixels = pixels.transpose(2, 0, 1)
    if wanted.dtype is PixelType.UINT8:
        return np.ascontiguousarray(pixels)
    values = pixels.astype(np.float32, order="C")
    if not wanted.as_they_are:
        shape = (3, 1, 1) if wanted.layout is Layout.NCHW else (3,)
        values -= np.array(wanted.mean, np.float32).reshape(shape)
        values /= np.array(wanted.std, np.float32).reshape(shape)
    return values


def preprocessed_shape(wanted: ModelInput) -> tuple[int, int, int]:
    """Return the shape of what `preprocess` makes."""
    edge = wanted.size
    return (3, edge, edge) if wanted.layout is Layout.NCHW else (edge, edge, 3)


@dataclass(frozen=True, slots=True)
class Placement:
    """How a picture becomes a square: the box of it that is resized, to which size, and where that is laid on white.

    box: left, top, right, bottom, in the picture's pixels, with parts of them. size, corner: in the square's.
    """

    box: tuple[float, float, float, float]
    size: tuple[int, int]
    corner: tuple[int, int]


def placement(width: int, height: int, resize: Resize, edge: int) -> Placement:
    """Return how a picture of so many pixels becomes a square of edge x edge.

    Resize.AREA: the square's edge stands for the geometric mean of width and height. So of a photo that isn't square as
    much is cut off along as white is added across. Measured on photos simulated from 770 products (3:4 to 16:9 with the
    product anywhere, and cut tightly around it; on white and on colours): it finds the product again first in 96.5 % of
    the photos, the middle square alone in 95.2 %, padding alone in 94.5 %, squashing in 94.5 %. Of a square picture
    nothing is lost by any of them.
    """
    if resize is Resize.SQUARE:
        return Placement((0, 0, width, height), (edge, edge), (0, 0))
    of_edge = {Resize.AREA: math.sqrt(width * height), Resize.CROP: min(width, height), Resize.PAD: max(width, height)}
    across = min(width, of_edge[resize]), min(height, of_edge[resize])
    left, top = (width - across[0]) / 2, (height - across[1]) / 2
    size = max(1, round(edge * across[0] / of_edge[resize])), max(1, round(edge * across[1] / of_edge[resize]))
    whole = round if resize is Resize.PAD else math.floor  # as Pillow's own `ImageOps.pad` does
    corner = whole((edge - size[0]) / 2), whole((edge - size[1]) / 2)
    return Placement((left, top, left + across[0], top + across[1]), size, corner)


_REDUCING_GAPS: Final = {Resize.AREA: 3.0, Resize.SQUARE: 3.0, Resize.CROP: None, Resize.PAD: None}


def _square(picture: Image.Image, resize: Resize, edge: int) -> Image.Image:
    placed = placement(*picture.size, resize, edge)
    resized = picture.resize(placed.size, Image.Resampling.BICUBIC, box=placed.box, reducing_gap=_REDUCING_GAPS[resize])
    if resized.size == (edge, edge):
        return resized
    square = Image.new("RGB", (edge, edge), "white")
    square.paste(resized, placed.corner)
    return square
