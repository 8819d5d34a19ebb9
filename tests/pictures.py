"""Pictures that cost much more than they weigh, made by code; and what a server makes of one."""

from __future__ import annotations

import io
import struct
import zlib

from PIL import Image

from image_embedder import Embedder
from search_server.build.model import Model


def encoded(picture: Image.Image, form: str = "PNG", **options: object) -> bytes:
    """The picture in a format."""
    file = io.BytesIO()
    picture.save(file, form, **options)
    return file.getvalue()


def png_chunk(kind: bytes, body: bytes) -> bytes:
    """A chunk with its length and checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, *, colour: int = 6, interlaced: bool = False, around: bytes = b"") -> bytes:
    """A PNG of 8 bits and zeros. colour: 2 is RGB, 6 RGBA, 0 grey. around: more chunks, before the pixels."""
    row = bytes(1 + width * {0: 1, 2: 3, 6: 4}[colour])
    packer = zlib.compressobj(9)
    rows = height * 2 if interlaced else height  # the passes have more rows, each shorter: enough in all
    body = b"".join([*(packer.compress(row) for _ in range(rows)), packer.flush()])
    head = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, interlaced)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", head) + around + png_chunk(b"IDAT", body) + png_chunk(b"IEND", b"")


def png_of_text(megabytes: int) -> bytes:
    """A good small picture with compressed text that has so many megabytes, 1 MB less a byte a chunk."""
    text = zlib.compress(bytes(1024 * 1024 - 1), 9)
    return png(40, 40, around=png_chunk(b"zTXt", b"key\0\0" + text) * megabytes)


def png_of_a_large_profile() -> bytes:
    """A good small picture whose colour profile has 50 MB once unpacked."""
    return png(40, 40, around=png_chunk(b"iCCP", b"key\0\0" + zlib.compress(bytes(50 * 1024 * 1024), 9)))


def jpeg_of_scans(scans: int, side: int) -> bytes:
    """A progressive JPEG that goes over its last scan so many times more: each costs 0.35 ns a pixel, and 12 bytes."""
    data = encoded(Image.linear_gradient("L").resize((side, side)), "JPEG", progressive=True, quality=30)
    last = data.rindex(b"\xff\xda")
    return data[:-2] + data[last:-2] * scans + data[-2:]


def gif_of_comments(megabytes: int) -> bytes:
    """A GIF whose comment goes on and on: Pillow copies what it has for each 255 bytes more."""
    data = encoded(Image.new("P", (10, 10)), "GIF")
    start = data.index(b"\x2c")
    blocks = (b"\xff" + b"x" * 255) * (megabytes * 4096)
    return data[:start] + b"\x21\xfe" + blocks + b"\0" + data[start:]


def embed_here(model: Model, picture: bytes) -> list[float]:
    """What a server's process makes of a picture."""
    embedder = Embedder(model.path, normalised=model.normalised)
    vector: list[float] = embedder.embed_picture(picture, model.takes).tolist()
    return vector
