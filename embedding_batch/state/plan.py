"""What a run was asked for: written first, so that every step of it works by the same options."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from embedding_batch.errors import NameTaken, StepMissing
from embedding_batch.state.folder import RECORD_LIMIT, RunFolder, read_record
from model_repository.bucket.store import Store
from model_repository.errors import GenerationConflict, ObjectMissing
from model_repository.fields import format_document, format_moment
from model_repository.names import IndexPrefix

if TYPE_CHECKING:
    from embedding_batch.config import Config


@dataclass(frozen=True, slots=True)
class Plan:
    """options: of the command line, as `config` reads them. created: when the run began, in UTC."""

    options: Mapping[str, Any]
    created: datetime


def open_plan(store: Store, config: Config, now: datetime) -> Plan:
    """Write the plan of a run, or read it where the run was begun before.

    Where it made no list yet, the same is written again: by that whoever prunes knows that somebody is about to look
    what is embedded, also where that is after days. Raises NameTaken where it was begun with other options.
    """
    name = _name(store, config.prefix)
    try:
        said = {"created": format_moment(now), "options": config.options}
        store.write(name, format_document(said), if_generation_match=0)
    except GenerationConflict:
        if store.stat(f"{RunFolder(store, config.prefix)}/list.json") is None:
            with suppress(GenerationConflict):  # somebody else goes on with it
                found = store.read(name, limit=RECORD_LIMIT)
                store.write(name, found.data, if_generation_match=found.generation)
    plan = read_plan(store, config.prefix)
    if plan.options != config.options:
        differ = sorted(key for key in {*plan.options, *config.options}
                        if plan.options.get(key) != config.options.get(key))  # fmt: skip
        raise NameTaken(f"{name}: a run with other options has this name ({', '.join(differ)}); take a new name")
    return plan


def read_plan(store: Store, prefix: IndexPrefix) -> Plan:
    """Read the plan of a run that was begun; raises StepMissing, StateDamaged."""
    name = _name(store, prefix)
    try:
        said = read_record(store, name)
    except ObjectMissing as error:
        raise StepMissing(f"{name}: isn't there; run the step 'list' of this build first") from error
    return Plan(said["options"], datetime.fromisoformat(said["created"]))


def _name(store: Store, prefix: IndexPrefix) -> str:
    return f"{RunFolder(store, prefix)}/plan.json"
