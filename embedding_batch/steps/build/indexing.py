"""Step `build`: a part becomes a partition, or several that share files: built, checked as saved, then uploaded."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from embedding_batch.run import Run
from embedding_batch.state.features import fixed_bytes
from embedding_batch.state.tables import read_table
from embedding_batch.steps.build.building import Vectors, build, build_shared
from embedding_batch.steps.build.checking import Checked, Share, check, share
from embedding_batch.steps.build.parts import Part
from embedding_batch.steps.committing import Serving
from embedding_batch.steps.guards import guard_recall
from embedding_batch.steps.publish.publishing import check_readable
from embedding_batch.steps.publish.uploading import describe, upload_files
from model_repository.documents.files import format_files
from model_repository.errors import DocumentMalformed, ObjectMissing
from model_repository.records import written
from model_repository.repository import read_build


def build_part(run: Run, number: int) -> dict[str, Any]:
    """Index a part of the collected list; returns the step's record. Raises StepMissing, and what `index_part` does."""
    folder = run.folder
    listed, collected = folder.recorded("list"), folder.recorded("collect")
    said = collected["of_parts"][number]
    how = listed["models"][said["model"]]
    features = run.features(how)
    if not features.is_loaded:
        features.refresh()
    table = read_table(run.store, folder.table("part", number), run.scratch)
    vectors, ids = features.read(fixed_bytes(table["sha256"])), table["id"].to_pylist()
    shares, contents = shares_of(collected, number), list[Vectors]()
    start = 0
    for one in said["contents"]:
        end = start + one["items"]
        contents.append(Vectors(one["category"], tuple(ids[start:end]), vectors[start:end]))
        start = end
    return index_part(run, number, contents, how["place"], shares, shared=said["shared"])


def said_of(part: Part, widths: Mapping[str, int]) -> dict[str, Any]:
    """What the record of `collect` says of a part. widths: see `widths_before`."""
    contents = [
        {"category": one.category, "items": one.items, "width_before": widths.get(one.category, 0)}
        for one in part.pieces
    ]
    return {"model": part.model, "items": part.items, "shared": part.shares, "contents": contents}


def shares_of(collected: Mapping[str, Any], number: int) -> list[Share]:
    """Of the whole index's checks, those of each partition of part `number`, as `collect` recorded the parts."""
    before = sum(len(part["contents"]) for part in collected["of_parts"][:number])
    return [
        share(before + place, collected["partitions"], one["items"], collected["items"], one["width_before"])
        for place, one in enumerate(collected["of_parts"][number]["contents"])
    ]


def widths_before(run: Run, serving: Serving) -> dict[str, int]:
    """How widely the build that serves is searched, by category: where the engine is the same, a good guess."""
    if serving.live is None:
        return {}
    try:
        partitions = read_build(run.store, serving.live.commit.index_prefix).manifest.partitions
    except (ObjectMissing, DocumentMalformed):
        return {}
    return {one.category: one.width for one in partitions if one.engine is run.config.method_of(one.category).engine}


def index_part(
    run: Run, number: int, contents: Sequence[Vectors], model: int | None, shares: Sequence[Share], *, shared: bool
) -> dict[str, Any]:
    """Build, check and upload the partitions of a part; returns what index.json says of them.

    shares: of the checks, of each. shared: whether they share files; else there is one. Raises `IndexFileUnsound`,
    IndexUnsound, RecallTooLow, NameTaken, and what the store does.
    """
    scratch = Path(tempfile.mkdtemp(dir=run.scratch))
    if shared:
        built = build_shared(scratch, number, contents)
    else:
        (content,) = contents
        built = (build(scratch, number, content, run.config.method_of(content.category)),)
    limits, checked = run.config.limits, list[Checked]()
    for one, its in zip(built, shares, strict=True):
        checked.append(check(scratch, one, model, recall=limits.least_recall, its=its))
        guard_recall(checked[-1].partition, limits)
    files = describe({name: scratch / name for name in (built[0].file, built[0].ids)})
    said = {
        "partitions": [written(one.partition) for one in checked],
        "golden_queries": [asdict(golden) for one in checked for golden in one.golden_queries],
        "files": format_files(files),
    }
    check_readable(run, said)
    upload_files(run.store, run.config.prefix, {file.name: scratch / file.name for file in files}, files)
    shutil.rmtree(scratch)
    return said
