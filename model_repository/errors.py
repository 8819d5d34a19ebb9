"""Two families of failure, shared by every part.

Whether a retry can help is known where the failure is met, so it is said there, by type; no caller reads a message to
find out. Permanent is only what follows from the bytes of a commit and its build: they will never say anything else.
Rights, tokens, addresses and versions can be mended while a commit waits, so a fault of those is transient. Every
message names the object that is wrong and the mend. `docs/errors.md` lists the codes.
"""

from __future__ import annotations

import sys
from typing import ClassVar

from model_repository.exit_codes import ExitCode


class DeliveryError(Exception):
    """Something kept an index from going live. The message names the object and the mend.

    code: stable, the same in logs, receipts and termination messages. exit_code: what a command that met it ends with.
    A kind says them where it is declared, or is as the one that it is of.
    """

    code: ClassVar[str] = "delivery-error"
    exit_code: ClassVar[ExitCode] = ExitCode.DATA

    def __init_subclass__(cls, *, code: str | None = None, exit_code: ExitCode | None = None) -> None:
        super().__init_subclass__()
        cls.code = cls.code if code is None else code
        cls.exit_code = cls.exit_code if exit_code is None else exit_code


def reason_of(error: BaseException) -> str:
    """Why a connection failed, as the machine itself said it, without what each layer of a client adds.

    That is the first in the chain which is Python's own; what came before that one is another story.
    """
    own: BaseException | None = error
    while own is not None and type(own).__module__.partition(".")[0] not in sys.stdlib_module_names:
        own = own.__cause__ or own.__context__
    said = own or error
    return getattr(said, "strerror", None) or str(said) or type(said).__name__


class PermanentError(DeliveryError, code="permanent"):
    """The same input will fail the same way: report it, and don't retry."""


class TransientError(DeliveryError, code="transient", exit_code=ExitCode.TRY_AGAIN):
    """Another try may pass: raise it to whoever retries."""


class SetupFault(TransientError, code="setup-fault"):
    """Something around the commit is wrong, not the commit: it passes when somebody mends it."""


class Misconfigured(PermanentError, code="misconfigured", exit_code=ExitCode.USAGE):
    """Settings are missing or make no sense. problems: a sentence for each, which names the setting."""

    def __init__(self, *problems: str) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class NameRefused(PermanentError, code="name-refused", exit_code=ExitCode.USAGE):
    """A name that may not be used in a path, a label or a resource name."""


class DocumentMalformed(PermanentError, code="document-malformed"):
    """A document in the bucket, or a request, isn't what the contract says.

    name: of the document. what: is wrong with it. generation: of the object, where the store itself could tell from its
    size; else 0: whoever read it knows.
    """

    def __init__(self, name: str, what: str, *, generation: int = 0) -> None:
        super().__init__(f"{name}: {what}")
        self.name = name
        self.what = what
        self.generation = generation

    def mended_by(self, mend: str) -> DocumentMalformed:
        """The same, with what to do about it: whoever reads the document for a purpose knows that."""
        return DocumentMalformed(self.name, f"{self.what}; {mend}", generation=self.generation)


class ObjectMissing(PermanentError, code="object-missing", exit_code=ExitCode.NO_INPUT):
    """The bucket has no such object (or no such generation of it)."""

    def __init__(self, name: str, hint: str = "check the name, or upload it") -> None:
        super().__init__(f"{name}: no such object in the bucket; {hint}")


class BucketMissing(SetupFault, code="bucket-missing", exit_code=ExitCode.UNAVAILABLE):
    """There is no such bucket."""

    def __init__(self, bucket: str) -> None:
        super().__init__(f"gs://{bucket}: no such bucket; make the bucket, or correct MODEL_REPOSITORY or --repository")


class ModelUnknown(PermanentError, code="model-unknown"):
    """index.json names a model that isn't in the bucket, or is another one than it was built with."""


class BuildIncomplete(PermanentError, code="build-incomplete"):
    """A manifest lists a file that the bucket doesn't have, or has with another size or digest."""

    def __init__(self, name: str, expected: str, found: str) -> None:
        super().__init__(
            f"{name}: the manifest says {expected}, the bucket has {found}; "
            "upload the build again under a new name and commit that"
        )


class GenerationConflict(PermanentError, code="generation-conflict", exit_code=ExitCode.TRY_AGAIN):
    """A write's generation precondition did not hold: somebody else wrote the object first."""

    def __init__(self, name: str, expected: int, hint: str = "read it again, then decide anew") -> None:
        wanted = "be absent" if expected == 0 else f"still have generation {expected}"
        super().__init__(f"{name}: should {wanted}, but was written meanwhile; {hint}")


class AccessDenied(SetupFault, code="access-denied", exit_code=ExitCode.NOT_ALLOWED):
    """The bucket answered 401 or 403: a missing grant, one that hasn't spread yet, a perimeter, a limit."""


class BucketRefused(SetupFault, code="bucket-refused", exit_code=ExitCode.DATA):
    """The bucket answered another 4xx: the request itself is wrong."""


class BucketUnavailable(TransientError, code="bucket-unavailable"):
    """The bucket didn't answer, or answered 408, 429 or 5xx."""
