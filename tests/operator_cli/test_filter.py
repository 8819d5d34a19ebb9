"""`indexpush filter`: what is hidden, whether it is in force, and hiding what a file lists."""

from __future__ import annotations

from pathlib import Path

import pytest

from model_repository.bucket.store import Store
from model_repository.documents.items.item_ids import hash_item
from model_repository.documents.receipts.filter_receipt import FilterOutcome, FilterReceipt
from model_repository.errors import BucketUnavailable
from model_repository.names import Target
from model_repository.repository import read_filter_receipt, read_hidden, read_live_filter, write_filter_receipt
from operator_cli.commands import filters
from tests.operator_cli.conftest import Operator


def ended(operator: Operator, outcome: FilterOutcome, detail: str = "") -> None:
    live = read_live_filter(operator.store, operator.target)
    now = operator.clock.now()
    receipt = FilterReceipt(operator.target, live.generation, outcome, live.filter.hidden, 3, detail, now, now)
    write_filter_receipt(operator.store, receipt)


def test_where_nothing_is_hidden_that_is_said(operator: Operator) -> None:
    operator.commit(operator.build("b1"))
    said = operator("filter", "clothing")
    assert (said.code, said.out) == (
        0,
        "production/clothing: nothing is hidden: filters/production/clothing.json isn't there\n",
    )
    assert operator("filter", "clothing", "--output", "json").value["generation"] is None


def test_a_mistyped_index_is_named_and_a_filter_may_come_before_its_index(operator: Operator, tmp_path: Path) -> None:
    operator.commit(operator.build("b1"))
    (file := tmp_path / "sold-out").write_text("a\n")
    looked, hidden = operator("filter", "clothign"), operator("filter", "clothign", "--hide", str(file))
    assert (looked.code, hidden.code) == (66, 0)
    for said in (looked, hidden):
        assert "nothing is committed for 'clothign' in 'production'; did you mean clothing?" in said.err
    assert operator("filter", "clothing", "--hide", str(file)).err == ""


def test_exactly_what_a_file_lists_is_hidden(operator: Operator, tmp_path: Path) -> None:
    file = tmp_path / "sold-out"
    file.write_bytes("\ufeffa\r\nb\u2028c\n\nd".encode())
    said = operator("filter", "clothing", "--hide", str(file), "--by", "stock", "--reason", "hourly")
    live = read_live_filter(operator.store, operator.target)
    assert list(read_hidden(operator.store, live)) == sorted(map(hash_item, ["a", "b\u2028c", "d"]))
    assert said.code == 0
    assert f"3 items are hidden, generation {live.generation}" in said.out
    assert "waiting" in said.out
    ended(operator, FilterOutcome.APPLIED)
    found = operator("filter", "clothing", "--output", "json").value
    assert (found["hidden"], found["by"], found["outcome"], found["pods"]) == (3, "stock", "applied", 3)
    file.write_text("a")
    assert "1 item is hidden" in operator("filter", "clothing", "--hide", str(file)).out
    file.write_text("")
    assert "0 items are hidden" in operator("filter", "clothing", "--hide", str(file)).out


def test_a_bucket_that_does_not_answer_for_a_while_ends_no_wait(
    operator: Operator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (file := tmp_path / "sold-out").write_text("a\n")
    looks = 0

    def read(store: Store, target: Target, generation: int) -> FilterReceipt:
        nonlocal looks
        looks += 1
        if looks < 3:
            raise BucketUnavailable("503")
        ended(operator, FilterOutcome.APPLIED)
        return read_filter_receipt(store, target, generation)

    monkeypatch.setattr(filters, "read_filter_receipt", read)
    said = operator("filter", "clothing", "--hide", str(file), "--wait")
    assert (said.code, looks) == (0, 3)
    assert "applied on 3 pods" in said.out


def test_whoever_waits_is_told_by_the_exit_code_what_became_of_it(operator: Operator, tmp_path: Path) -> None:
    file = tmp_path / "sold-out"
    file.write_text("a\n")
    assert operator("filter", "clothing", "--hide", str(file), "--wait", "5").code == 75
    ended(operator, FilterOutcome.REJECTED, "it isn't what it should be")
    said = operator("filter", "clothing", "--wait")
    assert said.code == 1
    assert "rejected on 3 pods: it isn't what it should be" in said.out
    operator("filter", "clothing", "--hide", str(file))
    ended(operator, FilterOutcome.APPLIED)
    assert operator("filter", "clothing", "--wait").code == 0


@pytest.mark.parametrize("data", [None, b"\xff\xfe"], ids=["missing", "no-text"])
def test_a_file_that_cannot_be_read_hides_nothing(operator: Operator, tmp_path: Path, data: bytes | None) -> None:
    file = tmp_path / "sold-out"
    if data is not None:
        file.write_bytes(data)
    said = operator("filter", "clothing", "--hide", str(file))
    assert said.code == 64
    assert "--hide" in said.err
    assert operator.store.stat(operator.target.filter_name) is None
