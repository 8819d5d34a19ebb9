"""`--wait` says what became of a commit, and ends by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from model_repository.bucket.store import Store
from model_repository.documents.receipts.receipt import Outcome
from model_repository.errors import BucketUnavailable
from tests.memory_store import MemoryStore

if TYPE_CHECKING:
    from tests.operator_cli.conftest import Operator


def test_wait_says_that_the_commit_went_live(operator: Operator) -> None:
    prefix = operator.build("b1")

    def deploys() -> None:
        operator.receipt(operator.generation(), Outcome.SERVED, prefix)

    operator.clock.meanwhile = deploys
    result = operator("commit", "clothing", "b1", "--wait")

    assert result.code == 0
    assert "served after" in result.out


@pytest.mark.parametrize("outcome", [Outcome.UNDONE, Outcome.REJECTED, Outcome.SUPERSEDED])
def test_wait_fails_when_the_commit_did_not_go_live(operator: Operator, outcome: Outcome) -> None:
    prefix = operator.build("b1")
    operator.clock.meanwhile = lambda: operator.receipt(operator.generation(), outcome, prefix, detail="pods died")

    result = operator("commit", "clothing", "b1", "--wait=30", "--output", "json")

    assert result.code == 1
    assert result.value["outcome"] == outcome.value
    assert result.value["detail"] == "pods died"


def test_wait_ends_when_a_newer_commit_came_and_nobody_wrote_a_receipt(operator: Operator) -> None:
    operator.build("b1")

    def somebody_commits() -> None:
        operator.commit(operator.build("b2"))

    operator.clock.meanwhile = somebody_commits
    result = operator("commit", "clothing", "b1", "--wait", "--output", "json")

    assert result.code == 1
    assert result.value["outcome"] == "superseded"


def test_wait_without_an_answer_ends_by_itself_and_the_commit_stands(operator: Operator) -> None:
    operator.build("b1")

    result = operator("commit", "clothing", "b1", "--wait", "7", "--output", "json")

    assert result.code == 75
    assert result.value["outcome"] is None
    assert 7 <= result.value["waited_seconds"] < 8
    assert operator.live()["index_prefix"] == "indexes/clothing/b1"


def test_wait_without_seconds_outlasts_the_rollouts_own_deadline(operator: Operator) -> None:
    operator.build("b1")

    result = operator("commit", "clothing", "b1", "--output", "json", "--wait")

    assert result.value["waited_seconds"] >= 120 + 60


def test_wait_goes_on_while_the_bucket_does_not_answer(operator_of: Callable[[Store], Operator]) -> None:
    class Shaky(MemoryStore):
        failures = 3

        def read(self, name: str, *, limit: int) -> Any:
            if name.startswith("deployments/") and self.failures:
                self.failures -= 1
                raise BucketUnavailable(f"{name}: 503")
            return super().read(name, limit=limit)

    operator = operator_of(Shaky("shop"))
    prefix = operator.build("b1")
    operator.clock.meanwhile = lambda: operator.receipt(operator.generation(), Outcome.SERVED, prefix)

    assert operator("commit", "clothing", "b1", "--wait").code == 0


def test_ctrl_c_while_waiting_says_that_the_commit_stands(operator: Operator) -> None:
    operator.build("b1")

    def interrupt() -> None:
        raise KeyboardInterrupt

    operator.clock.meanwhile = interrupt
    result = operator("commit", "clothing", "b1", "--wait")

    assert result.code == 130
    assert "the commit stands" in result.out
    assert operator.generation() > 0
