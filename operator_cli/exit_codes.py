"""What the exit status says: the names and numbers of sysexits.h, and 1 for a commit that didn't go live."""

from __future__ import annotations

from enum import IntEnum

from model_repository.errors import (
    AccessDenied,
    DeliveryError,
    GenerationConflict,
    Misconfigured,
    NameRefused,
    ObjectMissing,
    TransientError,
)
from operator_cli.errors import (
    BucketMissing,
    BuildMissing,
    CommitMissing,
    CommitOnHold,
    NothingServed,
    PullerMissing,
    UsageRefused,
)


class ExitCode(IntEnum):
    """The table that docs/operations.md prints."""

    OK = 0
    """Done."""
    NOT_LIVE = 1
    """``--wait``: the commit was undone, rejected or superseded."""
    USAGE = 64
    """The command line is wrong; nothing was tried."""
    DATA = 65
    """Something in the bucket isn't what the contract says; nothing was written."""
    NO_INPUT = 66
    """The build, the commit or a receipt that served isn't there; nothing was written."""
    UNAVAILABLE = 69
    """The bucket, or the puller, doesn't exist."""
    SOFTWARE = 70
    """A defect of this program."""
    TRY_AGAIN = 75
    """The bucket didn't answer, somebody else committed first, or ``--wait`` ended without a receipt."""
    NOT_ALLOWED = 77
    """The bucket denied access, or the live commit is on hold; nothing was written."""
    INTERRUPTED = 130
    """Ctrl-C."""


_CODES: tuple[tuple[type[DeliveryError], ExitCode], ...] = (
    (UsageRefused, ExitCode.USAGE),
    (Misconfigured, ExitCode.USAGE),
    (NameRefused, ExitCode.USAGE),
    (BuildMissing, ExitCode.NO_INPUT),
    (CommitMissing, ExitCode.NO_INPUT),
    (NothingServed, ExitCode.NO_INPUT),
    (ObjectMissing, ExitCode.NO_INPUT),
    (BucketMissing, ExitCode.UNAVAILABLE),
    (PullerMissing, ExitCode.UNAVAILABLE),
    (GenerationConflict, ExitCode.TRY_AGAIN),
    (TransientError, ExitCode.TRY_AGAIN),
    (AccessDenied, ExitCode.NOT_ALLOWED),
    (CommitOnHold, ExitCode.NOT_ALLOWED),
)


def exit_code_of(error: DeliveryError) -> ExitCode:
    """The exit status for a failure; what no line names is bad data."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), ExitCode.DATA)
