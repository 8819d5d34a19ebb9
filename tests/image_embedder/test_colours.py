"""A picture of any mode that is read looks to a model as it does to a person."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from image_embedder.colours import opaque_rgb
from image_embedder.decoding import decode
from tests.pictures import encoded, png_chunk

GREY = Image.linear_gradient("L").resize((96, 96))
COLOURS = Image.merge("RGB", (GREY, GREY.rotate(90), GREY.rotate(180)))
ALPHA = GREY.rotate(270)


def cosine(one: Image.Image, other: Image.Image) -> float:
    """Of the pixels, about their middle grey: all white is no twin of anything."""
    a, b = (np.asarray(picture.convert("RGB"), np.float64).ravel() - 127.5 for picture in (one, other))
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def same(one: Image.Image, other: Image.Image) -> bool:
    return one.mode == other.mode == "RGB" and np.array_equal(np.asarray(one), np.asarray(other))


def on_white(picture: Image.Image, alpha: Image.Image) -> Image.Image:
    """By the definition of it, in floats."""
    share = np.asarray(alpha, np.float64)[..., np.newaxis] / 255
    mixed = np.asarray(picture.convert("RGB"), np.float64) * share + 255 * (1 - share)
    return Image.fromarray(mixed.round().astype(np.uint8))


SIXTEEN_BITS = np.asarray(GREY).astype(np.uint16) * 257


def test_grey_of_16_bits_is_its_twin_of_8_bits() -> None:
    data = encoded(Image.fromarray(SIXTEEN_BITS))
    assert Image.open(io.BytesIO(data)).mode == "I;16"
    assert same(decode(data, 96), GREY.convert("RGB"))


def test_grey_of_16_bits_may_have_a_transparent_level() -> None:
    data = encoded(Image.fromarray(SIXTEEN_BITS), transparency=100 * 257)
    expected = np.asarray(GREY.convert("RGB")).copy()
    expected[np.asarray(GREY) == 100] = 255
    assert np.array_equal(np.asarray(decode(data, 96)), expected)


@pytest.mark.parametrize(("mode", "twin"), [("RGB", 1.0), ("CMYK", 1.0), ("P", 0.95)])
def test_an_opaque_picture_is_its_twin_in_rgb(mode: str, twin: float) -> None:
    assert cosine(opaque_rgb(COLOURS.convert(mode)), COLOURS) > twin - 1e-9


@pytest.mark.parametrize("mode", ["1", "L"])
def test_a_picture_without_colours_is_grey(mode: str) -> None:
    picture = GREY.convert(mode)
    assert same(opaque_rgb(picture), Image.merge("RGB", [picture.convert("L")] * 3))


@pytest.mark.parametrize("base", [GREY, COLOURS], ids=["LA", "RGBA"])
def test_what_is_transparent_lies_on_white(base: Image.Image) -> None:
    picture = base.copy()
    picture.putalpha(ALPHA)
    found = np.asarray(opaque_rgb(picture), np.int16)
    assert np.abs(found - np.asarray(on_white(base, ALPHA), np.int16)).max() <= 1


@pytest.mark.parametrize("transparency", [7, bytes(range(0, 256, 4))])
def test_a_palette_may_say_what_is_transparent(transparency: int | bytes) -> None:
    picture = COLOURS.quantize(64)
    levels = {7: 0} if transparency == 7 else dict(enumerate(transparency))  # type: ignore[arg-type]
    alpha = picture.point([levels.get(colour, 255) for colour in range(256)], "L")
    found = np.asarray(decode(encoded(picture, transparency=transparency), 96), np.int16)
    assert np.abs(found - np.asarray(on_white(picture, alpha), np.int16)).max() <= 1


def test_colours_of_16_bits_are_their_twins_of_8_bits_with_their_transparent_one() -> None:
    levels = np.asarray(COLOURS)
    rows = b"".join(b"\0" + row.tobytes() for row in (levels.astype(">u2") * 257).astype(">u2"))
    head = struct.pack(">IIBBBBB", *COLOURS.size, 16, 2, 0, 0, 0)
    clear = tuple(int(level) for level in levels[5, 5])
    data = (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", head)
        + png_chunk(b"tRNS", struct.pack(">3H", *(level * 257 for level in clear)))
        + png_chunk(b"IDAT", zlib.compress(rows))
        + png_chunk(b"IEND", b"")
    )
    expected = levels.copy()
    expected[(levels == clear).all(axis=2)] = 255
    assert np.array_equal(np.asarray(decode(data, 96)), expected)


def segment(data: bytes, marker: int) -> slice:
    """Where a JPEG has its first segment of a marker."""
    at = 2
    while data[at + 1] != marker:
        at += 2 + int.from_bytes(data[at + 2 : at + 4])
    return slice(at, at + 2 + int.from_bytes(data[at + 2 : at + 4]))


def test_inks_are_read_as_whoever_wrote_them_meant_it() -> None:
    adobe = encoded(COLOURS.convert("CMYK"), "JPEG", quality=98, subsampling=0)
    assert cosine(decode(adobe, 96), COLOURS) > 0.99
    # Others' inks aren't turned round, and they leave out the segment by which Adobe's are known.
    turned = encoded(Image.eval(COLOURS.convert("CMYK"), lambda ink: 255 - ink), "JPEG", quality=98, subsampling=0)
    where = segment(turned, 0xEE)
    assert cosine(decode(turned[: where.start] + turned[where.stop :], 96), COLOURS) > 0.99


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_upright(form: str, orientation: int) -> None:
    picture = COLOURS.resize((96, 48))
    back = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    held = picture.transpose(back[orientation]) if orientation in back else picture
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = decode(encoded(held, form, exif=exif, quality=98), 96)
    assert found.size == picture.size
    assert cosine(found, picture) > 0.99


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP", "MPO"])
def test_of_several_pictures_the_first_is_read(form: str) -> None:
    more = [COLOURS.rotate(180), COLOURS.rotate(90)]
    data = encoded(COLOURS, form, save_all=True, append_images=more, **({} if form == "GIF" else {"quality": 98}))
    assert cosine(decode(data, 96), COLOURS) > 0.99


def test_a_conversion_in_bands_is_that_of_the_whole() -> None:
    picture = COLOURS.resize((2000, 3000))
    picture.putalpha(ALPHA.resize((2000, 3000)))
    white = Image.new("RGBA", picture.size, "white")
    assert same(opaque_rgb(picture), Image.alpha_composite(white, picture).convert("RGB"))
