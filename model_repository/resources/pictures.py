"""What a picture, and a process that embeds pictures, may cost: whoever decodes obeys it, and a pod's memory has it."""

from __future__ import annotations

from typing import Final

_MIB: Final = 1024 * 1024

PIXELS_LIMIT: Final = 50_000_000
"""Most pixels of a picture: any phone's."""

SIDE_LIMIT: Final = 65_535
"""Most pixels along a side; what JPEG and GIF can say. To resize costs memory by the side, too."""

DECODED_BYTES_LIMIT: Final = 320 * _MIB
"""Most memory for decoding one picture, all copies of it together: 50 million pixels of a JPEG or an opaque PNG, 40
million with transparency, 16 million of a WebP, whose decoder holds a picture four times."""

SCANNED_PIXELS_LIMIT: Final = 1_000_000_000
"""Most pixels of a JPEG times the scans in which they come: 20 for the largest picture, where cameras use 10."""

PROCESSOR_SECONDS_LIMIT: Final = 10
"""Most time of a processor for one picture, decoded and embedded; an honest one of 50 million pixels takes 2."""

_PROCESS_BYTES: Final = 128 * _MIB
"""Interpreter and libraries of a process that embeds, and the picture as it came."""

MODEL_COPIES: Final = 3
"""onnxruntime keeps the file's weights, its own packed copy and work space."""


def picture_process_bytes(model_bytes: int) -> int:
    """Return the most memory of its own that a process which embeds with models of these bytes may have.

    A detector is one of them. What it finds is cut out one after the other of a picture that was made smaller when it
    was decoded, and takes less than decoding did.
    """
    return _PROCESS_BYTES + MODEL_COPIES * model_bytes + DECODED_BYTES_LIMIT
