"""``python -m embedding_batch``: a run or a step of one; the last line on standard output is what it did, in JSON."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import NoReturn

_signals: list[int] = []
"""That came. What they raise may come out as something else: some packages, while they are imported, make an error of
their own of whatever stops them."""


def _interrupt(number: int, _frame: FrameType | None) -> NoReturn:
    _signals.append(number)
    raise KeyboardInterrupt


def _main() -> int:
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever began it
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115 - to the end
    # SIGTERM, which ends a pod, interrupts as Ctrl-C does: what isn't whole is deleted; from the first moment on
    for number in (signal.SIGTERM, signal.SIGINT):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as a shell has it for what runs in its background
            signal.signal(number, _interrupt)
    try:
        from embedding_batch.main import main  # noqa: PLC0415 - it takes a second, in which that may come
    except BaseException:
        if _signals:
            return 130
        raise
    return main(sys.argv[1:], os.environ, interrupted=lambda: bool(_signals))


try:
    sys.exit(_main())
except KeyboardInterrupt:  # it came where nothing else waits for it: as the program was ending, or saying why it did
    sys.exit(130)
