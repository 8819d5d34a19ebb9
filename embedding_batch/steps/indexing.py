"""Step `build`: one part of a category becomes a partition: built, checked as it was saved, and then uploaded."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from embedding_batch.run import Run
from embedding_batch.state.features import fixed_bytes
from embedding_batch.state.tables import read_table
from embedding_batch.steps.building import Vectors, build
from embedding_batch.steps.checking import Share, check, share
from embedding_batch.steps.committing import Serving
from embedding_batch.steps.guards import guard_recall
from embedding_batch.steps.publishing import check_readable
from embedding_batch.steps.uploading import describe, upload_files
from model_repository.documents.files import format_files
from model_repository.documents.index_manifest import format_partition
from model_repository.errors import DocumentMalformed, ObjectMissing
from model_repository.repository import read_build


def build_part(run: Run, number: int) -> dict[str, Any]:
    """Index a part of the collected list; returns the step's record. Raises StepMissing, and what `index_part` does."""
    folder = run.folder
    listed, collected = folder.recorded("list"), folder.recorded("collect")
    said = collected["of_parts"][number]
    its = share(number, collected["parts"], said["items"], collected["items"], said["width_before"])
    how = listed["models"][said["model"]]
    model, _ = run.model(run.config.model_named(how["name"]))
    features = run.features(model, how["classes"])
    if not features.is_loaded:
        features.refresh()
    table = read_table(run.store, folder.table("part", number), run.scratch)
    vectors = features.read(fixed_bytes(table["sha256"]))
    content = Vectors(said["category"], tuple(table["id"].to_pylist()), vectors)
    return index_part(run, number, content, how["place"], its)


def widths_before(run: Run, serving: Serving) -> dict[str, int]:
    """How widely the build that serves is searched, by category: where the engine is the same, a good guess."""
    if serving.live is None:
        return {}
    try:
        partitions = read_build(run.store, serving.live.commit.index_prefix).manifest.partitions
    except (ObjectMissing, DocumentMalformed):
        return {}
    return {one.category: one.width for one in partitions if one.engine is run.config.method_of(one.category).engine}


def index_part(run: Run, number: int, content: Vectors, model: int | None, its: Share) -> dict[str, Any]:
    """Build, check and upload a partition; returns what index.json says of it.

    Raises `IndexFileUnsound`, IndexUnsound, RecallTooLow, NameTaken, and what the store does.
    """
    scratch = Path(tempfile.mkdtemp(dir=run.scratch))
    built = build(scratch, number, content, run.config.method_of(content.category))
    limits = run.config.limits
    checked = check(scratch, built, model, recall=limits.least_recall, its=its)
    guard_recall(checked.partition, limits)
    contents = {name: scratch / name for name in (built.file, built.ids)}
    files = describe(contents)
    said = {
        "partition": format_partition(checked.partition),
        "golden_queries": [asdict(golden) for golden in checked.golden_queries],
        "files": format_files(files),
    }
    check_readable(run, said)
    upload_files(run.store, run.config.prefix, contents, files)
    shutil.rmtree(scratch)
    return said
