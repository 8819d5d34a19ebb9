"""What can go wrong at the operator's desk, beside what `model_repository.errors` knows."""

from __future__ import annotations

from typing import ClassVar

from model_repository.errors import PermanentError


class UsageRefused(PermanentError):
    """The command line doesn't say what is needed."""

    code: ClassVar[str] = "usage"


class BuildMissing(PermanentError):
    """The bucket has no such build, or one without its index.json yet."""

    code: ClassVar[str] = "build-missing"


class ModelUnknown(PermanentError):
    """index.json names a model that isn't in the bucket, or is another one than it was built with."""

    code: ClassVar[str] = "model-unknown"


class CommitMissing(PermanentError):
    """Nobody ever committed anything for this index in this environment."""

    code: ClassVar[str] = "commit-missing"


class NothingServed(PermanentError):
    """No receipt says that a build served which could be taken."""

    code: ClassVar[str] = "nothing-served"


class CommitOnHold(PermanentError):
    """Somebody asked that the live commit stays."""

    code: ClassVar[str] = "commit-on-hold"


class BucketMissing(PermanentError):
    """There is no such bucket."""

    code: ClassVar[str] = "bucket-missing"


class PullerMissing(PermanentError):
    """The puller isn't installed beside this command."""

    code: ClassVar[str] = "puller-missing"
