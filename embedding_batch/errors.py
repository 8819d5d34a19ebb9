"""What stops a batch before it commits. Each has a stable code; see `model_repository.errors` for the two families."""

from __future__ import annotations

import errno
from typing import ClassVar

from model_repository.errors import DeliveryError, Misconfigured, PermanentError, SetupFault, TransientError
from model_repository.exit_codes import ExitCode

_NO_PLACE = (PermissionError, FileNotFoundError, FileExistsError, NotADirectoryError)
"""Another try finds the same folder; any other trouble with files may pass."""


class CatalogueMalformed(PermanentError):
    """The catalogue can't be read, or isn't what it should be."""

    code: ClassVar[str] = "catalogue-malformed"


class CatalogueUnavailable(TransientError):
    """BigQuery, or the disk, which has the catalogue or the vectors, doesn't answer, or says that it may pass."""

    code: ClassVar[str] = "catalogue-unavailable"


class VectorsMalformed(PermanentError):
    """A file of somebody's own vectors can't be read, or isn't what it should be."""

    code: ClassVar[str] = "vectors-malformed"


class ModelUnsound(PermanentError):
    """Somebody's own model can't be loaded, or doesn't take what is said of it."""

    code: ClassVar[str] = "model-unsound"


class TooManyBroken(PermanentError):
    """More pictures can't be read than a careful shop would drop in silence."""

    code: ClassVar[str] = "too-many-broken"


class ItemsDropped(PermanentError):
    """The new build has far fewer items than the one that serves."""

    code: ClassVar[str] = "items-dropped"


class RecallTooLow(PermanentError):
    """In some category too little is found of what an exact search finds."""

    code: ClassVar[str] = "recall-too-low"


class IndexUnsound(PermanentError):
    """An index file, read back, isn't what was put into it."""

    code: ClassVar[str] = "index-unsound"


class NameTaken(PermanentError):
    """A build or a model stands under this name with other bytes; what is published is never changed."""

    code: ClassVar[str] = "name-taken"


class CommitLost(PermanentError):
    """Somebody else committed since the run looked; another try of it can't find anything else."""

    code: ClassVar[str] = "commit-lost"
    exit_code: ClassVar[ExitCode] = ExitCode.CANT_CREATE


class ChangeUnexpected(PermanentError):
    """The build differs from what serves more than it may by itself; it is published, and not committed."""

    code: ClassVar[str] = "change-unexpected"
    exit_code: ClassVar[ExitCode] = ExitCode.STOPPED


class DiskTrouble(TransientError):
    """A folder of the batch, or what its answer goes to, takes no more, or fails."""

    code: ClassVar[str] = "disk-trouble"


class WorkersDied(TransientError):
    """Processes that embed pictures die, and not of single pictures."""

    code: ClassVar[str] = "workers-died"


class StepMissing(PermanentError):
    """A step was run before another that it needs."""

    code: ClassVar[str] = "step-missing"
    exit_code: ClassVar[ExitCode] = ExitCode.USAGE


class StateDamaged(PermanentError):
    """An object of the batch's own state can't be read, or isn't what its name says."""

    code: ClassVar[str] = "state-damaged"


class PipelinesUnavailable(TransientError):
    """Kubeflow's API server didn't answer, or answered 408, 429 or 5xx."""

    code: ClassVar[str] = "pipelines-unavailable"


class PipelinesRefused(SetupFault):
    """Kubeflow's API server answered another 4xx: rights, a token, a namespace, or a pipeline that it doesn't take."""

    code: ClassVar[str] = "pipelines-refused"
    exit_code: ClassVar[ExitCode] = ExitCode.NOT_ALLOWED


class Defect(DeliveryError):
    """What nobody thought of."""

    code: ClassVar[str] = "defect"
    exit_code: ClassVar[ExitCode] = ExitCode.SOFTWARE


def said_of(error: Exception) -> DeliveryError:
    """What is said of whatever stopped the batch: one line, a code, an exit status. The bucket's are ours already."""
    if isinstance(error, DeliveryError):
        return error
    if not isinstance(error, OSError):
        return Defect(f"a defect of the batch: {error!r}")
    where = f"{error.filename or 'the disk of --cache, or of TMPDIR'}: {error.strerror or error}"
    if isinstance(error, _NO_PLACE) or error.errno == errno.EROFS:
        return Misconfigured(f"{where}; --cache, and TMPDIR, must be folders that this user may write to")
    return DiskTrouble(f"{where}; make room, or try again")
