"""Why images aren't made."""

from __future__ import annotations

from model_repository.errors import PermanentError, TransientError


class BuildFailed(PermanentError, code="build-failed"):
    """A program that makes images ended badly, or made what we can't read."""


class NotAsLocked(PermanentError, code="not-as-locked"):
    """An image holds other packages than its lock says."""


class PushFailed(TransientError, code="push-failed"):
    """The registry refused, or didn't answer."""
