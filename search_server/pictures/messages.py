"""How a server and a process that embeds speak."""

from __future__ import annotations

import struct
from typing import Final

QUESTION: Final = struct.Struct("!II")
"""Before each: how many bytes the pickled model has, and the picture; the server may be believed."""

ANSWER: Final = struct.Struct("!BI")
"""Before each: what it is, and how many bytes it has; whoever read a stranger's picture is never believed more."""

VECTOR, UNREADABLE, FAILED = range(3)
"""Numbers, float32 and little-endian; what is wrong with the picture, or with the model, in UTF-8."""
