"""What stops a batch before it commits. Each has a stable code; see `model_repository.errors` for the two families."""

from __future__ import annotations

import errno

from model_repository.errors import DeliveryError, Misconfigured, PermanentError, SetupFault, TransientError
from model_repository.exit_codes import ExitCode

_NO_PLACE = (PermissionError, FileNotFoundError, FileExistsError, NotADirectoryError)
"""Another try finds the same folder; any other trouble with files may pass."""


class CatalogueMalformed(PermanentError, code="catalogue-malformed"):
    """The catalogue can't be read, or isn't what it should be."""


class CatalogueUnavailable(TransientError, code="catalogue-unavailable"):
    """BigQuery, or the disk, which has the catalogue or the vectors, doesn't answer, or says that it may pass."""


class VectorsMalformed(PermanentError, code="vectors-malformed"):
    """A file of somebody's own vectors can't be read, or isn't what it should be."""


class ModelUnsound(PermanentError, code="model-unsound"):
    """Somebody's own model can't be loaded, or doesn't take what is said of it."""


class DecodeDiffers(PermanentError, code="decode-differs"):
    """What a device decodes gives other embeddings than what the search server decodes."""


class TooManyBroken(PermanentError, code="too-many-broken"):
    """More pictures can't be read than a careful shop would drop in silence."""


class ItemsDropped(PermanentError, code="items-dropped"):
    """The new build has far fewer items than the one that serves."""


class RecallTooLow(PermanentError, code="recall-too-low"):
    """In some category too little is found of what an exact search finds."""


class IndexUnsound(PermanentError, code="index-unsound"):
    """An index file, read back, isn't what was put into it."""


class NameTaken(PermanentError, code="name-taken"):
    """A build or a model stands under this name with other bytes; what is published is never changed."""


class CommitLost(PermanentError, code="commit-lost", exit_code=ExitCode.CANT_CREATE):
    """Somebody else committed since the run looked; another try of it can't find anything else."""


class ChangeUnexpected(PermanentError, code="change-unexpected", exit_code=ExitCode.STOPPED):
    """The build differs from what serves more than it may by itself; it is published, and not committed."""


class DiskTrouble(TransientError, code="disk-trouble"):
    """A folder of the batch, or what its answer goes to, takes no more, or fails."""


class WorkersDied(TransientError, code="workers-died"):
    """Processes that embed pictures die, and not of single pictures."""


class StepMissing(PermanentError, code="step-missing", exit_code=ExitCode.USAGE):
    """A step was run before another that it needs."""


class StateDamaged(PermanentError, code="state-damaged"):
    """An object of the batch's own state can't be read, or isn't what its name says."""


class PipelinesUnavailable(TransientError, code="pipelines-unavailable"):
    """Kubeflow's API server didn't answer, or answered 408, 429 or 5xx."""


class PipelinesRefused(SetupFault, code="pipelines-refused", exit_code=ExitCode.NOT_ALLOWED):
    """Kubeflow's API server answered another 4xx: rights, a token, a namespace, or a pipeline that it doesn't take."""


class Defect(DeliveryError, code="defect", exit_code=ExitCode.SOFTWARE):
    """What nobody thought of."""


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
