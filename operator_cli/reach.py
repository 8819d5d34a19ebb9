"""Which embeddings the batch's runs count on, as their records below shards/ say."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Container
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from model_repository.bucket.store import ObjectInfo, Store
from model_repository.errors import DocumentMalformed, ObjectMissing
from operator_cli.pruning import YOUNG, Reach

FEATURES: Final = "features/"
_SHARDS: Final = "shards/"
_CATALOGUES: Final = "catalogues/"
_LIMIT: Final = 64 * 1024 * 1024
"""Most bytes of a record, as the batch has it."""
_PLAN, _LIST, _EMBED = "plan.json", "list.json", "embed-"


class Unsaid(Exception):
    """It isn't known of some run what it counts on."""


@dataclass(frozen=True, slots=True)
class Begun:
    """The plan of a run, and its generation: a run that begins anew writes it anew."""

    name: str
    generation: int


def runs_begun(store: Store) -> set[Begun]:
    """The plans of runs: the first thing that each writes, before it looks what is embedded."""
    return {Begun(info.name, info.generation) for info in store.listing(_SHARDS) if info.name.endswith(f"/{_PLAN}")}


def features_reached(store: Store, going: Container[str], now: datetime) -> list[Reach]:
    """What each run counts on. going: names of records that go; they count no more.

    Raises `Unsaid` where that isn't known: of a run that has begun within a day and not made its list yet, and of an
    index that has a catalogue, and whose newest list doesn't say, as those of releases before this one don't.
    """
    reached: list[Reach] = []
    newest: dict[str, tuple[datetime, bool]] = {}
    for folder, records in _runs(store, going).items():
        plan, listed = records.get(_PLAN), records.get(_LIST)
        if listed is None:
            if plan is not None and now - plan.updated < YOUNG:
                raise Unsaid(f"{plan.name} has begun, and its list isn't made yet")
            continue
        named = [_named(store, info) for record, info in records.items() if record != _PLAN]
        index = folder.split("/")[1]
        newest[index] = max((listed.updated, None not in named), newest.get(index, (listed.updated, False)))
        began = listed.updated if plan is None else min(plan.updated, listed.updated)
        reached.append(Reach(frozenset(name for names in named if names for name in names), began))
    for folder in store.folders(_CATALOGUES):
        _, says = newest.get(folder.removeprefix(_CATALOGUES).rstrip("/"), (now, False))
        if not says:
            raise Unsaid(f"of {folder} no record says what its newest run counts on; the next one will")
    return reached


def _runs(store: Store, going: Container[str]) -> dict[str, dict[str, ObjectInfo]]:
    """The records that matter here, by the folder of the run and their own names."""
    found: dict[str, dict[str, ObjectInfo]] = defaultdict(dict)
    for info in store.listing(_SHARDS):
        folder, _, record = info.name.rpartition("/")
        if info.name not in going and (record in {_PLAN, _LIST} or record.startswith(_EMBED)):
            found[folder][record] = info
    return found


def _named(store: Store, info: ObjectInfo) -> tuple[str, ...] | None:
    """The parts that a record names; None: it doesn't say."""
    try:
        said = json.loads(store.read(info.name, limit=_LIMIT).data)
        return tuple(str(name) for name in said["features"])
    except (ObjectMissing, DocumentMalformed, ValueError, LookupError, TypeError):
        return None
