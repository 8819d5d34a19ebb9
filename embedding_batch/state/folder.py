"""Where a run keeps its state.

shards/<index>/<build>/                 what its steps leave for each other
catalogues/<index>/<build>.parquet      the list of items, when all is known of it
pictures/<sha256>                       pictures from the web
features/<key>/<part>.arrow             see `features`
reports/<index>/<build>.json, .html     for people
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from embedding_batch.errors import StepMissing
from model_repository.bucket.store import Store
from model_repository.errors import GenerationConflict, ObjectMissing
from model_repository.fields import format_document
from model_repository.names import IndexPrefix

RECORD_LIMIT = 64 * 1024 * 1024


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
        """What a step left when it was done; None: it isn't."""
        try:
            data = self.store.read(self._record(step, number), limit=RECORD_LIMIT).data
        except ObjectMissing:
            return None
        found: dict[str, Any] = json.loads(data)
        return found

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
