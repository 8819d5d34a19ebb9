"""Why images aren't made."""

from __future__ import annotations

from typing import ClassVar

from model_repository.errors import PermanentError, TransientError


class BuildFailed(PermanentError):
    """A program that makes images ended badly, or made what we can't read."""

    code: ClassVar[str] = "build-failed"


class NotAsLocked(PermanentError):
    """An image holds other packages than its lock says."""

    code: ClassVar[str] = "not-as-locked"


class PushFailed(TransientError):
    """The registry refused, or didn't answer."""

    code: ClassVar[str] = "push-failed"
