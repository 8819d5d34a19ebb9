"""``python -m embedding_batch``: a run or a step of one; the last line on standard output is what it did, in JSON."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import NoReturn


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _main() -> int:
    # SIGTERM, which ends a pod, interrupts as Ctrl-C does: what isn't whole is deleted; from the first moment on
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        from embedding_batch.main import main  # noqa: PLC0415 - it takes a second, in which that may come
    except KeyboardInterrupt:
        return 130
    return main(sys.argv[1:], os.environ)


sys.exit(_main())
