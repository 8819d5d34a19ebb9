from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from model_repository.documents.receipts.receipt import Outcome
from model_repository.names import Target

if TYPE_CHECKING:
    from tests.operator_cli.conftest import Operator

STAGING = Target("staging", "clothing")


def test_a_redeploy_uploads_the_same_build_as_a_new_generation(operator: Operator) -> None:
    before = operator.commit(operator.build("b1"), reason="spring")

    result = operator("redeploy", "clothing", "--by", "ada", "--output", "json")

    assert result.code == 0
    assert result.value["generation"] == operator.generation() != before
    assert operator.live() == {"index_prefix": "indexes/clothing/b1", "by": "ada", "reason": "spring"}


def test_a_redeploy_keeps_a_hold(operator: Operator) -> None:
    operator.commit(operator.build("b1"), hold=True)

    assert operator("redeploy", "clothing").code == 0
    assert operator.live()["hold"] is True


def test_a_redeploy_can_end_a_hold_or_add_one(operator: Operator) -> None:
    operator.commit(operator.build("b1"))

    operator("redeploy", "clothing", "--hold")
    assert operator.live()["hold"] is True

    operator("redeploy", "clothing", "--release")
    assert "hold" not in operator.live()


def test_why_a_commit_was_on_hold_goes_with_the_hold(operator: Operator) -> None:
    operator.commit(operator.build("b1"), hold=True, reason="shoes find shirts")
    operator("redeploy", "clothing")
    assert operator.live()["reason"] == "shoes find shirts"
    operator("redeploy", "clothing", "--release")
    assert operator.live()["reason"].startswith("ends the hold of ")
    operator("redeploy", "clothing")
    assert "reason" not in operator.live()
    operator("redeploy", "clothing", "--hold", "--reason", "a sale")
    operator("redeploy", "clothing", "--release", "--reason", "the sale is over")
    operator("redeploy", "clothing")
    assert operator.live()["reason"] == "the sale is over"


@pytest.mark.parametrize(
    "command", [("redeploy", "clothing"), ("commit", "clothing", "b2"), ("rollback", "clothing", "--to", "b2")]
)
@pytest.mark.parametrize("again", [(), ("--hold",)])
def test_what_releases_a_hold_says_whose_it_was_and_why(
    operator: Operator, command: tuple[str, ...], again: tuple[str, ...]
) -> None:
    held = operator.commit(operator.build("b1"), hold=True, by="ada", reason="shoes find shirts")
    operator.build("b2")
    assert operator(*command, *again, "--release", "--reason", "mended").code == 0
    assert operator.live()["reason"] == f"mended; ends the hold of ada (generation {held}): shoes find shirts"


def test_whose_hold_it_was_is_cut_off_before_the_words_of_who_releases_it(operator: Operator) -> None:
    operator.commit(operator.build("b1"), hold=True, by="ada", reason="x" * 1000)
    assert operator("redeploy", "clothing", "--release", "--reason", "y" * 990).code == 0
    assert operator.live()["reason"] == f"{'y' * 990}; ends the"
    operator.commit(operator.build("b1"), hold=True)
    refused = operator("redeploy", "clothing", "--release", "--reason", "y" * 1001)
    assert (refused.code, "mend --by or --reason" in refused.err) == (64, True)


def test_nothing_to_redeploy_names_what_there_is(operator: Operator) -> None:
    operator.commit(operator.build("b1"), target=STAGING)
    operator.commit(operator.build("b1", index="shoes"), target=Target("production", "shoes"))

    elsewhere = operator("redeploy", "clothing")
    misspelt = operator("redeploy", "shoe")

    assert (elsewhere.code, misspelt.code) == (66, 66)
    assert "it is committed in: staging" in elsewhere.err
    assert "did you mean shoes?" in misspelt.err
    assert "commit a build first" not in elsewhere.err + misspelt.err, "a slip is no reason to commit"
    assert "commit a build first: indexpush commit hats" in operator("redeploy", "hats").err


def test_a_first_commit_to_an_environment_says_which_there_are_and_the_very_first_nothing(operator: Operator) -> None:
    b1 = operator.build("b1")
    assert "nothing was committed in" not in operator("commit", "clothing", "b1").out
    operator.deployed(b1)

    for mistyped in (
        operator("promote", "clothing", "--from", "production", "--to", "prodution", "--dry-run"),
        operator("commit", "clothing", "b1", "--environment", "prodution"),
    ):
        assert mistyped.code == 0
        assert "nothing was committed in 'prodution' before; did you mean production?" in mistyped.out
    assert "nothing was committed in" not in operator("commit", "clothing", "b1", "--environment", "prodution").out


