"""What can go wrong for an operator, beside what `model_repository.errors` knows."""

from __future__ import annotations

from model_repository.errors import PermanentError, TransientError
from model_repository.exit_codes import ExitCode


class UsageRefused(PermanentError, code="usage", exit_code=ExitCode.USAGE):
    """The command line doesn't say what is needed."""


class BuildMissing(PermanentError, code="build-missing", exit_code=ExitCode.NO_INPUT):
    """The bucket has no such build, or one without its index.json yet."""


class CommitMissing(PermanentError, code="commit-missing", exit_code=ExitCode.NO_INPUT):
    """Nobody ever committed anything for this index in this environment."""


class NothingServed(PermanentError, code="nothing-served", exit_code=ExitCode.NO_INPUT):
    """No receipt says that a build served which could be taken."""


class CommitOnHold(PermanentError, code="commit-on-hold", exit_code=ExitCode.NOT_ALLOWED):
    """Somebody asked that the live commit stays."""


class PullerMissing(PermanentError, code="puller-missing", exit_code=ExitCode.UNAVAILABLE):
    """The puller isn't installed beside this command."""


class AnswerUnwritten(TransientError, code="answer-unwritten"):
    """What standard output goes to takes no more."""
