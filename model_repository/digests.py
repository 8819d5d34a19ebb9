"""The two digests of the contract, as text.

crc32c (RFC 3720, Castagnoli): what GCS computes for every object, in base64 of the big-endian four bytes.
sha256: what names the bytes of a manifest for good, as ``sha256:<64 hex digits>``.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re

from model_repository.errors import NameRefused

_SHA256 = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)
_CRC32C_BYTES = 4


def format_crc32c(value: int) -> str:
    """Write a crc32c as GCS does, for example ``"AAAAAA=="``."""
    return base64.b64encode(value.to_bytes(_CRC32C_BYTES, "big")).decode()


def parse_crc32c(text: str) -> int:
    """Read a crc32c as GCS writes it, or raise `NameRefused`."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != _CRC32C_BYTES or base64.b64encode(raw).decode() != text:
        raise NameRefused(f"crc32c {text[:40]!r}: expected base64 of four bytes, as in the object's metadata")
    return int.from_bytes(raw, "big")


def check_crc32c(text: str) -> str:
    """Return `text` if it is a crc32c in GCS's form, or raise `NameRefused`."""
    parse_crc32c(text)
    return text


def sha256_digest(data: bytes) -> str:
    """The digest of `data`, for example a manifest's bytes as they stand in the bucket."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def check_sha256(text: str) -> str:
    """Return `text` if it has the form of a digest, or raise `NameRefused`."""
    if not _SHA256.fullmatch(text):
        raise NameRefused(f"digest {text[:80]!r}: expected sha256:<64 hex digits>")
    return text
