"""What stands around the pixels of a JPEG or a PNG, as far as it is looked at before a decoder is."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

_PNG: Final = b"\x89PNG\r\n\x1a\n"
_PNG_PIXELS: Final = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})
_PNG_LENGTH: Final = struct.Struct(">I4s")
_PNG_AROUND: Final = 12

_JPEG: Final = b"\xff\xd8"
_START_OF_SCAN: Final = 0xDA
_END: Final = b"\xff\xd9"
_ADOBE: Final = 0xEE
"""Of all application segments the one that says what the colours are."""
_APPLICATION: Final = range(0xE0, 0xF0)
_COMMENT: Final = 0xFE
_BASELINE: Final = (0xC0, 0xC1)
_FRAME: Final = struct.Struct(">BHHB")
_HARMLESS: Final = frozenset({0xC4, 0xDB, 0xDD, 0xE0, 0xE2, _COMMENT})
"""Huffman's and quantisation's tables, the restart interval, JFIF, ICC profiles."""


def without_metadata(data: bytes) -> bytes | None:
    """Return the same picture with nothing but what its pixels need; None if it isn't a JPEG or a PNG, or has no more.

    Of an animated PNG the picture that viewers show that know no animation is left.
    """
    if data.startswith(_PNG):
        kept: list[bytes | memoryview] = [_PNG, *(chunk for kind, chunk in _png_chunks(data) if kind in _PNG_PIXELS)]
    elif data.startswith(_JPEG):
        kept = [_JPEG]
        for marker, start, end in _jpeg_segments(data):
            if marker == _ADOBE or (marker not in _APPLICATION and marker != _COMMENT):
                kept.append(memoryview(data)[start:end])
    else:
        return None
    bare = b"".join(kept)
    return bare if len(bare) < len(data) else None


def jpeg_scans(data: bytes) -> int:
    """Return how often a JPEG goes over its pixels: once, or in a progressive one as often as there are scans."""
    start = next((start for marker, start, _ in _jpeg_segments(data) if marker == _START_OF_SCAN), 0)
    end = data.find(_END, start)  # behind it may be more pictures, and films
    return data.count(bytes((0xFF, _START_OF_SCAN)), start, None if end < 0 else end)


def plain_jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Return width and height of a JPEG that any decoder reads alike, else None.

    Baseline, in 8 bits, grey or YCbCr, and with nothing before its pixels but JFIF's own segment, a profile, comments
    and tables: no EXIF data that may turn it, no Adobe segment that may say that its colours are others.
    """
    if not data.startswith(_JPEG):
        return None
    size = None
    for marker, start, end in _jpeg_segments(data):
        if marker in _BASELINE:
            depth, height, width, components = _FRAME.unpack_from(data.ljust(start + 10), start + 4)
            size = (width, height) if depth == 8 and components in (1, 3) else None  # noqa: PLR2004
        elif marker == _START_OF_SCAN:
            return size if size is not None and 0 not in size else None
        elif not (marker in _HARMLESS and end <= len(data)):
            return None
    return None


def webp_size(data: bytes) -> tuple[int, int] | None:
    """Return width and height as the first chunk of a WebP says them; None where there is none."""
    kind, head = data[12:16], data[20:30]
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP" or len(head) < 10:  # noqa: PLR2004
        return None
    if kind == b"VP8X":
        return int.from_bytes(head[4:7], "little") + 1, int.from_bytes(head[7:10], "little") + 1
    if kind == b"VP8L":
        bits = int.from_bytes(head[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return int.from_bytes(head[6:8], "little") & 0x3FFF, int.from_bytes(head[8:10], "little") & 0x3FFF


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    view, at = memoryview(data), len(_PNG)
    while at + _PNG_AROUND <= len(data):
        length, kind = _PNG_LENGTH.unpack_from(data, at)
        end = at + _PNG_AROUND + length
        yield kind, view[at:end]
        at = end


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield marker, start and end of each segment; the first scan goes to the end of the data, as does what is none."""
    at = len(_JPEG)
    while at + 4 <= len(data) and data[at] == 0xFF:  # noqa: PLR2004
        marker = data[at + 1]
        if marker == 0xFF:  # noqa: PLR2004 - padding
            at += 1
            continue
        if marker == _START_OF_SCAN:
            break
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4])
        yield marker, at, end
        at = end
    if at < len(data):
        yield data[at + 1] if at + 1 < len(data) else 0, at, len(data)
