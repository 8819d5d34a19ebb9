"""Where a run keeps its state.

shards/<index>/<build>/                 what its steps leave for each other
catalogues/<index>/<build>.parquet      the list of items, when all is known of it
pictures/<sha256>                       pictures from the web
features/<key>/<part>.vectors           see `features`
reports/<index>/<build>.json, .html     for people
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, NoReturn

from embedding_batch.errors import StateDamaged, StepMissing
from model_repository.bucket.store import Store
from model_repository.errors import GenerationConflict, ObjectMissing
from model_repository.fields import format_document
from model_repository.names import IndexPrefix

RECORD_LIMIT = 64 * 1024 * 1024


class Record(dict[str, Any]):
    """What stands in an object of a run's state; what it doesn't say is StateDamaged, and no defect."""

    def __init__(self, name: str, said: dict[str, Any]) -> None:
        super().__init__(said)
        self._name = name

    def __missing__(self, field: str) -> NoReturn:
        mend = "a run that another release began isn't gone on with: begin a new one"
        raise StateDamaged(f"{self._name}: doesn't say {field!r}; {mend}")


def read_record(store: Store, name: str) -> Record:
    """Read an object of a run's state; raises `ObjectMissing`, and StateDamaged for what is no JSON object."""
    data = store.read(name, limit=RECORD_LIMIT).data
    mend = "delete it and run its step again, or begin a new run"
    try:
        said = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise StateDamaged(f"{name}: can't be read ({error}); {mend}") from error
    if not isinstance(said, dict):
        raise StateDamaged(f"{name}: is no JSON object; {mend}")
    return Record(name, said)


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The state of the run that makes the build `prefix`."""

    store: Store
    prefix: IndexPrefix

    def __str__(self) -> str:
        return f"shards/{self.prefix.index}/{self.prefix.build}"

    @property
    def listed(self) -> str:
        """Today's list before any picture was looked at."""
        return f"{self}/listed.parquet"

    @property
    def catalogue(self) -> str:
        """The list when all pictures were looked at: what the next run compares with."""
        return f"catalogues/{self.prefix.index}/{self.prefix.build}.parquet"

    def table(self, kind: str, number: int) -> str:
        """A shard, what was fetched for it, or a part of a category."""
        return f"{self}/{kind}-{number:05}.parquet"

    def report(self, suffix: str) -> str:
        """What a person reads of the run."""
        return f"reports/{self.prefix.index}/{self.prefix.build}.{suffix}"

    def _record(self, step: str, number: int | None) -> str:
        return f"{self}/{step}.json" if number is None else f"{self}/{step}-{number:05}.json"

    def record(self, step: str, number: int | None = None) -> dict[str, Any] | None:
        """What a step left when it was done; None: it isn't. Raises StateDamaged."""
        try:
            return read_record(self.store, self._record(step, number))
        except ObjectMissing:
            return None

    def recorded(self, step: str, number: int | None = None) -> dict[str, Any]:
        """The same, of a step that must have been done before; raises StepMissing."""
        found = self.record(step, number)
        if found is None:
            raise StepMissing(f"{self._record(step, number)}: isn't there; run the step {step!r} of this build first")
        return found

    def write_record(self, step: str, number: int | None, said: dict[str, Any]) -> dict[str, Any]:
        """Leave what a step did; the first of two that did the same counts, and is returned."""
        try:
            self.store.write(self._record(step, number), format_document(said), if_generation_match=0)
        except GenerationConflict:
            return self.recorded(step, number)
        return said
