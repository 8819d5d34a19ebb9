"""What an exit status says: each error knows its own."""

from __future__ import annotations

import pytest

from model_repository.errors import (
    AccessDenied,
    BucketMissing,
    BucketUnavailable,
    BuildIncomplete,
    DeliveryError,
    GenerationConflict,
    Misconfigured,
    ObjectMissing,
)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Misconfigured("PORT is not set"), 64),
        (BuildIncomplete("a.ann", "3 bytes", "2 bytes"), 65),
        (ObjectMissing("index.json"), 66),
        (BucketMissing("home"), 69),
        (GenerationConflict("c.json", 5), 75),
        (BucketUnavailable("503"), 75),
        (AccessDenied("403"), 77),
    ],
)
def test_an_error_says_what_a_command_ends_with(error: DeliveryError, status: int) -> None:
    assert error.exit_code == status
