"""How a worker, the pod's supervisor and a process that embeds speak of a picture."""

from __future__ import annotations

import struct
from typing import Final

QUESTION: Final = struct.Struct("!II")
"""Begins a question: how many bytes the pickled model has that follows, and the picture; the server may be believed."""

ANSWER: Final = struct.Struct("!BI")
"""Begins an answer: what it is, and how many bytes follow; whoever read a stranger's picture is never believed more."""

LONGEST_ANSWER: Final = 2**20
"""Bytes."""

VECTOR, UNREADABLE, FAILED, TURN, OVERLOADED, LOST, LEAVING = range(7)
"""Numbers, float32 and little-endian. In UTF-8, what is wrong with the picture, or with the model. The picture is to be
sent now. In UTF-8, why another try may pass: the queue is full, the process was lost, the server is leaving."""
