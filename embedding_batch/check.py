"""`--check`: what would stop a run, found out before it is one."""

from __future__ import annotations

from typing import Any

from embedding_batch.config import Config, Model
from embedding_batch.events import Listener
from embedding_batch.sources import read_catalogue
from embedding_batch.state.scratch import scratch
from embedding_batch.steps.committing import look
from embedding_batch.steps.publish.detectors import fetched_detector
from embedding_batch.steps.publish.models import fetched_model, local_model, published_model
from embedding_batch.steps.vectors import spool_vectors
from model_repository.bucket.gcs_store import GcsStore
from model_repository.names import ModelPrefix


def check(config: Config, store: GcsStore, listener: Listener) -> dict[str, Any]:
    """Touch everything that a run needs, and change nothing in the bucket."""
    models: list[str] = []
    if config.vectors:
        with scratch(config.cache / "scratch") as room:
            items = sum(len(one.ids) for one in spool_vectors(config.vectors, config.ids, GcsStore, room))
    else:
        items = sum(batch.num_rows for batch in read_catalogue(config.catalogue, query=config.query))
        models = [_model(model, config, store) for model in {config.model, *config.models.values()}]
        if config.detector is not None:
            fetched_detector(store, config.detector, config.model_cache, config.regions, config.least_score)
            models.append(str(config.detector))
    look(store, config.target, listener)
    builds = store.folders(f"indexes/{config.target.index}/")
    return {"items": items, "models": models, "builds": len(builds)}


def _model(model: Model, config: Config, store: GcsStore) -> str:
    if isinstance(model, ModelPrefix):
        fetched_model(store, model, config.model_cache)
        return str(model)
    local = local_model(model, config.model_cache)
    published_model(store, local)
    return str(local.prefix)
