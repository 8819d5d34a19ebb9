"""What a picture becomes before a model sees it."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from image_embedder import PictureUnreadable, preprocess
from model_repository.documents.model_manifest import Layout, ModelInput, PixelType, Resize

SIZE = 32
INPUT = ModelInput(SIZE)


def encoded(picture: Image.Image, form: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


def plain(width: int, height: int, colour: str) -> Image.Image:
    return Image.new("RGB", (width, height), colour)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF"])
def test_a_picture_becomes_three_planes_of_float32_from_0_to_255(form: str) -> None:
    planes = preprocess(encoded(plain(50, 50, "#ff0000"), form), INPUT)
    assert planes.shape == (3, SIZE, SIZE)
    assert planes.dtype == np.float32
    assert planes.flags.c_contiguous
    assert np.abs(planes.mean(axis=(1, 2)) - (255, 0, 0)).max() < 4


def test_the_same_bytes_give_the_same_numbers() -> None:
    data = encoded(Image.effect_noise((200, 100), 60).convert("RGB"), "JPEG")
    assert np.array_equal(preprocess(data, INPUT), preprocess(data, INPUT))


def test_transparency_is_laid_on_white() -> None:
    assert preprocess(encoded(Image.new("RGBA", (40, 40), (0, 0, 0, 0))), INPUT).min() == 255


def test_a_palette_with_a_transparent_colour_is_laid_on_white_too() -> None:
    picture = Image.new("P", (40, 40), 0)
    picture.putpalette([0, 0, 0, 255, 0, 0])
    assert preprocess(encoded(picture, transparency=0), INPUT).min() == 255


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "CMYK", "I;16"])
def test_every_mode_that_shops_send_is_read(mode: str) -> None:
    form = "JPEG" if mode == "CMYK" else "PNG"
    assert preprocess(encoded(Image.new(mode, (40, 40)), form), INPUT).shape == (3, SIZE, SIZE)


def test_a_photo_is_turned_upright_as_its_exif_data_says() -> None:
    picture = plain(40, 40, "white")
    picture.paste((0, 0, 0), (0, 0, 40, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held a quarter turned
    turned = preprocess(encoded(picture.rotate(90, expand=True), "JPEG", exif=exif, quality=95), INPUT)
    upright = preprocess(encoded(picture, "JPEG", quality=95), INPUT)
    assert np.abs(turned - upright).mean() < 4


def test_a_wide_photo_loses_as_much_along_as_it_gains_in_white_across() -> None:
    planes = preprocess(encoded(plain(400, 100, "black")), ModelInput(64))
    black = (planes[0] < 128).any(axis=1)
    assert black.sum() == 32  # sqrt(400 * 100) = 200 pixels became 64, so 100 became 32
    assert (planes[0][black] < 128).all()


def test_a_large_photo_gives_nearly_the_same_as_a_small_one() -> None:
    small = Image.linear_gradient("L").convert("RGB")
    large = small.resize((4000, 4000))
    difference = np.abs(preprocess(encoded(large, "JPEG"), INPUT) - preprocess(encoded(small, "JPEG"), INPUT))
    assert difference.max() < 6


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"GIF89a",
        b"<html>no picture</html>",
        b"\xff\xd8\xff\xe0" + bytes(100),
        encoded(Image.effect_noise((200, 200), 60), "JPEG")[:2000],
        encoded(Image.effect_noise((200, 200), 60))[:2000],
        encoded(plain(20, 20, "red"), "TIFF"),
    ],
    ids=["empty", "only a head", "a page", "zeros", "half a JPEG", "half a PNG", "a format nobody sends"],
)
def test_what_is_no_whole_picture_is_refused(data: bytes) -> None:
    with pytest.raises(PictureUnreadable) as refused:
        preprocess(data, INPUT)
    assert " object at 0x" not in str(refused.value)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_decompression_bomb_is_refused_before_it_is_decoded() -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    for side in (8_000, 12_000, 100_000):
        head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        bomb = (
            b"\x89PNG\r\n\x1a\n"
            + chunk(b"IHDR", head)
            + chunk(b"IDAT", zlib.compress(bytes(1000)))
            + chunk(b"IEND", b"")
        )
        with pytest.raises(PictureUnreadable, match="pixels"):
            preprocess(bomb, INPUT)


def test_a_line_of_pixels_is_a_picture_too() -> None:
    assert preprocess(encoded(plain(3000, 1, "black")), INPUT).shape == (3, SIZE, SIZE)


def of(kind: Resize, picture: Image.Image) -> np.ndarray:
    wanted = ModelInput(SIZE, layout=Layout.NHWC, dtype=PixelType.UINT8, resize=kind)
    return np.asarray(preprocess(encoded(picture), wanted))


def test_a_picture_becomes_a_square_as_the_model_wants_it() -> None:
    picture = plain(80, 40, "black")
    picture.paste((255, 0, 0), (0, 0, 20, 40))  # its first quarter is red
    squeezed, cropped, padded = (of(kind, picture) for kind in (Resize.SQUARE, Resize.CROP, Resize.PAD))
    assert (squeezed[16, 3].tolist(), squeezed[16, 20].tolist()) == ([255, 0, 0], [0, 0, 0])
    assert cropped[:, 2:].max() == 0  # what is left and right of the middle square is gone
    assert (padded[0, 16].tolist(), padded[16, 3].tolist()) == ([255, 255, 255], [255, 0, 0])


@pytest.mark.parametrize("layout", Layout)
@pytest.mark.parametrize("dtype", PixelType)
def test_layout_and_type_are_those_of_the_model(layout: Layout, dtype: PixelType) -> None:
    pixels = preprocess(encoded(plain(40, 40, "#0080ff")), ModelInput(SIZE, layout=layout, dtype=dtype))
    assert pixels.dtype == np.dtype(dtype)
    assert pixels.shape == ((3, SIZE, SIZE) if layout is Layout.NCHW else (SIZE, SIZE, 3))
    middle = pixels[:, 16, 16] if layout is Layout.NCHW else pixels[16, 16]
    assert middle.tolist() == [0, 128, 255]
    assert pixels.flags.c_contiguous


@pytest.mark.parametrize("layout", Layout)
def test_mean_and_spread_of_each_channel_are_taken_out(layout: Layout) -> None:
    wanted = ModelInput(SIZE, layout=layout, mean=(0.0, 28.0, 55.0), std=(1.0, 50.0, 100.0))
    pixels = preprocess(encoded(plain(40, 40, "#0080ff")), wanted)
    middle = pixels[:, 16, 16] if layout is Layout.NCHW else pixels[16, 16]
    assert middle.tolist() == [0.0, 2.0, 2.0]