def test_a_malformed_commit_is_not_redeployed_and_the_mend_is_named(operator: Operator) -> None:
    operator.store.write(operator.target.commit_name, b'{"indx_prefix": "x"}', if_generation_match=0)

    result = operator("redeploy", "clothing", "--output", "json")

    assert result.code == 65
    assert "indexpush commit clothing <build> --environment production" in result.value["error"]["message"]


def test_a_broken_build_is_not_redeployed(operator: Operator) -> None:
    operator.commit(operator.build("b1"))
    operator.store.write("indexes/clothing/b1/0.annoy", b"", if_generation_match=None)

    assert operator("redeploy", "clothing").code == 65


def test_promotion_takes_what_staging_serves_not_what_it_has_committed(operator: Operator) -> None:
    operator.deployed(operator.build("b1"), target=STAGING)
    operator.deployed(operator.build("b2"), Outcome.UNDONE, target=STAGING)

    result = operator("promote", "clothing", "--from", "staging", "--to", "production")

    assert result.code == 0
    assert operator.live()["index_prefix"] == "indexes/clothing/b1"
    assert "promoted from staging" in operator.live()["reason"]
    assert "staging has committed indexes/clothing/b2, but serves indexes/clothing/b1" in result.out


def test_what_staging_does_not_serve_is_not_promoted(operator: Operator) -> None:
    operator.commit(operator.build("b1"), target=STAGING)

    result = operator("promote", "clothing", "--from", "staging", "--to", "production")

    assert result.code == 66
    assert "indexpush commit clothing <build> --environment production" in result.err
    assert operator.generation() == 0


def test_a_mistyped_environment_is_promoted_from_by_nobody_and_those_that_there_are_are_named(
    operator: Operator,
) -> None:
    operator.deployed(operator.build("b1"), target=STAGING)
    said = operator("promote", "clothing", "--from", "stagin", "--to", "production")
    assert said.code == 66
    assert "nothing is committed for 'clothing' in 'stagin'; it is committed in: staging" in said.err


def test_promoting_twice_writes_once(operator: Operator) -> None:
    operator.deployed(operator.build("b1"), target=STAGING)
    argv = ("promote", "clothing", "--from", "staging", "--to", "production", "--output", "json")

    first, second = operator(*argv).value, operator(*argv).value

    assert (first["written"], second["written"]) == (True, False)
    assert second["generation"] == first["generation"] == operator.generation()


def test_a_promotion_that_was_undone_may_be_tried_again(operator: Operator) -> None:
    prefix = operator.build("b1")
    operator.deployed(prefix, target=STAGING)
    operator.deployed(prefix, Outcome.UNDONE)

    result = operator("promote", "clothing", "--from", "staging", "--to", "production", "--output", "json")

    assert result.value["written"] is True


def test_promotion_respects_a_hold_in_production(operator: Operator) -> None:
    operator.deployed(operator.build("b2"), target=STAGING)
    operator.commit(operator.build("b1"), hold=True)

    assert operator("promote", "clothing", "--from", "staging", "--to", "production").code == 77
    assert operator("promote", "clothing", "--from", "staging", "--to", "production", "--release").code == 0


def test_a_hold_does_not_stop_a_promotion_of_what_is_there_already(operator: Operator) -> None:
    prefix = operator.build("b1")
    operator.deployed(prefix, target=STAGING)
    operator.commit(prefix, hold=True)

    result = operator("promote", "clothing", "--from", "staging", "--to", "production", "--hold", "--release")

    assert result.code == 0
    assert "nothing is written" in result.out


def test_a_reason_that_is_no_text_is_refused_by_name(operator: Operator) -> None:
    operator.deployed(operator.build("b1"))
    before = operator.generation()
    said = operator("redeploy", "clothing", "--reason", "\udce9t\udce9")  # Latin-1, where UTF-8 is expected
    assert (said.code, "reason: expected 0 to 1000 printable characters; mend" in said.err) == (64, True)
    assert operator.generation() == before
