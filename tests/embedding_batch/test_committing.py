"""When a run commits, and replaces what somebody else committed; and what becomes of one that died on the way."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from embedding_batch.errors import CommitLost
from embedding_batch.events import StepEnded, Warned
from model_repository.bucket.store import ObjectInfo
from model_repository.documents.commit import Commit
from model_repository.documents.files import check_files
from model_repository.errors import BucketUnavailable, DeliveryError, DocumentMalformed, GenerationConflict
from model_repository.names import IndexPrefix, Target
from model_repository.repository import read_live_commit, write_commit
from tests.embedding_batch.conftest import B1, B2, TARGET

if TYPE_CHECKING:
    from tests.embedding_batch.conftest import Shop


def test_a_commit_on_hold_is_left_alone_while_builds_go_on_being_published(shop: Shop) -> None:
    shop.batch("b1")
    held = write_commit(shop.store, TARGET, Commit(B1, "ann", "b2 is bad", hold=True), if_generation_match=None)
    report = shop.batch("b2")
    said = {"outcome": "held", "generation": held.generation, "held_by": "ann", "held_because": "b2 is bad"}
    assert said.items() <= report.items()
    assert f"none: generation {held.generation} is on hold by ann (b2 is bad)" in shop.last_detail
    assert read_live_commit(shop.store, TARGET) == held
    assert shop.store.stat(B2.manifest) is not None


def test_a_run_may_publish_without_committing(shop: Shop) -> None:
    report = shop.batch(commits=False)
    assert (report["outcome"], report["generation"]) == ("published", None)
    assert shop.last_detail == "none asked for"
    assert shop.store.stat(B1.manifest) is not None
    assert shop.store.stat(TARGET.commit_name) is None


def test_whoever_commits_while_the_batch_runs_wins(shop: Shop) -> None:
    shop.batch("b1")

    def commit_meanwhile(event: object) -> None:
        if isinstance(event, StepEnded) and event.step == "publish":
            write_commit(shop.store, TARGET, Commit(B1, "ann", "a rollback"), if_generation_match=None)

    shop.events = type("Listening", (list,), {"append": staticmethod(commit_meanwhile)})()
    for _ in range(2):  # another try can't end otherwise
        with pytest.raises(CommitLost, match=rf"{B1} was committed by ann \(a rollback\).*{B2} is published and not"):
            shop.batch("b2")
    assert read_live_commit(shop.store, TARGET).commit.by == "ann"
    report = json.loads(shop.store.read("reports/shop/b2.json", limit=2**20).data)
    (error,) = report["errors"]
    assert (report["outcome"], error["step"], error["code"]) == ("failed", "commit", "commit-lost")
    assert "committed by ann" in error["message"]


@pytest.mark.parametrize("left", [b"not a commit", b""])
def test_a_commit_that_became_unreadable_or_was_deleted_while_the_batch_ran_is_a_conflict_too(
    shop: Shop, left: bytes
) -> None:
    shop.batch("b1")

    def meddle(event: object) -> None:
        if isinstance(event, StepEnded) and event.step == "publish":
            shop.store.write(TARGET.commit_name, left, if_generation_match=None)
            if not left:
                shop.store.delete(TARGET.commit_name)

    shop.events = type("Listening", (list,), {"append": staticmethod(meddle)})()
    with pytest.raises(CommitLost, match="indexes/shop/b2 is published"):
        shop.batch("b2")


@pytest.mark.parametrize("arrives", [True, False])
@pytest.mark.parametrize(
    "told", [GenerationConflict("commits/production/shop.json", 0), BucketUnavailable("no answer")]
)
def test_a_commit_whose_answer_got_lost_is_known_again(shop: Shop, told: DeliveryError, *, arrives: bool) -> None:
    shop.batch("b1")
    write = shop.store.write

    def lose_the_answer(name: str, data: bytes, *, if_generation_match: int | None) -> ObjectInfo:
        if name != TARGET.commit_name:
            return write(name, data, if_generation_match=if_generation_match)
        if arrives:
            write(name, data, if_generation_match=if_generation_match)
        raise told

    shop.store.write = lose_the_answer  # type: ignore[method-assign]
    if arrives:
        assert shop.batch("b2")["generation"] == read_live_commit(shop.store, TARGET).generation
    else:
        with pytest.raises(type(told)):
            shop.batch("b2")


@pytest.mark.parametrize("place", [0, 0.2, 0.4, 0.6, 0.8, 0.9])
def test_a_run_that_dies_while_it_writes_leaves_no_index_json_and_goes_on_where_it_stood(
    shop: Shop, new_shop: Callable[[], Shop], place: float
) -> None:
    other = new_shop()
    other.batch()
    whole = [name for name, _ in other.store.writes]
    writes = int(place * whole.index(B1.manifest))
    shop.store.breaks_after = writes
    with pytest.raises(KeyboardInterrupt):
        shop.batch()
    assert len(shop.store.writes) == writes
    assert shop.store.stat(B1.manifest) is None
    assert shop.store.stat(TARGET.commit_name) is None
    records = {name for name, _ in shop.store.writes if name.endswith(".json") and name.startswith("shards/")}
    shop.store.breaks_after = None
    assert shop.batch()["generation"] == read_live_commit(shop.store, TARGET).generation
    check_files(str(B1), shop.manifest().files, shop.store.listing(str(B1)))
    again = [name for name, _ in shop.store.writes[writes:]]
    assert not records & set(again), "a step that was done is not done again"
    assert not any(path.is_dir() for path in (shop.config.cache / "scratch").iterdir())


@pytest.mark.parametrize("after", ["index.json", "commit.json"])
def test_a_run_that_dies_in_its_last_steps_commits_once(shop: Shop, after: str) -> None:
    write = shop.store.write

    def die(name: str, data: bytes, *, if_generation_match: int | None) -> ObjectInfo:
        if name == {"index.json": TARGET.commit_name, "commit.json": "shards/shop/b1/commit.json"}[after]:
            raise KeyboardInterrupt
        return write(name, data, if_generation_match=if_generation_match)

    shop.store.write = die  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        shop.batch()
    before = [name for name, _ in shop.store.writes]
    shop.store.write = write  # type: ignore[method-assign]
    report = shop.batch()
    assert report["generation"] == read_live_commit(shop.store, TARGET).generation
    assert report["outcome"] == "committed"
    names = [name for name, _ in shop.store.writes]
    assert names.count(TARGET.commit_name) == 1
    assert B1.manifest in before
    assert names.count(B1.manifest) == 1


def test_a_run_that_committed_and_died_before_its_report_is_reported_by_its_next_try(shop: Shop) -> None:
    done = shop.batch("b1")
    shop.store.write("reports/shop/b1.json", b'{"outcome": "failed"}', if_generation_match=None)  # of the try before
    assert shop.batch("b1") == done
    shop.store.delete("reports/shop/b1.json")
    assert shop.batch("b1") == done == json.loads(shop.store.read("reports/shop/b1.json", limit=2**20).data)


def test_a_committed_build_that_cannot_be_read_is_replaced(shop: Shop) -> None:
    write_commit(shop.store, TARGET, Commit(IndexPrefix("shop", "gone")), if_generation_match=0)
    assert shop.batch()["generation"] == read_live_commit(shop.store, TARGET).generation
    assert any("indexes/shop/gone" in event.message for event in shop.events if isinstance(event, Warned))


def test_a_first_commit_to_an_environment_tells_of_the_others_for_it_may_be_mistyped(shop: Shop) -> None:
    other = Target("prodution", TARGET.index)  # which the batch has mistaken for another one
    assert shop.batch()["generation"]
    assert [event for event in shop.events if isinstance(event, Warned)] == []
    shop.store.delete(TARGET.commit_name)
    write_commit(shop.store, other, Commit(IndexPrefix("shop", "gone")), if_generation_match=0)
    assert shop.batch("b2", options={"always": True})["generation"]
    (warning,) = [event.message for event in shop.events if isinstance(event, Warned)]
    assert warning.startswith(f"nothing was committed in {TARGET.environment!r} before")
    assert warning.endswith("there are the environments prodution")


def test_a_commit_that_makes_no_sense_is_not_replaced_for_it_might_say_hold(shop: Shop) -> None:
    shop.store.write(TARGET.commit_name, b'{"index_prefix": "indexes/shop/b0", "hodl": true}', if_generation_match=0)
    with pytest.raises(DocumentMalformed, match="hodl"):
        shop.batch()
    assert shop.store.bytes_by_name[TARGET.commit_name].endswith(b'"hodl": true}')
    assert shop.store.stat(B1.manifest) is None
