"""From the bytes of a picture to the RGB that a person sees.

Pictures come from strangers, so what they cost is bounded before they are decoded, and every way in which a decoder
fails on them is one error. What a decoder costs that no head says is bounded by its process: see `confinement.py`.
"""

from __future__ import annotations

import io
import warnings
from typing import Final

from PIL import Image, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

from image_embedder.colours import opaque_rgb
from image_embedder.metadata import jpeg_scans, webp_size, without_metadata
from model_repository.errors import PermanentError
from model_repository.resources.pictures import DECODED_BYTES_LIMIT, PIXELS_LIMIT, SCANNED_PIXELS_LIMIT, SIDE_LIMIT

_MIB: Final = 1024 * 1024

FORMATS: Final = ("JPEG", "PNG", "WEBP", "GIF")
"""What shops and browsers send. Pillow knows forty more, each with a decoder that somebody might find a hole in."""

_BYTES_A_PIXEL: Final = {"1": 1, "L": 1, "P": 1, "I;16": 2}
"""Of a picture in memory, by Pillow's mode; of any other 4."""

_RGB_BYTES: Final = 4

_COEFFICIENT_BYTES: Final = 2
"""A JPEG's decoder keeps one for each pixel and component until the last scan, however small the result is."""

_WEBP_BYTES: Final = 12
"""WebP's decoder has two canvases, for animations, and the picture once more."""

_ORIENTATION: Final = 0x0112
_TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class PictureUnreadable(PermanentError, code="picture-unreadable"):
    """The bytes are no picture of a known format, are damaged, or would cost too much to decode."""


def decode(data: bytes, shortest: int) -> Image.Image:
    """Return an encoded picture (the first, where there are several) upright, as RGB, on white where it is transparent.

    A JPEG may come smaller than it is, as long as no side is shorter than `shortest`. Nothing that a picture says of
    itself (EXIF, XMP, profiles, comments) makes it unreadable. All its copies together have DECODED_BYTES_LIMIT.

    Raises PictureUnreadable, which names the limit that is passed, or says what the decoder does.
    """
    try:
        return _decode(data, shortest)
    except PictureUnreadable:
        raise
    except MemoryError:
        raise PictureUnreadable(too_much_memory("more than what is left of that")) from None
    except Exception as error:  # noqa: BLE001 - Pillow's decoders raise a dozen kinds, with no common base
        reason = _reason(error)
    try:
        bare = without_metadata(data)
        if bare is not None:
            return _decode(bare, shortest)
    except PictureUnreadable:
        raise
    except Exception:  # noqa: BLE001, S110 - what was wrong with all of it says more
        pass
    raise PictureUnreadable(f"the picture can't be decoded: {reason}")


def too_much_memory(needed: str) -> str:
    """Return the words for a picture that needs so much."""
    return (
        f"the picture needs {needed} of memory to be decoded, at most {DECODED_BYTES_LIMIT // _MIB} MiB are given; "
        "send a smaller one"
    )


def _decode(data: bytes, shortest: int) -> Image.Image:
    picture, orientation = _load(data, shortest)
    if orientation not in _TURNS:
        return picture
    _check_memory(2 * _RGB_BYTES * picture.width * picture.height)
    return picture.transpose(_TURNS[orientation])


def _load(data: bytes, shortest: int) -> tuple[Image.Image, object]:
    """Return the picture as RGB, and how it is to be turned."""
    size = webp_size(data)
    if size is not None:  # its decoder makes its canvases before it says how large they are
        _check_size(*size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a size that is checked here, and of odd metadata
        with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            _check_size(*picture.size)
            decoder = _decoder_bytes(picture, data)
            # A JPEG can be decoded at 1/2, 1/4 or 1/8 of its size in a fraction of the time; other formats ignore this.
            picture.draft("RGB", (shortest, shortest))
            plain = picture.mode == "RGB" and not picture.has_transparency_data
            pixel = _BYTES_A_PIXEL.get(picture.mode, 4) + (0 if plain else _RGB_BYTES)
            _check_memory(decoder + pixel * picture.width * picture.height)
            shortened = picture.format == "PNG" and picture.tile[0].args == "RGB;16B"
            picture.load()
            if shortened and "transparency" in picture.info:  # its colours are of 8 bits now, the transparent one of 16
                picture.info["transparency"] = tuple(level >> 8 for level in picture.info["transparency"])
            negative = picture.format == "JPEG" and picture.mode == "CMYK" and "adobe" not in picture.info
            return opaque_rgb(picture, negative=negative), _orientation(picture)


def _check_size(width: int, height: int) -> None:
    if width * height > PIXELS_LIMIT:
        raise PictureUnreadable(
            f"the picture has {width} x {height} pixels, at most {PIXELS_LIMIT} are read; send a smaller one"
        )
    if max(width, height) > SIDE_LIMIT:
        raise PictureUnreadable(
            f"the picture has {width} x {height} pixels, at most {SIDE_LIMIT} along a side are read; send a part of it"
        )


def _decoder_bytes(picture: Image.Image, data: bytes) -> int:
    """Return what the decoder needs besides the picture it gives."""
    pixels = picture.width * picture.height
    if picture.format == "WEBP":
        return _WEBP_BYTES * pixels
    if not isinstance(picture, JpegImageFile):
        return 0
    scans = jpeg_scans(data)
    if scans > 1 and scans * pixels > SCANNED_PIXELS_LIMIT:
        raise PictureUnreadable(
            f"the picture has {picture.width} x {picture.height} pixels in {scans} scans, at most "
            f"{SCANNED_PIXELS_LIMIT} in all are read; send it with fewer scans, or smaller"
        )
    return _COEFFICIENT_BYTES * picture.layers * pixels


def _check_memory(needed: int) -> None:
    if needed > DECODED_BYTES_LIMIT:
        raise PictureUnreadable(too_much_memory(f"{needed / _MIB:.0f} MiB"))


def _orientation(picture: Image.Image) -> object:
    try:
        return picture.getexif().get(_ORIENTATION)
    except Exception:  # noqa: BLE001 - whatever is wrong with it: then it doesn't say
        return None


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):  # its own text names an object in memory, which tells nobody anything
        return f"it is no {', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
    if isinstance(error, Image.DecompressionBombError):
        return f"it has far more pixels than the {PIXELS_LIMIT} that are read"
    return str(error) or type(error).__name__
