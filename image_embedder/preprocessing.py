"""From the bytes of a picture to what a model takes in.

Pictures come from strangers, so what they cost is bounded before they are decoded, and every way in which a decoder
fails on them is one error.
"""

from __future__ import annotations

import io
import math
from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from model_repository.documents.model_manifest import Layout, ModelInput, PixelType, Resize
from model_repository.errors import PermanentError

PREPROCESSING: Final = "1"
"""Names what `preprocess` does. It changes when any picture's result does: embeddings from before are stale then."""

FORMATS: Final = ("JPEG", "PNG", "WEBP", "GIF")
"""What shops and browsers send. Pillow knows forty more, each with a decoder that somebody might find a hole in."""

PIXELS_LIMIT: Final = 50_000_000
"""Most pixels of a picture: any phone's, and at most 200 MB once decoded."""


Pixels = NDArray[np.float32] | NDArray[np.uint8]


class PictureUnreadable(PermanentError):
    """The bytes are no picture of a known format, are damaged, or would decode to too many pixels."""

    code: ClassVar[str] = "picture-unreadable"


def preprocess(data: bytes, wanted: ModelInput) -> Pixels:
    """Return a picture as a model wants it: float32 or uint8, [3,S,S] or [S,S,3], S = wanted.size, RGB.

    data: an encoded JPEG, PNG, WebP or GIF (its first frame). It is turned upright as its EXIF data says, laid on white
    where it is transparent, and made square (see `Resize`).

    Raises PictureUnreadable.
    """
    try:
        upright = _decode(data, wanted.size)
    except (PictureUnreadable, MemoryError):
        raise
    except UnidentifiedImageError as error:  # its own text names an object in memory, which tells nobody anything
        raise PictureUnreadable(
            f"the picture can't be decoded: it is no {', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
        ) from error
    except Exception as error:  # Pillow's decoders raise a dozen kinds for bad bytes, with no common base
        raise PictureUnreadable(f"the picture can't be decoded: {str(error) or type(error).__name__}") from error
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


def _decode(data: bytes, input_size: int) -> Image.Image:
    with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
        if picture.width * picture.height > PIXELS_LIMIT:
            raise PictureUnreadable(
                f"the picture has {picture.width} x {picture.height} pixels, at most {PIXELS_LIMIT} are read; "
                "send a smaller one"
            )
        # A JPEG can be decoded at 1/2, 1/4 or 1/8 of its size in a fraction of the time; other formats ignore this.
        picture.draft("RGB", (2 * input_size, 2 * input_size))
        picture.load()
        return _on_white(ImageOps.exif_transpose(picture))


def _on_white(picture: Image.Image) -> Image.Image:
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    rgba = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")


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
