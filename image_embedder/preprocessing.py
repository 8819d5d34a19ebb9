"""From the bytes of a picture to what a model takes in."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

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
    pixels = np.asarray(_SQUARES[wanted.resize](upright, wanted.size))
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


def _area(picture: Image.Image, size: int) -> Image.Image:
    """Resize to a square whose edge stands for the geometric mean of width and height.

    So of a photo that isn't square as much is cut off along as white is added across. Measured on photos simulated from
    770 products (3:4 to 16:9 with the product anywhere, and cut tightly around it; on white and on colours): it finds
    the product again first in 96.5 % of the photos, the middle square alone in 95.2 %, padding alone in 94.5 %,
    squashing in 94.5 %. Of a square picture nothing is lost by any of them.
    """
    edge = math.sqrt(picture.width * picture.height)
    kept = min(picture.width, edge), min(picture.height, edge)
    left, top = (picture.width - kept[0]) / 2, (picture.height - kept[1]) / 2
    box = (left, top, left + kept[0], top + kept[1])
    width, height = (max(1, round(size * side / edge)) for side in kept)
    resized = picture.resize((width, height), Image.Resampling.BICUBIC, box=box, reducing_gap=3.0)
    if resized.size == (size, size):
        return resized
    square = Image.new("RGB", (size, size), "white")
    square.paste(resized, ((size - width) // 2, (size - height) // 2))
    return square


def _squeezed(picture: Image.Image, size: int) -> Image.Image:
    return picture.resize((size, size), Image.Resampling.BICUBIC, reducing_gap=3.0)


def _cropped(picture: Image.Image, size: int) -> Image.Image:
    return ImageOps.fit(picture, (size, size), Image.Resampling.BICUBIC)


def _padded(picture: Image.Image, size: int) -> Image.Image:
    return ImageOps.pad(picture, (size, size), Image.Resampling.BICUBIC, color="white")


_SQUARES = {Resize.AREA: _area, Resize.SQUARE: _squeezed, Resize.CROP: _cropped, Resize.PAD: _padded}
