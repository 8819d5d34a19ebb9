"""What an exit status says, in every room: the names and numbers of sysexits.h. docs/operations.md prints the table."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What a command ends with; each error says which (`errors.DeliveryError.exit_code`)."""

    OK = 0
    """Done."""
    NOT_LIVE = 1
    """``--wait``: the commit was undone, rejected or superseded."""
    USAGE = 64
    """The command line or the environment is wrong; nothing was tried."""
    DATA = 65
    """Something in the bucket isn't what the contract says; nothing was written."""
    NO_INPUT = 66
    """The build, the commit or a receipt that served isn't there; nothing was written."""
    UNAVAILABLE = 69
    """The bucket, or the puller, doesn't exist."""
    SOFTWARE = 70
    """A defect of this program."""
    CANT_CREATE = 73
    """Of a run of the batch: somebody else committed since it looked. Its build is published, and not committed."""
    TRY_AGAIN = 75
    """The bucket didn't answer, somebody else wrote first, or ``--wait`` ended without a receipt."""
    STOPPED = 76
    """Of a run of the batch: its build differs too much from what serves. It is published, and not committed."""
    NOT_ALLOWED = 77
    """The bucket denied access, or the live commit is on hold; nothing was written."""
    INTERRUPTED = 130
    """Ctrl-C."""
