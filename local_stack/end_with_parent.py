"""Become another program, one that the kernel ends when this process's parent ends.

Run by path with ``python -I -S end_with_parent.py <parent pid> <signal> <command> ...`` so that it costs little. Even a
parent that is killed leaves nothing running. Elsewhere than on Linux it only becomes the other program.
"""

from __future__ import annotations

import ctypes
import os
import sys

_PR_SET_PDEATHSIG = 1
_NOT_FOUND = 127


def main(arguments: list[str]) -> int:
    """Returns only if the command can't be run."""
    parent, signal, *command = arguments
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal))
        if os.getppid() != int(parent):  # it ended before the kernel was asked
            return _NOT_FOUND
    try:
        os.execvp(command[0], command)  # noqa: S606 - becoming that program is the point
    except OSError as error:
        sys.stderr.write(f"{command[0]}: {error.strerror}\n")
    return _NOT_FOUND


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
