"""crc32c at memory speed: google-crc32c's C library on any part of a buffer, and sums put together over GF(2).

google-crc32c's own Python call takes only `bytes`, so a slice of a buffer would be copied first, with the interpreter
lock held. The C library that its wheels carry is called by ctypes instead: no copy, and the lock is released. Where no
such library lies beside the package (a source build), its Python call is used: right, but slower.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path

import google_crc32c

_POLYNOMIAL = 0x82F63B78
"""Castagnoli's, bits reversed."""
_ONE = 1 << 31
"""The polynomial 1 in that order of bits."""

BUFFER_BYTES = 640 * 1024
"""Fits a core's second-level cache: summing and writing then read it there; 1 MiB costs a tenth more."""


class Buffer:
    """Memory that is received into, summed in place and written from.

    view: all of it. address: where it lies, for the C library.
    """

    def __init__(self, size: int = BUFFER_BYTES) -> None:
        """Allocate `size` bytes."""
        self._memory = bytearray(size)
        self._pinned = (ctypes.c_char * size).from_buffer(self._memory)
        self.view = memoryview(self._memory)
        self.address = ctypes.addressof(self._pinned)
        self.find = self._memory.find


def _load() -> Callable[[int, int, int], int] | None:
    package = Path(google_crc32c.__file__).parent
    for path in sorted(package.with_name("google_crc32c.libs").glob("libcrc32c*.so*")):
        try:
            function = ctypes.CDLL(str(path)).crc32c_extend
        except (OSError, AttributeError):
            continue
        function.restype = ctypes.c_uint32
        function.argtypes = [ctypes.c_uint32, ctypes.c_void_p, ctypes.c_size_t]
        result: Callable[[int, int, int], int] = function
        return result
    return None


_native = _load()


def extend(crc: int, buffer: Buffer, start: int, end: int) -> int:
    """The crc32c of what `crc` stands for followed by ``buffer[start:end]``; `crc` is 0 at the beginning."""
    if _native is not None:
        return _native(crc, buffer.address + start, end - start)
    extended: int = google_crc32c.extend(crc, bytes(buffer.view[start:end]))
    return extended


def combine(first: int, second: int, length: int) -> int:
    """The crc32c of A followed by B, from those of A and B and B's `length` in bytes.

    crc(AB) = crc(A) * x^(8 length) + crc(B) over GF(2), modulo the polynomial: the algorithm of zlib's crc32_combine.
    """
    power, k = _ONE, 3
    while length:
        if length & 1:
            power = _multiply(_SQUARES[k], power)
        length >>= 1
        k += 1
    return _multiply(power, first) ^ second


def _multiply(a: int, b: int) -> int:
    product = 0
    mask = _ONE
    while mask:
        if a & mask:
            product ^= b
        mask >>= 1
        b = (b >> 1) ^ _POLYNOMIAL if b & 1 else b >> 1
    return product


def _squares() -> list[int]:
    """x^(2^k) for k up to 66: enough for 2^63 bytes."""
    powers = [_ONE >> 1]
    while len(powers) <= 66:  # noqa: PLR2004
        powers.append(_multiply(powers[-1], powers[-1]))
    return powers


_SQUARES = _squares()
