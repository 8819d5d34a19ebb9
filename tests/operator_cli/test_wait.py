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


@pytest.mark.parametrize("outcome", [Outcome.SERVED, Outcome.UNDONE])
def test_wait_ends_when_a_newer_commit_rolled_out_and_this_one_has_no_receipt(
    operator: Operator, outcome: Outcome
) -> None:
    operator.build("b1")

    def somebody_commits() -> None:
        prefix = operator.build("b2")
        operator.commit(prefix)
        operator.receipt(operator.generation(), outcome, prefix)

    operator.clock.meanwhile = somebody_commits
    result = operator("commit", "clothing", "b1", "--wait", "--output", "json")

    assert result.code == 1
    assert result.value["outcome"] == "superseded"


def test_what_rolls_out_while_a_newer_commit_is_refused_is_not_called_superseded(operator: Operator) -> None:
    prefix = operator.build("b1")

    def ours_is_slower_than_a_bad_one() -> None:
        ours, bad = operator.generation(), operator.build("b2")
        operator.commit(bad)
        operator.receipt(operator.generation(), Outcome.REJECTED, bad)
        operator.clock.meanwhile = lambda: operator.receipt(ours, Outcome.SERVED, prefix)

    operator.clock.meanwhile = ours_is_slower_than_a_bad_one
    assert operator("commit", "clothing", "b1", "--wait").code == 0


def test_wait_says_at_its_end_that_another_commit_stands_there(operator: Operator) -> None:
    operator.build("b1")
    operator.clock.meanwhile = lambda: operator.commit(operator.build("b2"))
    result = operator("commit", "clothing", "b1", "--wait", "7", "--output", "json")
    assert (result.code, result.value["outcome"]) == (75, None)
    assert "stands there now, and this one may be rolling out all the same" in result.value["detail"]
    assert "the commit stands" not in result.value["detail"]


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
