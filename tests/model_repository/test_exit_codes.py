"""What an exit status says: each error knows its own, and of a container's a rollout's rules tell four apart."""

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
from model_repository.exit_codes import of_a_pod


@pytest.mark.parametrize(
    ("error", "status", "of_the_pod"),
    [
        (Misconfigured("PORT is not set"), 64, 64),
        (BuildIncomplete("a.ann", "3 bytes", "2 bytes"), 65, 65),
        (ObjectMissing("index.json"), 66, 65),
        (BucketMissing("home"), 69, 75),
        (GenerationConflict("c.json", 5), 75, 75),
        (BucketUnavailable("503"), 75, 75),
        (AccessDenied("403"), 77, 75),
    ],
)
def test_an_error_says_what_a_command_and_what_a_container_ends_with(
    error: DeliveryError, status: int, of_the_pod: int
) -> None:
    assert (error.exit_code, of_a_pod(error.exit_code)) == (status, of_the_pod)
