"""indexpush prune: what goes, what stays, and that nothing goes that somebody wants, whatever happens meanwhile."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import ModuleType
from typing import Any

import pytest

from model_repository.documents.items.item_filter import format_item_filter
from model_repository.documents.receipts.receipt import Outcome
from model_repository.documents.receipts.shadow_comparison import ShadowComparison
from model_repository.errors import AccessDenied
from model_repository.names import IndexPrefix, ModelPrefix, Target
from model_repository.repository import keep_last_good_filter, write_filter, write_shadow_comparison
from operator_cli.pruning import Folder, judge_models
from tests.operator_cli import features_simulation, prune_simulation
from tests.operator_cli.conftest import Operator

SIMULATIONS = (prune_simulation, features_simulation)
SEEDS = 500
"""Of each simulation; more of them: `./noxw -s prune_simulation`."""
LATER = timedelta(days=2)


@pytest.fixture
def later(operator: Operator) -> Operator:
    """An operator two days after everything was written."""
    operator.clock.moment = datetime.now(UTC) + LATER
    return operator


def names(store: Any, prefix: str) -> set[str]:
    return {"/".join(info.name.split("/")[:3]) for info in store.listing(prefix)}


def pruned(operator: Operator, *options: str) -> Any:
    said = operator("prune", "--output", "json", *options)
    assert said.code == 0, said.err
    return said.value


def test_builds_that_neither_serve_nor_served_lately_go_and_nothing_is_deleted_unless_asked(later: Operator) -> None:
    made = [later.build(f"b{n}", age=10 - n) for n in range(6)]
    for prefix in made[:5]:
        later.deployed(prefix)
    found = pruned(later, "--keep", "2")
    assert set(found["builds"]) == {f"indexes/clothing/b{n}" for n in (0, 1, 2, 5)}
    assert (found["applied"], len(names(later.store, "indexes/"))) == (False, 6)
    assert all(size > 0 for size in found["builds"].values())
    pruned(later, "--keep", "2", "--apply")
    assert names(later.store, "indexes/") == {f"indexes/clothing/b{n}" for n in (3, 4)}
    assert pruned(later, "--keep", "2", "--apply")["builds"] == {}


def test_every_environment_keeps_its_own_and_a_hold_and_a_shadow_keep_theirs(later: Operator) -> None:
    b1, b2, b3, b4 = (later.build(f"b{n}") for n in range(1, 5))
    later.deployed(b1, target=Target("staging", "clothing"))
    for prefix in (b2, b3):
        later.deployed(prefix)
    shadow = Target("production", "clothing").shadow
    later.receipt(later.commit(b4, target=shadow), Outcome.SERVED, b4, target=shadow)
    later("rollback", "clothing", "--to", "b2", "--hold")
    later.receipt(later.generation(), Outcome.SERVED, b2)
    assert set(pruned(later, "--keep", "1")["builds"]) == {"indexes/clothing/b3"}


def test_nothing_goes_of_an_index_while_a_commit_of_it_has_no_receipt(later: Operator) -> None:
    for number in range(3):
        later.deployed(later.build(f"b{number}"))
    later.build("t1", index="toys")
    later.commit(later.build("b3"))
    found = pruned(later, "--keep", "1", "--apply")
    assert found["waiting"] == {"clothing": "commits/production/clothing.json"}
    assert set(found["builds"]) == {"indexes/toys/t1"}
    assert len(names(later.store, "indexes/clothing/")) == 4


def test_each_commit_that_keeps_an_index_from_being_pruned_is_named_with_its_mend(later: Operator) -> None:
    """A slip, in a folder of no environment, keeps it so for ever: once it is deleted, all else is as before."""
    later.build("b0")
    later.deployed(later.build("b1"))
    for slip in ("productoin", "satging"):
        later.commit(later.build("b1"), target=Target(slip, "clothing"))
    found = pruned(later)
    names = ["commits/productoin/clothing.json", "commits/satging/clothing.json"]
    assert (found["waiting"], found["waiting_for"]) == ({"clothing": names[0]}, {"clothing": names})
    said = later("prune").out.splitlines()
    for name, line in zip(names, said, strict=False):
        assert line.startswith(f"clothing: nothing goes, because {name} neither serves nor was undone")
        assert f"indexpush status clothing --environment {name.split('/')[1]} says why" in line
        assert line.endswith(f": gcloud storage rm gs://{later.store.bucket}/{name}")
        later.store.delete(name)
    assert set(pruned(later, "--keep", "1", "--apply")["builds"]) == {"indexes/clothing/b0"}


def test_nothing_goes_while_the_live_commit_is_a_rejected_one(later: Operator) -> None:
    """The rollout of the commit before it may be going on, of which nothing is known yet."""
    later.deployed(later.build("b1"))
    later.commit(later.build("b0"))
    later.deployed(IndexPrefix("clothing", "b9"), Outcome.REJECTED)
    assert list(pruned(later, "--keep", "1", "--apply")["waiting"]) == ["clothing"]


def test_what_was_undone_leaves_what_served_before_it(later: Operator) -> None:
    later.deployed(later.build("b1"))
    later.deployed(later.build("b2"), Outcome.UNDONE)
    assert pruned(later, "--keep", "1", "--apply")["builds"] == {}


def test_what_is_young_stays_also_where_it_is_not_whole_yet(operator: Operator) -> None:
    operator.clock.moment = datetime.now(UTC) + timedelta(hours=23)
    operator.store.write("indexes/clothing/b7/partitions/0.annoy", b"x", if_generation_match=0)
    operator.build("b8")
    assert pruned(operator, "--apply")["builds"] == {}
    operator.clock.moment += timedelta(hours=2)
    assert set(pruned(operator, "--apply")["builds"]) == {"indexes/clothing/b7", "indexes/clothing/b8"}


def test_what_names_a_build_goes_first_so_that_nobody_finds_half_of_one(later: Operator) -> None:
    later.build("b1")
    deleted: list[str] = []
    delete = later.store.delete

    def noting(name: str, **options: Any) -> None:
        deleted.append(name)
        delete(name, **options)

    later.store.delete = noting  # type: ignore[method-assign]
    pruned(later, "--apply")
    assert deleted[0] == "indexes/clothing/b1/index.json"


def test_what_the_bucket_does_not_let_go_stays_whole_and_keeps_nothing_else(later: Operator) -> None:
    """An object on hold, or retained: Cloud Storage answers 403 to who would delete it."""
    held = {"indexes/clothing/b0/index.json", "indexes/clothing/b1/0.ids", "reports/clothing/b1.json"}
    for number in range(4):
        later.build(f"b{number}")
        later.store.write(f"reports/clothing/b{number}.json", b"x", if_generation_match=0)
    later.deployed(IndexPrefix("clothing", "b3"))
    delete = later.store.delete
    whole = {info.name for info in later.store.listing("indexes/clothing/b0/")}

    def denying(name: str, **options: Any) -> None:
        if name in held:
            raise AccessDenied(f"{name}: the bucket answered 403; grant the account that this runs as access")
        delete(name, **options)

    later.store.delete = denying  # type: ignore[method-assign]
    said = later("prune", "--keep", "1", "--apply", "--output", "json")
    assert (said.code, set(said.value["denied"])) == (77, held)
    assert set(said.value["builds"]) == {"indexes/clothing/b1", "indexes/clothing/b2"}
    left = {info.name for info in later.store.listing("indexes/clothing/") if "/b3/" not in info.name}
    assert left == whole | {"indexes/clothing/b1/0.ids"}
    text = later("prune", "--keep", "1", "--apply")
    assert text.code == 77
    assert "gcloud storage objects update gs://" in text.out
    assert "--no-temporary-hold --no-event-based-hold" in text.out


def test_models_go_when_no_build_that_stays_needs_them_and_the_newest_version_stays() -> None:
    now = datetime(2026, 11, 27, tzinfo=UTC)
    old, older = now - timedelta(days=40), now - timedelta(days=50)
    models = {
        ModelPrefix("shoes", "1"): Folder(older, 1),
        ModelPrefix("shoes", "2"): Folder(old, 1),
        ModelPrefix("home", "1"): Folder(older, 1),
        ModelPrefix("home", "2"): Folder(now - timedelta(days=3), 1),
        ModelPrefix("home", "3"): Folder(now, 1),
    }
    assert judge_models(models, [], now=now) == (ModelPrefix("home", "1"), ModelPrefix("shoes", "1"))
    assert judge_models(models, [ModelPrefix("shoes", "1")], now=now) == (ModelPrefix("home", "1"),)


def test_the_batchs_records_go_with_their_builds_but_for_the_newest(later: Operator) -> None:
    later.deployed(later.build("b2"))
    for kind in ("catalogues/clothing/{}.parquet", "reports/clothing/{}.json", "shards/clothing/{}/list.json"):
        for build in ("b1", "b2", "b3"):
            later.store.write(kind.format(build), b"x", if_generation_match=0)
    later.store.write("pictures/0123", b"x", if_generation_match=0)
    assert pruned(later, "--apply")["records"] == 3  # b1's; b3's are the newest
    assert not any("b1" in info.name for info in later.store.listing(""))
    assert later.store.stat("pictures/0123")


def test_how_a_shadow_compared_goes_with_the_build(later: Operator) -> None:
    later.deployed(later.build("b2"))
    shadow = later.target.shadow
    for generation, build in ((11, "b1"), (12, "b2")):
        prefix = IndexPrefix("clothing", build)
        compared = ShadowComparison(shadow, generation, prefix, prefix, later.clock.now(), (), 0.0)
        write_shadow_comparison(later.store, compared)
    later.store.write(f"{shadow.comparisons_prefix}14.json", b"{", if_generation_match=0)
    assert pruned(later, "--apply")["records"] == 1
    assert [info.name for info in later.store.listing("comparisons/")] == [
        shadow.comparison_name(generation) for generation in (12, 14)
    ]


# --- filters


def hidden_in(operator: Operator) -> set[str]:
    return {info.name for info in operator.store.listing("filters/") if info.name.endswith(".hidden")}


def test_lists_of_hidden_items_stay_while_a_filter_that_is_live_or_was_in_force_last_names_them(
    later: Operator,
) -> None:
    staging = Target("staging", "clothing")
    first, good, live = (write_filter(later.store, later.target, [item]) for item in "abc")
    other = write_filter(later.store, staging, ["a"])
    keep_last_good_filter(later.store, good, replacing=0)
    later.store.write(first.data.replace(".hidden", ".json"), b"no list", if_generation_match=0)
    found = pruned(later)
    assert (found["filters"], found["bytes_of"]["filters"], hidden_in(later)) == (
        1, first.filter.size, {first.data, good.data, live.data, other.data}
    )  # fmt: skip
    assert "1 list of hidden items (0.0 MB)" in later("prune").out
    assert pruned(later, "--apply")["filters"] == 1
    assert hidden_in(later) == {good.data, live.data, other.data}
    assert later.store.stat(first.data.replace(".hidden", ".json")) is not None
    later.store.delete(staging.filter_name)  # nothing is hidden there any more
    assert pruned(later, "--apply")["filters"] == 1
    assert hidden_in(later) == {good.data, live.data}


def test_young_lists_of_hidden_items_stay_and_those_of_an_index_whose_filter_makes_no_sense(operator: Operator) -> None:
    old, live = (write_filter(operator.store, operator.target, [item]) for item in "ab")
    assert pruned(operator, "--apply")["filters"] == 0
    operator.clock.moment = datetime.now(UTC) + LATER
    for name in (operator.target.last_good_filter_name, operator.target.filter_name):
        operator.store.write(name, b"{", if_generation_match=None)
        assert pruned(operator, "--apply")["filters"] == 0
        operator.store.delete(name)
    assert hidden_in(operator) == {old.data, live.data}
    assert pruned(operator, "--apply")["filters"] == 2


@pytest.mark.parametrize("when", ["it was judged", "it is deleted"])
def test_a_list_that_is_hidden_again_meanwhile_stays(later: Operator, when: str) -> None:
    """By who writes it again, and by who only names it again."""
    once, _ = (write_filter(later.store, later.target, [item]) for item in "ab")
    delete, read = later.store.delete, later.store.read
    asked = 0

    def reading(name: str, *, limit: int) -> Any:
        nonlocal asked
        found = read(name, limit=limit)
        asked += name == later.target.filter_name
        if when == "it was judged" and name == later.target.filter_name and asked == 1:
            later.store.write(name, format_item_filter(once.filter), if_generation_match=None)
        return found

    def deleting(name: str, *, if_generation_match: int | None = None) -> None:
        if when == "it is deleted" and name == once.data:
            write_filter(later.store, later.target, ["a"])
        delete(name, if_generation_match=if_generation_match)

    later.store.read, later.store.delete = reading, deleting  # type: ignore[method-assign]
    pruned(later, "--apply")
    assert once.data in hidden_in(later)


# --- features


def run_of(
    operator: Operator, build: str, *counts_on: str, embedded: tuple[str, ...] = (), index: str = "clothing"
) -> None:
    """What a run of the batch leaves, as far as it matters here; the embeddings, too, unless they are there."""
    folder = f"shards/{index}/{build}"
    said = {"plan": {}, "list": {"features": counts_on}, "embed-00000": {"features": embedded}}
    for record, its in said.items():
        operator.store.write(f"{folder}/{record}.json", json.dumps(its).encode(), if_generation_match=0)
    for name in (*counts_on, *embedded):
        if operator.store.stat(name) is None:
            operator.store.write(name, b"embeddings", if_generation_match=0)
    operator.store.write(f"catalogues/{index}/{build}.parquet", b"x", if_generation_match=0)


A, B, C, OLD = "features/k/a.arrow", "features/k/b.arrow", "features/k/c.arrow", "features/old/a.arrow"


def test_features_that_no_run_counts_on_go_and_those_of_every_run_that_stays_stay(later: Operator) -> None:
    run_of(later, "b1", A, B)
    run_of(later, "b2", B)
    run_of(later, "b3", index="toys", embedded=(C,))
    assert pruned(later, "--apply")["features"] == {"features/k": {"parts": 1, "bytes": 10}}  # b1's records go, too
    assert names(later.store, "features/") == {B, C}
    assert pruned(later, "--apply")["features"] == {}


def test_a_build_that_stays_keeps_what_its_run_counted_on(later: Operator) -> None:
    run_of(later, "b1", A)
    later.deployed(later.build("b1"))
    run_of(later, "b2", B)
    found = pruned(later, "--apply")
    assert (found["features"], found["features_wait"]) == ({}, "")


def test_features_of_another_model_stay_for_a_month_and_young_ones_for_a_day(operator: Operator) -> None:
    run_of(operator, "b1", A)
    for name in (B, OLD):
        operator.store.write(name, b"embeddings", if_generation_match=0)
    for days, goes in ((0, set()), (2, {"features/k"}), (31, {"features/k", "features/old"})):
        operator.clock.moment = datetime.now(UTC) + timedelta(days=days)
        assert set(pruned(operator)["features"]) == goes


def test_where_parts_were_merged_what_they_may_be_in_now_stays(later: Operator) -> None:
    later.store.write(C, b"of before", if_generation_match=0)
    run_of(later, "b1", A, B)
    later.store.write("features/k/merged.arrow", b"embeddings", if_generation_match=0)
    later.store.delete(A)
    assert pruned(later, "--apply")["features"] == {"features/k": {"parts": 1, "bytes": 9}}
    assert names(later.store, "features/") == {B, "features/k/merged.arrow"}


def test_no_features_go_while_a_run_may_be_looking_what_there_are(later: Operator) -> None:
    run_of(later, "b1", A)
    later.store.write(B, b"embeddings", if_generation_match=0)
    later.store.written = later.clock.moment  # type: ignore[attr-defined]
    later.store.write("shards/clothing/b2/plan.json", b"{}", if_generation_match=0)
    later.store.written = None  # type: ignore[attr-defined]
    found = pruned(later, "--apply")
    assert (found["features"], found["features_wait"]) == (
        {}, "shards/clothing/b2/plan.json has begun, and its list isn't made yet"
    )  # fmt: skip
    later.store.write("shards/clothing/b2/list.json", json.dumps({"features": [B]}).encode(), if_generation_match=0)
    pruned(later, "--apply")
    assert names(later.store, "features/") == {B}  # b1's records went, and with them what b1 alone counted on


def test_a_run_that_begins_while_features_are_deleted_stops_that(later: Operator) -> None:
    run_of(later, "b1", C)
    for name in (A, B):
        later.store.write(name, b"embeddings", if_generation_match=0)
    delete = later.store.delete

    def begun_meanwhile(name: str, **_: Any) -> None:
        delete(name)
        if name == A:
            later.store.write("shards/toys/t1/plan.json", b"{}", if_generation_match=0)

    later.store.delete = begun_meanwhile  # type: ignore[method-assign]
    found = pruned(later, "--apply")
    assert found["features"] == {"features/k": {"parts": 1, "bytes": 10}}
    assert found["features_wait"] == "shards/toys/t1/plan.json began meanwhile"
    assert names(later.store, "features/") == {B, C}


def test_a_run_that_is_begun_again_after_days_while_features_are_deleted_stops_that_too(later: Operator) -> None:
    run_of(later, "b1", C)
    later.store.write("shards/toys/t1/plan.json", b"{}", if_generation_match=0)
    for name in (A, B):
        later.store.write(name, b"embeddings", if_generation_match=0)
    delete = later.store.delete

    def begun_again(name: str, **_: Any) -> None:
        delete(name)
        if name == A:
            later.store.write("shards/toys/t1/plan.json", b"{}", if_generation_match=None)

    later.store.delete = begun_again  # type: ignore[method-assign]
    found = pruned(later, "--apply")
    assert found["features_wait"] == "shards/toys/t1/plan.json began meanwhile"
    assert names(later.store, "features/") == {B, C}


def test_records_of_a_run_that_still_writes_stay_however_old_its_first_are(later: Operator) -> None:
    run_of(later, "b1", A)
    run_of(later, "b2", B)  # the newest: b1 would go
    later.store.written = later.clock.moment - timedelta(hours=23)  # type: ignore[attr-defined]
    later.store.write("shards/clothing/b1/embed-00001.json", b'{"features": []}', if_generation_match=0)
    later.store.written += timedelta(minutes=1)  # type: ignore[attr-defined]
    later.store.write("shards/clothing/b2/embed-00001.json", b'{"features": []}', if_generation_match=0)
    later.store.written = None  # type: ignore[attr-defined]
    pruned(later, "--apply")
    assert later.store.stat("shards/clothing/b1/list.json") is not None
    assert names(later.store, "features/") == {A, B}
    later.clock.moment += timedelta(hours=2)
    pruned(later, "--apply")
    assert later.store.stat("shards/clothing/b1/list.json") is None
    assert names(later.store, "features/") == {B}


@pytest.mark.parametrize("said", [b"{}", b"no json", b"[]"])
def test_no_features_go_where_the_newest_list_does_not_say_what_it_counts_on(later: Operator, said: bytes) -> None:
    run_of(later, "b1", A)
    run_of(later, "b2", B)
    later.store.write("shards/clothing/b2/list.json", said, if_generation_match=None)
    later.store.write(C, b"embeddings", if_generation_match=0)
    found = pruned(later, "--apply")
    assert (found["features"], names(later.store, "features/")) == ({}, {A, B, C})
    assert "catalogues/clothing/ no record says" in found["features_wait"]


def test_people_read_what_goes_of_each_kind(later: Operator) -> None:
    run_of(later, "b1", A, B)
    run_of(later, "b2", B)
    later.deployed(later.build("b2"))
    said = later("prune").out
    assert "features/k        0.0 MB, 1 part" in said
    assert "would delete 0 builds (0.0 MB), 0 models (0.0 MB), 1 part of the features (0.0 MB), 4 records" in said


# --- whatever happens meanwhile


@pytest.mark.parametrize("simulation", SIMULATIONS, ids=["builds", "embeddings"])
def test_nothing_is_lost_that_may_be_wanted_whoever_commits_whatever_ends_and_which_batch_begins_meanwhile(
    simulation: ModuleType,
) -> None:
    found = [simulation.run(seed) for seed in range(SEEDS)]
    assert [result for result in found if result.lost] == []
    assert sum(result.deleted for result in found) > SEEDS / 5  # it does delete


@pytest.mark.parametrize("simulation", SIMULATIONS, ids=["builds", "embeddings"])
def test_a_seed_of_a_simulation_is_the_same_twice(simulation: ModuleType) -> None:
    assert [simulation.run(seed) for seed in range(20)] == [simulation.run(seed) for seed in range(20)]


@pytest.mark.parametrize("name", prune_simulation.FAULTS)
def test_a_planted_fault_is_found_that_loses_builds(name: str) -> None:
    with prune_simulation.FAULTS[name]():
        assert any(prune_simulation.run(seed).lost for seed in range(2000))


@pytest.mark.parametrize("name", features_simulation.FAULTS)
def test_a_planted_fault_is_found_that_loses_embeddings(name: str) -> None:
    with features_simulation.FAULTS[name]():
        assert any(features_simulation.run(seed).lost for seed in range(2000))


def test_a_commit_that_comes_between_judging_and_deleting_keeps_its_build(later: Operator) -> None:
    later.deployed(later.build("b1"))
    later.deployed(later.build("b2"))
    later.build("b0")
    listing: Callable[[str], Any] = later.store.listing
    calls = 0

    def committed_meanwhile(prefix: str) -> Any:
        nonlocal calls
        calls += prefix == "commits/"
        if calls == 3:
            calls += 1
            later.deployed(IndexPrefix("clothing", "b1"))
        return listing(prefix)

    later.store.listing = committed_meanwhile  # type: ignore[method-assign]
    found = pruned(later, "--keep", "1", "--apply")
    assert found["overtaken"] == ["indexes/clothing/b1"]
    assert "indexes/clothing/b1" in names(later.store, "indexes/")
