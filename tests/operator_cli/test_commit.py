"""`indexpush commit`: which build is meant, that it is whole, and whose commit it replaces."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from model_repository.bucket.store import ObjectInfo, Store
from model_repository.errors import AccessDenied, BucketUnavailable
from tests.memory_store import MemoryStore

if TYPE_CHECKING:
    from tests.operator_cli.conftest import Operator


@pytest.mark.parametrize(
    "said",
    [
        "b1",
        "indexes/clothing/b1",
        "indexes/clothing/b1/",
        "indexes/clothing/b1/index.json",
        "gs://shop/indexes/clothing/b1/index.json",
    ],
)
def test_a_build_is_named_as_a_person_copies_it(operator: Operator, said: str) -> None:
    operator.build("b1")

    result = operator("commit", "clothing", said, "--by", "ada", "--reason", "spring")

    assert result.code == 0
    assert operator.live() == {"index_prefix": "indexes/clothing/b1", "by": "ada", "reason": "spring"}
    assert str(operator.generation()) in result.out


def test_a_first_commit_and_a_later_one_say_what_they_replace(operator: Operator) -> None:
    operator.build("b1")
    operator.build("b2")

    first = operator("commit", "clothing", "b1", "--output", "json").value
    second = operator("--output=json", "commit", "clothing", "b2").value

    assert first["replaced"] is None
    assert second["replaced"] == {"generation": first["generation"], "index_prefix": "indexes/clothing/b1"}
    assert second["generation"] != first["generation"]


def test_a_wrong_name_suggests_near_and_new_builds(operator: Operator) -> None:
    for name in ("20261121t1000z", "20261121t1100z", "20261121t1200z", "20261101t0000z"):
        operator.build(name)

    result = operator("commit", "clothing", "20261121t1000")

    assert result.code == 66
    assert "did you mean 20261121t1000z" in result.err
    assert "newest by name: 20261121t1200z, 20261121t1100z" in result.err
    assert operator.generation() == 0


def test_a_wrong_index_suggests_near_indexes(operator: Operator) -> None:
    operator.build("b1")

    result = operator("commit", "cloting", "b1")

    assert result.code == 66
    assert "did you mean clothing?" in result.err


def test_a_build_that_is_still_being_uploaded_is_refused(operator: Operator) -> None:
    operator.build("b1")
    operator.store.write("indexes/clothing/b2/0.annoy", b"half", if_generation_match=0)

    result = operator("commit", "clothing", "b2")

    assert result.code == 66
    assert "no index.json" in result.err
    assert "newest by name: b1" in result.err


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda store: store.delete("indexes/clothing/b1/0.annoy"), "0.annoy"),
        (lambda store: store.write("indexes/clothing/b1/0.annoy", b"x", if_generation_match=None), "0.annoy"),
        (lambda store: store.write("indexes/clothing/b1/index.json", b"{", if_generation_match=None), "not JSON"),
        (lambda store: store.delete("models/effnet/v1/model.json"), "isn't in the bucket"),
        (lambda store: store.delete("models/effnet/v1/model.onnx"), "model.onnx"),
    ],
)
def test_a_build_that_is_not_whole_is_refused_before_the_commit(
    operator: Operator, spoil: Callable[[Any], None], words: str
) -> None:
    operator.build("b1")
    spoil(operator.store)

    result = operator("commit", "clothing", "b1")

    assert result.code == 65
    assert words in result.err
    assert operator.generation() == 0


def test_a_build_of_another_model_than_the_buckets_is_refused(operator: Operator) -> None:
    operator.build("b1")
    name = "models/effnet/v1/model.json"
    changed = operator.store.read(name, limit=10_000).data.replace(b"224", b"240")
    operator.store.write(name, changed, if_generation_match=None)

    result = operator("commit", "clothing", "b1")

    assert result.code == 65
    assert "models are immutable" in result.err


def test_a_build_that_claims_other_dimensions_for_its_model_is_refused(operator: Operator) -> None:
    operator.build("b1", dimensions=5)

    result = operator("commit", "clothing", "b1")

    assert result.code == 65
    assert "says that models/effnet/v1 makes vectors of 5 dimensions, but it makes 4" in result.err


@pytest.mark.parametrize(
    "said", ["indexes/shoes/b1", "models/clothing/b1", "../b1", "B1", "gs://other/indexes/clothing/b1", "a/b/c/d"]
)
def test_what_can_not_be_a_build_of_this_index_is_wrong_usage(operator: Operator, said: str) -> None:
    operator.build("b1")

    result = operator("commit", "clothing", said)

    assert result.code == 64
    assert result.err.count("\n") == 1


def test_a_commit_on_hold_is_replaced_only_with_release(operator: Operator) -> None:
    operator.commit(operator.build("b1"), hold=True, by="ada", reason="b2 finds no shoes")
    operator.build("b2")
    before = operator.generation()

    refused = operator("commit", "clothing", "b2")
    also_refused = operator("commit", "clothing", "b2", "--hold")

    assert (refused.code, also_refused.code) == (77, 77)
    assert "ada: b2 finds no shoes" in refused.err
    assert operator.generation() == before

    assert operator("commit", "clothing", "b2", "--release").code == 0
    assert "hold" not in operator.live()


def test_a_new_commit_can_be_put_on_hold(operator: Operator) -> None:
    operator.build("b1")

    result = operator("commit", "clothing", "b1", "--hold")

    assert operator.live()["hold"] is True
    assert "on hold" in result.out


def test_a_malformed_commit_can_be_committed_over(operator: Operator) -> None:
    operator.build("b1")
    operator.store.write(operator.target.commit_name, b"oops", if_generation_match=0)

    result = operator("commit", "clothing", "b1", "--output", "json")

    assert result.code == 0
    assert result.value["replaced"]["index_prefix"] is None


def test_a_commit_object_too_large_to_read_can_be_committed_over(operator: Operator) -> None:
    operator.build("b1")
    operator.store.write(operator.target.commit_name, b"{" * 10_000_000, if_generation_match=0)

    assert operator("commit", "clothing", "b1").code == 0


class _Interfering(MemoryStore):
    """Somebody else writes `theirs` just before our commit."""

    theirs: Callable[[bytes], bytes]

    def write(self, name: str, data: bytes, *, if_generation_match: int | None) -> ObjectInfo:
        if name.startswith("commits/") and if_generation_match is not None:
            super().write(name, self.theirs(data), if_generation_match=None)
        return super().write(name, data, if_generation_match=if_generation_match)


def test_two_operators_do_not_overwrite_one_another_blindly(operator_of: Callable[[Store], Operator]) -> None:
    store = _Interfering("shop")
    operator = operator_of(store)
    store.theirs = lambda _: b'{"index_prefix": "indexes/clothing/b9", "by": "bob"}'
    operator.build("b1")

    result = operator("commit", "clothing", "b1", "--output", "json")

    assert result.code == 75
    assert result.value["error"]["code"] == "generation-conflict"
    assert "it is now indexes/clothing/b9 (by bob)" in result.err
    assert operator.live()["by"] == "bob"


def test_a_dry_run_checks_everything_and_writes_nothing(operator: Operator) -> None:
    operator.build("b1")

    result = operator("commit", "clothing", "b1", "--dry-run", "--wait")

    assert result.code == 0
    assert "would commit indexes/clothing/b1" in result.out
    assert operator.generation() == 0


def test_a_reason_that_the_contract_refuses_is_not_written(operator: Operator) -> None:
    operator.build("b1")

    result = operator("commit", "clothing", "b1", "--reason", "x" * 1001)

    assert result.code == 64
    assert "reason" in result.err
    assert operator.generation() == 0


@pytest.mark.parametrize(
    ("failure", "code", "name"),
    [
        (BucketUnavailable("commits: no answer; it may pass"), 75, "bucket-unavailable"),
        (AccessDenied("commits: the bucket answered 403"), 77, "access-denied"),
    ],
)
def test_a_bucket_that_does_not_let_us_is_one_line_and_a_code(
    operator_of: Callable[[Store], Operator], failure: Exception, code: int, name: str
) -> None:
    class Closed(MemoryStore):
        def read(self, *_: Any, **__: Any) -> Any:
            raise failure

    result = operator_of(Closed("shop"))("commit", "clothing", "b1", "--output", "json")

    assert result.code == code
    assert result.value["error"]["code"] == name
    assert result.err.startswith("indexpush: ")
    assert result.err.count("\n") == 1
