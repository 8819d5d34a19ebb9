"""indexpush prune: what goes, what stays, and that nothing goes that somebody wants, whatever happens meanwhile."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from model_repository.documents.commit import Commit
from model_repository.documents.receipt import Outcome
from model_repository.names import IndexPrefix, ModelPrefix, Target
from model_repository.repository import write_commit, write_receipt
from operator_cli.commands.prune import prune
from operator_cli.pruning import Folder, judge_models
from tests import builds
from tests.fake_clock import FakeClock
from tests.memory_store import MemoryStore
from tests.operator_cli.conftest import Operator

RUNS = int(os.environ.get("PRUNE_RUNS", "300"))
"""Of the simulation; `PRUNE_RUNS=100000` takes a quarter of an hour."""
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

    def noting(name: str) -> None:
        deleted.append(name)
        delete(name)

    later.store.delete = noting  # type: ignore[method-assign]
    pruned(later, "--apply")
    assert deleted[0] == "indexes/clothing/b1/index.json"


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


# --- whatever happens meanwhile


@dataclass
class World(MemoryStore):
    """A bucket in which people commit and rollouts end while it is being pruned."""

    seed: int = 0
    serving: dict[Target, IndexPrefix] = field(default_factory=dict)
    rolling: dict[Target, list[tuple[int, IndexPrefix]]] = field(default_factory=dict)
    busy: bool = False
    lost: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        MemoryStore.__init__(self, "shop", self.seed)
        self.dice = random.Random(self.seed)
        self.targets = [Target(environment, "shop") for environment in ("staging", "production")]
        self.targets.append(self.targets[1].shadow)
        self.model = builds.publish_model(self)
        for number in range(6):
            builds.publish_build(self, IndexPrefix("shop", f"b{number}"), self.model)

    def whole(self, prefix: IndexPrefix) -> bool:
        """As the function sees it."""
        return prefix.manifest in self._objects

    def happen(self) -> None:
        """One thing that somebody does, or a rollout's end."""
        target = self.dice.choice(self.targets)
        if self.dice.random() < 0.5:
            prefix = IndexPrefix("shop", f"b{self.dice.randrange(6)}")
            generation = write_commit(self, target, Commit(prefix), if_generation_match=None).generation
            if self.whole(prefix):
                self.rolling.setdefault(target, []).append((generation, prefix))
            else:
                self.end(target, generation, Outcome.REJECTED, prefix)
        elif rolling := self.rolling.get(target):
            generation, prefix = rolling.pop(0)
            # one that was displaced may end well before the newer one does
            outcome = self.dice.choice([Outcome.SERVED, Outcome.UNDONE, Outcome.SUPERSEDED])
            if outcome is Outcome.SUPERSEDED and not rolling:
                outcome = Outcome.SERVED
            if outcome is Outcome.SERVED and self.whole(prefix):
                self.serving[target] = prefix
            elif outcome is Outcome.SERVED:
                outcome = Outcome.UNDONE  # its pods can't pull
            self.end(target, generation, outcome, prefix)

    def end(self, target: Target, generation: int, outcome: Outcome, prefix: IndexPrefix) -> None:
        write_receipt(self, builds.receipt(generation, target=target, outcome=outcome, index_prefix=prefix))

    def meanwhile(self) -> None:
        if not self.busy and self.dice.random() < 0.2:
            self.busy = True
            self.happen()
            self.busy = False

    def read(self, name: str, *, limit: int) -> Any:
        self.meanwhile()
        return super().read(name, limit=limit)

    def listing(self, prefix: str) -> Any:
        self.meanwhile()
        return super().listing(prefix)

    def delete(self, name: str) -> None:
        super().delete(name)
        self.lost += [
            f"{target} serves {prefix}, whose {name} is gone"
            for target, prefix in self.serving.items()
            if name.startswith(f"{prefix}/")
        ]
        self.meanwhile()


def test_no_build_is_lost_that_serves_whoever_commits_and_whatever_ends_while_it_prunes() -> None:
    gone = 0
    for seed in range(RUNS):
        world = World(seed=seed)
        clock = FakeClock(datetime.now(UTC) + LATER)
        for _ in range(world.dice.randrange(12)):
            world.happen()
        for _ in range(2):
            found = prune(world, clock, keep=world.dice.randrange(1, 3), apply=True, said=lambda _: None)
            gone += len(found.builds)
            assert not world.lost, (seed, world.lost)
    assert gone > RUNS / 4  # it does delete


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
