"""Is what would be built the very build that serves? Then nothing is built, and no pod is replaced."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, Final

import pyarrow as pa

from embedding_batch.config import DECODES
from embedding_batch.run import Run
from embedding_batch.state.folder import RunFolder
from embedding_batch.steps.committing import Serving
from model_repository.documents.receipts.receipt import Outcome
from model_repository.errors import DocumentMalformed, ObjectMissing
from model_repository.fields import format_document
from model_repository.repository import read_receipt

_OPTIONS: Final = (
    "engine", "storage", "trees", "seed", "part_items", "exact_items", "least_recall", "device", "detector", "region",
    "least_score",
)  # fmt: skip
"""Those that a build follows from; its models are named by the record of `list`."""


def made_of(options: Mapping[str, Any], models: Iterable[Mapping[str, Any]], items: pa.Table) -> str:
    """Name, in hex, what a build follows from besides this program: options, models, items with their pictures.

    items: those that are indexed, by id. Two names that differ may still be of one build, and never the other way.
    """
    how = {"models": list(models)} | {name: options.get(name) for name in _OPTIONS}
    if (decode := options.get("decode", DECODES[0])) != DECODES[0]:  # an earlier release's runs have no word of it
        how["decode"] = decode
    digest = hashlib.sha256(format_document(how))
    category = items["category"].cast(pa.string())  # a dictionary's order is of no account
    plain = items.set_column(items.schema.get_field_index("category"), "category", category).combine_chunks()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, plain.schema) as stream:
        stream.write_table(plain)
    digest.update(sink.getvalue())
    return digest.hexdigest()


def unchanged(run: Run, serving: Serving, made: str) -> dict[str, Any] | None:
    """What becomes of the commit where its build follows from the same, and serves: it stands. None: that isn't so.

    It follows from the same as far as its run's own record still says. One that was undone or refused is no reason to
    build nothing: another try may go live.
    """
    live = serving.live
    if live is None or not run.config.commits or run.config.unchanged_too:
        return None
    before = RunFolder(run.store, live.commit.index_prefix).record("collect")
    if before is None or before.get("made_of") != made:
        return None
    try:
        if read_receipt(run.store, run.config.target, live.generation).outcome is not Outcome.SERVED:
            return None
    except (ObjectMissing, DocumentMalformed):
        return None
    return {"outcome": "unchanged", "generation": live.generation, "serves": str(live.commit.index_prefix)}
