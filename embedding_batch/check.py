"""`--check`: what would stop a run, found out before it is one."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from embedding_batch.config import Config
from embedding_batch.events import Listener
from embedding_batch.run import Run
from embedding_batch.sources import read_catalogue
from embedding_batch.state.scratch import scratch
from embedding_batch.steps.committing import look
from embedding_batch.steps.vectors import spool_vectors
from model_repository.bucket.gcs_store import GcsStore


def check(config: Config, store: GcsStore, now: datetime, listener: Listener) -> dict[str, Any]:
    """Touch everything that a run needs, and change nothing in the bucket. now: when that run would have begun."""
    models: list[str] = []
    with scratch(config.cache / "scratch") as room:
        run = Run(config, store, GcsStore, room, now, listener)
        if config.vectors:
            items = sum(len(one.ids) for one in spool_vectors(config.vectors, config.ids, run.bucket, room))
        else:
            items = sum(batch.num_rows for batch in read_catalogue(config.catalogue, query=config.query))
            models = [str(run.model(str(name))[0].prefix) for name in {config.model, *config.models.values()}]
            if run.detector() is not None:
                models.append(str(config.detector))
    look(store, config.target, listener)
    builds = store.folders(f"indexes/{config.target.index}/")
    return {"items": items, "models": models, "builds": len(builds)}
