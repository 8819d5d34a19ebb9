"""What can go wrong for an operator, beside what `model_repository.errors` knows."""

from __future__ import annotations

from typing import ClassVar

from model_repository.errors import PermanentError
from model_repository.exit_codes import ExitCode


class UsageRefused(PermanentError):
    """The command line doesn't say what is needed."""

    code: ClassVar[str] = "usage"
    exit_code: ClassVar[ExitCode] = ExitCode.USAGE


class BuildMissing(PermanentError):
    """The bucket has no such build, or one without its index.json yet."""

    code: ClassVar[str] = "build-missing"
    exit_code: ClassVar[ExitCode] = ExitCode.NO_INPUT


class CommitMissing(PermanentError):
    """Nobody ever committed anything for this index in this environment."""

    code: ClassVar[str] = "commit-missing"
    exit_code: ClassVar[ExitCode] = ExitCode.NO_INPUT


class NothingServed(PermanentError):
    """No receipt says that a build served which could be taken."""

    code: ClassVar[str] = "nothing-served"
    exit_code: ClassVar[ExitCode] = ExitCode.NO_INPUT


class CommitOnHold(PermanentError):
    """Somebody asked that the live commit stays."""

    code: ClassVar[str] = "commit-on-hold"
    exit_code: ClassVar[ExitCode] = ExitCode.NOT_ALLOWED


class PullerMissing(PermanentError):
    """The puller isn't installed beside this command."""

    code: ClassVar[str] = "puller-missing"
    exit_code: ClassVar[ExitCode] = ExitCode.UNAVAILABLE
