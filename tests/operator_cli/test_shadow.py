"""indexpush shadow and compare: a build beside its index, and how alike the two answer, asked of real servers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from model_repository.documents.commit import Commit
from model_repository.documents.receipts.address import Address
from model_repository.documents.receipts.receipt import Outcome
from model_repository.documents.receipts.shadow_comparison import (
    Difference,
    Questions,
    describe_comparison,
    parse_shadow_comparison,
)
from model_repository.errors import DocumentMalformed, ObjectMissing
from model_repository.names import IndexPrefix, Target
from model_repository.repository import read_shadow_comparison, write_address, write_commit, write_receipt
from operator_cli.commands.compare import Compared, for_people
from tests import builds
from tests.answering import Answer, as_json, http_server
from tests.memory_store import MemoryStore
from tests.operator_cli.conftest import Operator
from tests.search_server.conftest import PREFIX, make_build
from tests.search_server.vector_builds import make_vector_build

SHADOW = Target("production", "clothing-shadow")
KEPT = Target("production", PREFIX.index).shadow
"""Of what the servers here serve."""


def test_a_shadow_is_a_commit_beside_the_index_which_is_not_touched(operator: Operator) -> None:
    b1, b2 = operator.build("b1", age=2), operator.build("b2")
    operator.deployed(b1)
    before = operator.generation()
    said = operator("shadow", "clothing", "b2", "--by", "ada", "--reason", "v2", "--output", "json").value
    assert (said["action"], said["index"], said["index_prefix"]) == ("shadow", "clothing-shadow", str(b2))
    assert operator.live(SHADOW) == {"index_prefix": str(b2), "by": "ada", "reason": "v2"}
    assert operator.generation() == before


def test_a_shadow_that_somebody_committed_meanwhile_is_not_ended() -> None:
    class Overtaken(MemoryStore):
        def delete(self, name: str, *, if_generation_match: int | None = None) -> None:
            write_commit(self, SHADOW, Commit(IndexPrefix("clothing", "b3"), by="bob"), if_generation_match=None)
            super().delete(name, if_generation_match=if_generation_match)

    operator = Operator(Overtaken("shop"))
    operator.build("b2")
    operator("shadow", "clothing", "b2")
    said = operator("shadow", "clothing", "--off")
    assert said.code == 75
    assert "it is now indexes/clothing/b3 (by bob)" in said.err
    assert operator.live(SHADOW)["by"] == "bob"


def test_what_the_shadow_serves_is_said_and_it_is_a_row_of_its_own(operator: Operator) -> None:
    b2 = operator.build("b2")
    operator("shadow", "clothing", "b2")
    info = operator.store.stat(SHADOW.commit_name)
    assert info is not None
    write_receipt(
        operator.store,
        builds.receipt(info.generation, target=SHADOW, outcome=Outcome.SERVED, index_prefix=b2),
    )
    (found,) = operator("shadow", "clothing", "--output", "json").value["targets"]
    assert (found["index"], found["state"]) == ("clothing-shadow", "served")
    assert "clothing-shadow" in operator("status").out


def test_a_shadow_ends_with_its_commit(operator: Operator) -> None:
    operator.build("b2")
    operator("shadow", "clothing", "b2")
    said = operator("shadow", "clothing", "--off")
    assert (said.code, "end with the next sweep" in said.out) == (0, True)
    with pytest.raises(ObjectMissing):
        operator.live(SHADOW)
    again = operator("shadow", "clothing", "--off")
    asked = operator("shadow", "clothing")
    for none in (again, asked):
        assert (none.code, "production/clothing has no shadow; begin one: indexpush shadow" in none.err) == (66, True)


def test_a_shadow_is_not_ended_to_try_that_out_nor_while_it_is_on_hold(operator: Operator) -> None:
    operator.build("b2")
    operator("shadow", "clothing", "b2", "--hold", "--by", "ada", "--reason", "a trial")
    held = operator("shadow", "clothing", "--off")
    assert (held.code, "on hold (ada: a trial)" in held.err) == (77, True)
    tried = operator("shadow", "clothing", "--off", "--release", "--dry-run")
    assert (tried.code, "would be deleted" in tried.out) == (0, True)
    assert operator("shadow", "clothing", "b2", "--off", "--release").code == 64
    assert operator.live(SHADOW)["hold"] is True
    assert operator("shadow", "clothing", "--off", "--release").code == 0
    assert operator.store.stat(SHADOW.commit_name) is None


def test_a_build_that_is_not_whole_or_of_another_index_is_no_shadow(operator: Operator) -> None:
    operator.build("b2", index="toys")
    assert operator("shadow", "clothing", "b9").code == 66
    assert operator("shadow", "clothing", "indexes/toys/b2").code == 64
    assert operator.store.stat(SHADOW.commit_name) is None


def test_no_name_is_too_long_for_an_index_and_too_long_for_its_shadow_in_silence(operator: Operator) -> None:
    index = "a" * 40
    operator.store.write(f"commits/production/{index}.json", b"{}", if_generation_match=0)
    said = operator("shadow", index, "b1")
    assert (said.code, "at most 40" in said.err) == (64, True)


@pytest.fixture
def committed(operator: Operator) -> int:
    """The commit of the shadow."""
    return operator.commit(PREFIX, target=KEPT)


@pytest.fixture
def two(committed: int, tmp_path: Path, start: Callable[..., Any]) -> tuple[str, str]:
    """Servers of two builds, an index and its shadow, which lacks a twentieth of the items."""
    builds_of = [make_vector_build(tmp_path / str(n), {"all": n}, 16, width=2000) for n in (200, 190)]
    serves = {"WORKERS": "1", "COMMIT_GENERATION": str(committed)}
    return tuple(start(build | serves).url for build in builds_of)  # type: ignore[return-value]


def test_answers_are_compared_item_by_item_and_the_least_alike_are_named(
    operator: Operator, two: tuple[str, str]
) -> None:
    addresses = ("--stable", two[0], "--shadow", two[1])
    (found,) = operator("compare", "clothing", *addresses, "--items", "200", "--output", "json").value["compared"]
    assert found["kind"] == "items"
    assert set(found["missing"]) == {f"all-{n}" for n in range(190, 200)}
    assert found["asked"] == 190
    assert 0.85 < found["overlap"] < 1
    assert 0.8 < found["rank_biased_overlap"] < 1
    assert len(found["worst"]) == 5
    assert found["worst"][0]["overlap"] <= found["worst"][-1]["overlap"] < 1
    assert all(found["milliseconds"][of]["p50"] > 0 for of in ("stable", "shadow"))
    text = operator("compare", "clothing", *addresses, "--items", "20")
    assert "overlap@10" in text.out


def test_the_least_alike_are_told_with_the_number_that_they_are_ordered_by() -> None:
    differences = (Difference("a", 0.7, 0.8), Difference("b", 0.8, 0.6), Difference("c", 1.0, 0.9))
    text = for_people({}, {}, [Compared(Questions.ITEMS, 10, differences, (), ((), ()))])
    assert text.endswith("least alike: b (0.80, 0.60)\n          least alike: a (0.70, 0.80)")


def test_an_overlap_that_is_too_low_ends_with_1(operator: Operator, two: tuple[str, str]) -> None:
    same = ("--stable", two[0], "--shadow", two[0], "--items", "10")
    assert operator("compare", "clothing", *same, "--least-overlap", "1").code == 0
    other = ("--stable", two[0], "--shadow", two[1], "--items", "200")
    assert operator("compare", "clothing", *other, "--least-overlap", "1").code == 1


def test_a_shadow_that_has_none_of_the_items_is_not_alike(
    operator: Operator, two: tuple[str, str], tmp_path: Path, start: Callable[..., Any]
) -> None:
    other = start(make_vector_build(tmp_path / "other", {"hats": 20}, 16, width=1000) | {"WORKERS": "1"})
    both = ("--stable", two[0], "--shadow", other.url, "--items", "10", "--least-overlap", "0.5")
    said = operator("compare", "clothing", *both, "--output", "json")
    (found,) = said.value["compared"]
    assert (said.code, found["asked"], len(found["missing"])) == (1, 0, 10)
    assert (found["overlap"], found["rank_biased_overlap"]) == (0.0, 0.0)


def test_golden_pictures_are_compared_where_the_index_has_one_model(
    operator: Operator, tmp_path: Path, start: Callable[..., Any]
) -> None:
    build = make_build(tmp_path / "current")
    server = start(build.environment() | {"WORKERS": "1"})
    for file in (tmp_path / "current" / "models").rglob("*"):
        if file.is_file():
            name = f"models/{file.relative_to(tmp_path / 'current' / 'models')}"
            operator.store.write(name, file.read_bytes(), if_generation_match=None)
    both = ("--stable", server.url, "--shadow", server.url, "--items", "5")
    compared = operator("compare", "clothing", *both, "--output", "json").value["compared"]
    assert [each["kind"] for each in compared] == ["items", "pictures"]
    assert (compared[1]["overlap"], compared[1]["rank_biased_overlap"]) == (1.0, 1.0)
    assert compared[1]["asked"] > 0


@pytest.fixture
def compared(two: tuple[str, str]) -> tuple[str, ...]:
    """Arguments that compare the two."""
    return ("compare", PREFIX.index, "--stable", two[0], "--shadow", two[1], "--items", "200")


def test_what_was_compared_is_kept_and_shown_beside_the_shadow_until_another_is_committed(
    operator: Operator, compared: tuple[str, ...], committed: int
) -> None:
    assert f"not yet: indexpush compare {PREFIX.index} --environment production" in operator("status").out
    operator.environ["CLOUDSDK_CORE_ACCOUNT"] = "ada@example.com"
    assert operator(*compared, "--least-overlap", "0.99").err == ""
    kept = read_shadow_comparison(operator.store, KEPT, committed)
    assert (kept.stable, kept.shadow, kept.by, kept.least_overlap) == (PREFIX, PREFIX, "ada@example.com", 0.99)
    (answers,) = kept.answers
    assert (answers.questions, answers.k, answers.asked, answers.missing) == ("items", 10, 190, 10)
    assert 0.85 < answers.overlap < 0.99
    assert len(answers.worst) == 5
    (found,) = operator("status", "--output", "json").value["targets"]
    assert (found["shadow"], found["compared"]) == (True, describe_comparison(kept))
    text = operator("status").out
    assert f"compared    with {PREFIX}, 0 s ago, by ada@example.com, less than the 0.99 that was asked for" in text
    assert f"190 items: overlap@10 {answers.overlap:.3f}" in text
    assert "10 that the shadow doesn't have, shadow p95" in text
    operator(*compared)
    assert read_shadow_comparison(operator.store, KEPT, committed).least_overlap == 0, "the newest stands"
    operator.commit(PREFIX, target=KEPT)
    assert operator("status", "--output", "json").value["targets"][0]["compared"] is None


def test_what_is_not_the_shadow_that_the_bucket_knows_is_shown_and_not_kept(
    operator: Operator, compared: tuple[str, ...], committed: int
) -> None:
    newer = operator.commit(PREFIX, target=KEPT)
    said = operator(*compared, "--output", "json")
    assert (said.code, said.value["compared"][0]["asked"]) == (0, 190)
    assert f"serves commit {committed}, and {KEPT.commit_name} is commit {newer}" in said.err
    elsewhere = operator(*compared, "--environment", "staging")
    assert f"commits/staging/{KEPT.index}.json is none" in elsewhere.err
    del operator.environ["INDEXPUSH_ENVIRONMENT"]
    assert "not kept for status and the board: say --environment" in operator(*compared).err
    assert list(operator.store.listing("comparisons/")) == []


def test_a_comparison_that_stands_elsewhere_or_is_of_another_index_is_refused(
    operator: Operator, compared: tuple[str, ...], committed: int
) -> None:
    operator(*compared)
    data = operator.store.read(KEPT.comparison_name(committed), limit=100_000).data
    with pytest.raises(DocumentMalformed, match="must stand where it says"):
        parse_shadow_comparison(data, KEPT, committed + 1)
    other = data.replace(str(PREFIX).encode(), b"indexes/other/b1", 1)
    with pytest.raises(DocumentMalformed, match="no build that"):
        parse_shadow_comparison(other, KEPT, committed)
    with pytest.raises(DocumentMalformed, match="unknown field 'more'"):
        parse_shadow_comparison(data.replace(b'"k"', b'"more": 1, "k"', 1), KEPT, committed)
    operator.store.write(KEPT.comparison_name(committed), b"{}", if_generation_match=None)
    assert operator("status", "--output", "json").value["targets"][0]["compared"] is None


def test_a_server_that_does_not_answer_is_named(operator: Operator) -> None:
    said = operator("compare", "clothing", "--stable", "http://127.0.0.1:9", "--shadow", "http://127.0.0.1:9")
    assert (said.code, "http://127.0.0.1:9" in said.err) == (75, True)


@pytest.mark.parametrize("answer", [as_json([]), as_json("hello"), as_json({"error": "not here"}, 404)])
def test_what_does_not_answer_as_a_search_server_is_named(operator: Operator, answer: Answer) -> None:
    with http_server(lambda _: answer) as url:
        said = operator("compare", "clothing", "--stable", url, "--shadow", url)
    assert (said.code, url in said.err) == (75, True)


def test_nobody_is_asked_for_a_shadow_that_there_is_not(operator: Operator) -> None:
    operator.deployed(operator.build("b1"))
    said = operator("compare", "clothing")
    assert (said.code, "production/clothing has no shadow; begin one" in said.err) == (66, True)


def test_an_index_and_its_shadow_are_asked_where_their_receipts_say_that_they_answer(
    operator: Operator, two: tuple[str, str], committed: int
) -> None:
    index = Target("production", PREFIX.index)
    generations = {index: operator.commit(PREFIX, target=index), KEPT: committed}
    for url, (target, generation) in zip(two, generations.items(), strict=True):
        write_address(operator.store, Address(target, generation, url))
        operator.receipt(generation, Outcome.SERVED, PREFIX, target=target)
    said = operator("compare", PREFIX.index, "--items", "200", "--output", "json")
    assert (said.code, said.value["compared"][0]["asked"]) == (0, 190)


def test_a_prefix_says_whose_shadow_it_may_be() -> None:
    prefix = IndexPrefix("clothing", "b1")
    assert SHADOW.takes(prefix)
    assert SHADOW.is_shadow_of(prefix)
    assert Target("production", "clothing").takes(prefix)
    assert not Target("production", "clothing").is_shadow_of(prefix)
    assert not Target("production", "shoes-shadow").takes(prefix)
