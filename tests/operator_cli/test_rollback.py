from __future__ import annotations

from typing import TYPE_CHECKING, Any

from model_repository.documents.receipts.receipt import Outcome
from model_repository.names import IndexPrefix

if TYPE_CHECKING:
    from tests.operator_cli.conftest import Operator


def three_builds(operator: Operator) -> tuple[IndexPrefix, IndexPrefix, IndexPrefix]:
    return operator.build("b1", age=3), operator.build("b2", age=2), operator.build("b3", age=1)


def rolled_back_to(operator: Operator, *more: str) -> str:
    result = operator("rollback", "clothing", *more)
    assert result.code == 0, result.err
    prefix: str = operator.live()["index_prefix"]
    assert prefix in result.out
    return prefix


def test_a_rollback_takes_the_build_that_served_before(operator: Operator) -> None:
    for prefix in three_builds(operator):
        operator.deployed(prefix)

    result = operator("rollback", "clothing", "--by", "ada")

    assert operator.live() == {
        "index_prefix": "indexes/clothing/b2",
        "by": "ada",
        "reason": "rollback from indexes/clothing/b3",
    }
    assert "served most recently" in result.out
    assert "the next batch replaces it" in result.out


def test_a_rollback_on_hold_sticks(operator: Operator) -> None:
    for prefix in three_builds(operator):
        operator.deployed(prefix)

    result = operator("rollback", "clothing", "--hold")

    assert operator.live()["hold"] is True
    assert "the next batch replaces it" not in result.out


def test_a_second_rollback_goes_further_back_instead_of_returning(operator: Operator) -> None:
    _, b2, b3 = builds = three_builds(operator)
    for prefix in builds:
        operator.deployed(prefix)

    assert rolled_back_to(operator) == str(b2)
    operator.receipt(operator.generation(), Outcome.SERVED, b2)

    assert rolled_back_to(operator) != str(b3)
    assert operator.live()["index_prefix"] == "indexes/clothing/b1"


def test_a_redeployed_build_is_not_its_own_predecessor(operator: Operator) -> None:
    b1, b2, _ = three_builds(operator)
    for prefix in (b1, b2, b2, b2):
        operator.deployed(prefix)

    assert rolled_back_to(operator) == str(b1)


def test_builds_that_never_served_are_not_taken(operator: Operator) -> None:
    b1, b2, b3 = three_builds(operator)
    operator.deployed(b1)
    operator.deployed(b2, Outcome.UNDONE)
    operator.deployed(b3)

    assert rolled_back_to(operator) == str(b1)


def test_after_an_undone_commit_the_build_that_serves_on_is_taken(operator: Operator) -> None:
    b1, b2, b3 = three_builds(operator)
    operator.deployed(b1)
    operator.deployed(b3)
    operator.deployed(b2, Outcome.UNDONE)  # an older build than the one that serves

    result = operator("rollback", "clothing")

    assert operator.live()["index_prefix"] == str(b3)
    assert "the live commit was undone" in result.out


def test_after_a_malformed_commit_the_build_that_serves_on_is_taken(operator: Operator) -> None:
    b1, *_ = three_builds(operator)
    operator.deployed(b1)
    operator.store.write(operator.target.commit_name, b"oops", if_generation_match=None)

    assert rolled_back_to(operator) == str(b1)


def test_a_live_commit_that_names_no_build_is_rolled_back_from(operator: Operator) -> None:
    b1, *_ = three_builds(operator)
    operator.deployed(b1)
    operator.deployed(IndexPrefix("clothing", "nowhere"), Outcome.REJECTED)

    assert rolled_back_to(operator) == str(b1)


def test_a_build_that_is_no_longer_whole_is_passed_over_aloud(operator: Operator) -> None:
    builds: Any = three_builds(operator)
    for prefix in builds:
        operator.deployed(prefix)
    store: Any = operator.store
    store.delete("indexes/clothing/b2/0.annoy")

    result = operator("rollback", "clothing", "--output", "json")

    assert result.value["index_prefix"] == "indexes/clothing/b1"
    assert "indexes/clothing/b2 can't be served any more" in result.value["notes"][0]


def test_a_named_target_needs_no_receipts(operator: Operator) -> None:
    _, b2, b3 = three_builds(operator)
    operator.commit(b3)

    assert rolled_back_to(operator, "--to", "b2") == str(b2)


def test_without_receipts_a_target_must_be_named(operator: Operator) -> None:
    operator.commit(three_builds(operator)[2])
    before = operator.generation()

    result = operator("rollback", "clothing")

    assert result.code == 66
    assert "indexpush rollback clothing --to <build> --environment production; newest by name: b2, b1" in result.err
    assert operator.generation() == before


def test_what_was_never_committed_has_nothing_to_go_back_to_and_is_named(operator: Operator) -> None:
    operator.deployed(operator.build("b1"))
    said = operator("rollback", "clothign")
    assert (said.code, "did you mean clothing?" in said.err) == (66, True)


def test_a_named_target_must_be_whole(operator: Operator) -> None:
    operator.commit(three_builds(operator)[2])
    store: Any = operator.store
    store.delete("indexes/clothing/b2/0.annoy")

    assert operator("rollback", "clothing", "--to", "b2").code == 65


def test_a_hold_is_respected_unless_released(operator: Operator) -> None:
    for prefix in three_builds(operator):
        operator.deployed(prefix)
    operator("rollback", "clothing", "--hold")

    assert operator("rollback", "clothing").code == 77
    assert rolled_back_to(operator, "--release", "--hold") == "indexes/clothing/b1"
    assert operator.live()["hold"] is True


def test_receipts_that_can_not_be_read_do_not_stop_a_rollback(operator: Operator) -> None:
    b1, _, b3 = three_builds(operator)
    operator.deployed(b1)
    operator.deployed(b3)
    operator.store.write("deployments/production/clothing/999.json", b"?", if_generation_match=0)
    operator.store.write("deployments/production/clothing/README.txt", b"?", if_generation_match=0)

    assert rolled_back_to(operator) == str(b1)


def test_help_says_that_a_spinnaker_leaves_no_receipts(capsys: Any, operator: Operator) -> None:
    try:
        operator("rollback", "--help")
    except SystemExit as end:
        assert end.code == 0  # noqa: PT017 - argparse ends the process after its help
    assert "where a real Spinnaker deploys there are none" in " ".join(capsys.readouterr().out.split())
