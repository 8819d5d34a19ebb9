"""What a picture may cost is known before it is decoded, and what it says of itself may be anything."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from image_embedder import PictureUnreadable, preprocess
from image_embedder.decoding import decode
from image_embedder.metadata import jpeg_scans, webp_size, without_metadata
from model_repository.documents.model_manifest import ModelInput
from model_repository.resources.pictures import DECODED_BYTES_LIMIT
from tests.pictures import (
    encoded,
    gif_of_comments,
    jpeg_of_scans,
    png,
    png_chunk,
    png_of_a_large_profile,
    png_of_text,
)

ROOT = Path(__file__).parents[2]
MIB = 1024 * 1024
BLOCKS = Image.fromarray(np.random.default_rng(1).integers(0, 256, (6, 8, 3), np.uint8)).resize((64, 48))
INPUT = ModelInput(32)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(
    ("make", "limit"),
    [
        (lambda: png(7000, 7000), "needs 374 MiB of memory to be decoded, at most 320 MiB are given"),
        (lambda: png(8000, 7000, colour=0), "8000 x 7000 pixels, at most 50000000 are read"),
        (lambda: png(500_000, 1), "at most 65535 along a side are read"),
        (lambda: png(20_000, 20_000, colour=0), "far more pixels than the 50000000"),
        (lambda: encoded(Image.new("RGB", (4600, 4600)), "WEBP", method=0), "needs 323 MiB"),
        (lambda: encoded(Image.new("RGB", (8000, 8000)), "WEBP", method=0), "8000 x 8000 pixels"),
        (lambda: encoded(Image.new("RGB", (8000, 8000)), "WEBP", lossless=True, method=0), "8000 x 8000 pixels"),
        (lambda: encoded(Image.new("L", (8000, 7000)), "GIF"), "8000 x 7000 pixels"),
        (lambda: encoded(Image.new("CMYK", (6600, 6600)), "JPEG"), "needs 3"),
        (lambda: jpeg_of_scans(1000, 1000), "in 1006 scans, at most 1000000000 in all"),
    ],
    ids=["RGBA", "pixels", "a row", "far too many", "WebP", "WebP's pixels", "VP8L", "GIF", "CMYK", "scans"],
)
def test_a_picture_that_costs_too_much_is_refused_with_the_limit_before_it_is_decoded(
    make: Callable[[], bytes], limit: str
) -> None:
    data = make()
    most = peak_growth(lambda: refused(data, limit))
    assert most < 16 * MIB


def refused(data: bytes, limit: str) -> None:
    with pytest.raises(PictureUnreadable, match=limit):
        preprocess(data, INPUT)


def peak_growth(work: Callable[[], object]) -> int:
    """Bytes that a process of its own has more at its most after that work; it must succeed there."""
    reads, writes = os.pipe()
    child = os.fork()
    if not child:
        status = 1
        try:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            work()
            grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
            os.write(writes, str(grown * 1024).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(writes)
    with os.fdopen(reads) as answer:
        grown = answer.read()
    _, status = os.waitpid(child, 0)
    assert status == 0
    return int(grown)


@pytest.mark.parametrize(
    "make",
    [
        lambda: png(6400, 6400),
        lambda: png(7000, 7000, colour=2),
        lambda: png(7000, 7000, colour=2, interlaced=True),
        lambda: png(7000, 7000, colour=0),
        lambda: png(65_535, 700, colour=2),
        lambda: encoded(Image.new("RGB", (4550, 4550)), "WEBP", method=0),
        lambda: encoded(Image.new("RGBA", (4070, 4070), (1, 2, 3, 100)), "WEBP", method=0),
        lambda: encoded(Image.new("RGBA", (4070, 4070), (1, 2, 3, 100)), "WEBP", lossless=True, method=0),
        lambda: encoded(Image.new("RGB", (7000, 7000)), "JPEG", progressive=True, subsampling=0),
        lambda: encoded(Image.new("RGB", (65_500, 500)), "JPEG"),
        lambda: encoded(Image.new("P", (7000, 7000)), "GIF"),
        lambda: jpeg_of_scans(900, 1000),
        lambda: gif_of_comments(9),
        lambda: png_of_text(80),
        png_of_a_large_profile,
    ],
    ids=[
        "RGBA", "RGB", "interlaced", "grey", "a band", "WebP", "WebP with alpha", "VP8L", "progressive", "a wide JPEG",
        "GIF", "scans", "comments", "text", "profile",
    ],
)  # fmt: skip
def test_the_dearest_pictures_that_are_read_keep_within_the_memory_that_is_said(make: Callable[[], bytes]) -> None:
    data = make()
    assert peak_growth(lambda: preprocess(data, ModelInput(224))) < DECODED_BYTES_LIMIT + 16 * MIB


def alone(program: str) -> int:
    """How a confined process ends that runs this; 0 is well, and a number below 0 a signal."""
    head = (
        "import pytest, resource\n"
        "from image_embedder import PictureUnreadable, decoding, preprocess\n"
        "from image_embedder.confinement import confine, one_picture\n"
        "from model_repository.documents.model_manifest import ModelInput\n"
        "from model_repository.resources.pictures import DECODED_BYTES_LIMIT\n"
        "from tests.pictures import jpeg_of_scans, png\n"
        "confine(0)\n"
    )
    return subprocess.run([sys.executable, "-c", head + program], check=False, cwd=ROOT).returncode


def test_a_confined_process_has_the_memory_that_is_said_and_no_more() -> None:
    assert alone("bytearray(DECODED_BYTES_LIMIT)") == 0
    assert alone("with pytest.raises(MemoryError): bytearray(DECODED_BYTES_LIMIT + 128 * 2**20)") == 0


def test_memory_that_a_picture_needs_and_does_not_get_is_why_it_is_refused() -> None:
    program = (
        "data = png(6000, 6000, colour=2)\n"
        "resource.setrlimit(resource.RLIMIT_DATA, (160 * 2**20, -1))\n"
        "with pytest.raises(PictureUnreadable, match='needs more than what is left'):\n"
        "    preprocess(data, ModelInput(32))\n"
    )
    assert alone(program) == 0


def test_memory_that_is_missing_after_it_was_decoded_is_a_picture_s_fault_too() -> None:
    program = (
        "with pytest.raises(PictureUnreadable, match='needs more than what is left'), one_picture():\n"
        "    bytearray(DECODED_BYTES_LIMIT * 2)\n"
    )
    assert alone(program) == 0


def test_a_picture_that_takes_a_minute_of_a_processor_has_seconds() -> None:
    program = (
        "decoding.SCANNED_PIXELS_LIMIT = 10**15\n"  # as if nothing had been noticed beforehand
        "data = jpeg_of_scans(100_000, 1_500)\n"
        "with one_picture(): preprocess(data, ModelInput(32))\n"
    )
    assert alone(program) == -signal.SIGXCPU


ODD = {
    "broken EXIF": b"Exif\0\0II*\0\xff\xff\xff\xff",
    "an IFD without end": b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + bytes(range(256)) * 20,
    "EXIF that is none": b"Exif\0\0" + b"?" * 300,
}


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("exif", ODD.values(), ids=ODD)
def test_odd_exif_does_not_matter(form: str, exif: bytes) -> None:
    options = {"quality": 90} if form == "JPEG" else {"lossless": True} if form == "WEBP" else {}
    plain = preprocess(encoded(BLOCKS, form, **options), INPUT)
    assert np.array_equal(preprocess(encoded(BLOCKS, form, exif=exif, **options), INPUT), plain)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_an_odd_profile_does_not_matter(form: str) -> None:
    options = {"quality": 90} if form == "JPEG" else {"lossless": True} if form == "WEBP" else {}
    plain = preprocess(encoded(BLOCKS, form, **options), INPUT)
    assert np.array_equal(preprocess(encoded(BLOCKS, form, icc_profile=b"?" * 200_000, **options), INPUT), plain)


def around_png(*chunks: bytes) -> bytes:
    data = encoded(BLOCKS)
    head = 8 + 12 + 13
    return data[:head] + b"".join(chunks) + data[head:]


@pytest.mark.parametrize(
    "chunk",
    [
        png_chunk(b"iCCP", b"no end"),
        png_chunk(b"iCCP", b"key\0\x07method"),
        png_chunk(b"zTXt", b"key\0\x07method"),
        png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0<x:xmpmeta tiff:Orientation='?'"),
        png_chunk(b"gAMA", b""),
        png_chunk(b"pHYs", b"1"),
        png_chunk(b"cHRM", b"1"),
        png_chunk(b"acTL", b"1"),
        png_chunk(b"fcTL", b"1"),
        png_chunk(b"eXIf", b"II*\0" + b"\xff" * 20),
        png_chunk(b"tEXt", b"key\0value")[:-4] + b"crc?",
    ],
)
def test_an_odd_chunk_does_not_matter(chunk: bytes) -> None:
    assert np.array_equal(preprocess(around_png(chunk), INPUT), preprocess(encoded(BLOCKS), INPUT))


@pytest.mark.parametrize("marker", [0xE0, 0xE1, 0xE2, 0xED, 0xFE])
@pytest.mark.parametrize("body", [b"", b"JFIF", b"Exif\0\0", b"MPF\0II*\0\x08\0\0\0\xff\xff", b"Photoshop 3.0\x008BIM"])
def test_an_odd_segment_does_not_matter(marker: int, body: bytes) -> None:
    data = encoded(BLOCKS, "JPEG")
    odd = data[:2] + bytes((0xFF, marker)) + (len(body) + 2).to_bytes(2) + body + data[2:]
    assert np.array_equal(preprocess(odd, INPUT), preprocess(data, INPUT))


def test_what_comes_behind_a_picture_does_not_matter() -> None:
    film = np.random.default_rng(1).bytes(MIB)
    for form in ("JPEG", "PNG", "GIF", "WEBP"):
        data = encoded(BLOCKS, form)
        assert np.array_equal(preprocess(data + film, INPUT), preprocess(data, INPUT))


def test_scans_are_those_of_the_first_picture() -> None:
    assert jpeg_scans(encoded(BLOCKS, "JPEG")) == 1
    assert jpeg_scans(encoded(BLOCKS, "JPEG", progressive=True)) == 10
    motion = encoded(BLOCKS, "JPEG") + b"\xff\xda" * 1000
    assert jpeg_scans(motion) == 1


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xd8", b"\xff\xd8\xff", b"\xff\xd8\xff\xda", b"\x89PNG\r\n\x1a\n", b"RIFF"]
)
def test_what_is_no_picture_has_nothing_around_it(data: bytes) -> None:
    assert (without_metadata(data) or data) == data
    assert jpeg_scans(data) <= 1
    assert webp_size(data) is None


@pytest.mark.parametrize("options", [{}, {"lossless": True}, {"save_all": True, "append_images": [BLOCKS.rotate(90)]}])
def test_a_webp_says_its_size_at_its_start(options: dict[str, object]) -> None:
    assert webp_size(encoded(BLOCKS, "WEBP", **options)) == BLOCKS.size


def test_without_metadata_the_pixels_are_the_same() -> None:
    exif = Image.Exif()
    exif[0x010E] = "a description"
    for form, options in (
        ("JPEG", {"exif": exif}),
        ("JPEG", {"exif": exif, "progressive": True}),
        ("PNG", {"exif": exif}),
    ):
        data = encoded(BLOCKS, form, **options)
        bare = without_metadata(data)
        assert bare is not None
        assert len(bare) < len(data)
        assert np.array_equal(np.asarray(decode(bare, 64)), np.asarray(decode(data, 64)))
