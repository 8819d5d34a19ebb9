"""Step `list`: today's items, what is known of their pictures, and shards of those that have to be looked at.

What is known comes from the list of the run before, and from what runs that didn't end had fetched. No picture is
opened here: a file's size and time, or what the catalogue calls the version, say which bytes are meant.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from embedding_batch.events import Warned
from embedding_batch.run import Run
from embedding_batch.sources import read_catalogue
from embedding_batch.state.features import fixed_bytes
from embedding_batch.state.items import KNOWN, REMOTE, SHARD_SCHEMA, gather_items, mask, with_cells, with_long_texts
from embedding_batch.state.tables import read_table, write_table
from embedding_batch.steps.build.parts import MOST_PARTS, plan_parts
from embedding_batch.steps.committing import look
from embedding_batch.steps.publish.tagging import check_tags
from model_repository.bucket.store import ObjectInfo

_FETCHED = re.compile(r"/fetched-[0-9]+\.parquet$")

_AT_ONCE = 256 * 1024
"""Rows that are compared at once."""


def list_items(run: Run) -> dict[str, Any]:
    """Make the list and its shards; returns the step's record.

    Raises CatalogueMalformed, DocumentMalformed for a commit that makes no sense, what models and the store raise.
    """
    config, folder = run.config, run.folder
    with run.timed("list") as details:
        serving = look(run.store, config.target, run.listener)
        batches = read_catalogue(config.catalogue, query=config.query, open_bucket=run.bucket, scratch=run.scratch)
        items = gather_items(map(_with_versions, batches), config.catalogue, MOST_PARTS)
        check_tags(items["tags"], config.catalogue)
        sizes = {one["values"]: one["counts"] for one in items["category"].value_counts().to_pylist()}
        plan_parts(sizes, dict.fromkeys(sizes), config)  # whether they are too many is known before the work
        warn_of_strangers(run, sizes)
        items, changes = _with_yesterday(run, items)
        items = _with_fetched(run, items)
        details.append(", ".join(f"{count} {what}" for what, count in {"items": items.num_rows, **changes}.items()))
    with run.timed("model") as details:
        models = _models(run, sizes)
        prefixes = dict.fromkeys(model["prefix"] for model in models)  # one may be given whole pictures, and parts
        details.append(", ".join(prefixes) + (f"; pictures cut by {config.detector}" if config.detector else ""))
    with run.timed("changes") as details:
        write_table(run.store, folder.listed, items, run.scratch)
        parts: set[str] = set()
        while True:
            shards = list(_shards(run, items, models, parts))
            for number, (_, shard) in enumerate(shards):
                write_table(run.store, folder.table("shard", number), shard, run.scratch)
            # prune's last look may have been before this run began, and its deletion after; and others merge parts
            if all(run.features(model).are_there(parts) for model in models):
                break
            parts.clear()
        pictures = sum(shard.num_rows for _, shard in shards)
        details.append(f"{pictures} pictures to look at, in {len(shards)} shards")
    return {
        "items": items.num_rows,
        **changes,
        "pictures": pictures,
        "shards": len(shards),
        "shard_models": [place for place, _ in shards],
        "models": models,
        "features": sorted(parts),
        "serving": serving.said(),
    }


def warn_of_strangers(run: Run, categories: Iterable[str]) -> None:
    """Say which categories options name that no item has: of a name that is mistyped the right one has the default."""
    config = run.config
    strangers = {*config.models, *config.methods, *config.regions.values()}.difference(categories)
    for stranger in sorted(strangers):
        run.listener(
            Warned(f"no item is of the category {stranger!r}, which --model, --engine, --storage or --region names")
        )


def _with_versions(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The rows with size and time of files as their versions, where the catalogue has none; that of no file is null."""
    versions = batch.column("version")
    if not versions.null_count:
        return batch
    pictures, given = batch.column("picture").to_pylist(), versions.to_pylist()
    found = [version if version is not None else _state(picture)
             for picture, version in zip(pictures, given, strict=True)]  # fmt: skip
    return batch.set_column(batch.schema.get_field_index("version"), batch.schema.field("version"),
                            pa.array(found, pa.string()))  # fmt: skip


def _state(picture: str) -> str | None:
    if picture.startswith(REMOTE):
        return None
    try:
        found = os.stat(picture)  # noqa: PTH116 - millions of them: a Path for each takes twice as long
    except (OSError, ValueError):  # ValueError: no path can be called that
        return None
    return f"{found.st_size}-{found.st_mtime_ns}"


def _with_yesterday(run: Run, items: pa.Table) -> tuple[pa.Table, dict[str, int]]:
    """Add the columns KNOWN: of the run before, where item, picture and version are the same.

    Returns, too, how many items `came` and `went` since, and of how many picture, version or category `changed`.
    """
    newest = max(_catalogues(run), key=lambda info: info.updated, default=None)
    if newest is None:
        nothing = [pa.nulls(items.num_rows, field.type) for field in KNOWN]
        return _with_columns(items, nothing), {"came": items.num_rows, "went": 0, "changed": 0}
    columns = ("id", "category", "picture", "version", *KNOWN.names)
    before = with_long_texts(read_table(run.store, newest.name, run.scratch, columns))
    places = pc.index_in(items["id"], value_set=before["id"].combine_chunks())
    matched = items.num_rows - places.null_count
    changed, known = 0, []
    for start in range(0, items.num_rows, _AT_ONCE):
        today = items.slice(start, _AT_ONCE)
        was = before.take(places.slice(start, _AT_ONCE))
        same = _same(today["picture"], was["picture"]) & _same(today["version"], was["version"])
        was_there = ~mask(pc.is_null(was["id"]))
        same_category = mask(pc.equal(today["category"].cast(pa.string()), was["category"].cast(pa.string())))
        changed += int(np.count_nonzero(was_there & ~(same & same_category)))
        nothing = pa.array(~(same & was_there))
        known.append(pa.table([pc.if_else(nothing, pa.scalar(None, field.type), was[field.name]) for field in KNOWN],
                              schema=KNOWN))  # fmt: skip
    carried = pa.concat_tables(known).combine_chunks()
    came, went = items.num_rows - matched, before.num_rows - matched
    return _with_columns(items, carried.columns), {"came": came, "went": went, "changed": changed}


def _catalogues(run: Run) -> list[ObjectInfo]:
    own = run.folder.catalogue
    infos = run.store.listing(f"catalogues/{run.config.prefix.index}/")
    return [info for info in infos if info.name != own and info.name.endswith(".parquet")]


def _with_columns(items: pa.Table, columns: Iterable[pa.ChunkedArray]) -> pa.Table:
    for field, column in zip(KNOWN, columns, strict=True):
        items = items.append_column(field, column)
    return items


def _same(one: pa.ChunkedArray, other: pa.ChunkedArray) -> NDArray[np.bool_]:
    """Where two texts are the same, or neither is there."""
    return mask(pc.equal(one, other)) | mask(pc.and_(pc.is_null(one), pc.is_null(other)))


def _with_fetched(run: Run, items: pa.Table) -> pa.Table:
    """Add what runs that didn't end found out of pictures: at most a shard of work is ever done again."""
    newest = max((info.updated for info in _catalogues(run)), default=None)
    names = [
        info.name
        for info in run.store.listing(f"shards/{run.config.prefix.index}/")
        if _FETCHED.search(info.name) and (newest is None or info.updated > newest)
    ]
    tables = [with_long_texts(read_table(run.store, name, run.scratch)) for name in names]
    return apply_fetched(items, pa.concat_tables(tables)) if tables else items


def apply_fetched(items: pa.Table, fetched: pa.Table) -> pa.Table:
    """Add what was found out of pictures: `fetched` has those of SHARD_SCHEMA."""
    places = pc.index_in(items["picture"], value_set=fetched["picture"].combine_chunks())
    rows = np.flatnonzero(~mask(pc.is_null(places)))
    found = fetched.take(places.take(rows))
    rows = rows[mask(pc.is_valid(found["sha256"])) & _same(items["version"].take(rows), found["version"])]
    if not len(rows):
        return items
    found = fetched.take(places.take(rows))
    is_new = np.zeros(items.num_rows, bool)
    is_new[rows] = True
    for field in KNOWN:
        items = with_cells(items, field, is_new, found[field.name].combine_chunks())
    return items


def _models(run: Run, categories: Iterable[str]) -> list[dict[str, Any]]:
    """How today's categories are embedded, as the record has it: by which model, and which part of a picture.

    place: of the model, in index.json. classes: of the detector, whose best region is embedded; none: all of it.
    """
    found: dict[tuple[str, tuple[str, ...]], dict[str, Any]] = {}
    places: dict[str, int] = {}
    run.detector()  # what is wrong with it is told now
    for category in sorted(categories):
        name, classes = str(run.config.model_of(category)), run.config.classes_of(category)
        local, _ = run.model(name)
        prefix = str(local.prefix)  # a built-in model may be named by its prefix, too
        place = places.setdefault(prefix, len(places))
        one = {"name": name, "prefix": prefix, "place": place, "classes": list(classes), "categories": []}
        found.setdefault((prefix, classes), one)["categories"].append(category)
    return list(found.values())


def _shards(
    run: Run, items: pa.Table, models: Iterable[dict[str, Any]], parts: set[str]
) -> Iterator[tuple[int, pa.Table]]:
    """Pictures to be looked at, each once for a model, those of a category together; with the model's place.

    parts: gets the objects below features/ that have the embeddings of the others.
    """
    sha256 = items["sha256"]
    stale = _is_stale(items, run.config.fresh_seconds)
    to_look = mask(pc.is_null(sha256)) | stale
    for place, model in enumerate(models):
        features = run.features(model)
        features.refresh(anew=True)
        of_model = mask(pc.is_in(items["category"].cast(pa.string()), value_set=pa.array(model["categories"])))
        rows = np.flatnonzero(of_model)
        digests = fixed_bytes(sha256.take(pa.array(rows)))
        has = features.has(digests)
        parts |= features.parts_of(digests)
        missing = to_look[rows] | ~has
        wanted = items.take(pa.array(rows[missing])).select(["category", *SHARD_SCHEMA.names])
        for name in ("etag", "modified"):  # of one to be embedded: "it is unchanged" would bring no bytes
            field = wanted.schema.field(name)
            wanted = with_cells(wanted, field, (stale[rows] & ~has)[missing], pa.scalar(None, field.type))
        wanted = wanted.take(pc.sort_indices(pc.cast(wanted["category"], pa.string())))
        codes = wanted["picture"].combine_chunks().dictionary_encode().indices.to_numpy()
        first = np.sort(np.unique(codes, return_index=True)[1])
        wanted = wanted.take(pa.array(first)).select(SHARD_SCHEMA.names).combine_chunks()
        for start in range(0, wanted.num_rows, run.config.shard_pictures):
            yield place, wanted.slice(start, run.config.shard_pictures)


def _is_stale(items: pa.Table, fresh_seconds: float) -> NDArray[np.bool_]:
    """Which pictures elsewhere may have changed unseen: those without a version that were looked at long ago.

    Or long from now, by a clock that was wrong: until then they would never be looked at.
    """
    remote = mask(pc.match_substring_regex(items["picture"], "^(https?|gs)://"))
    old = mask(pc.greater(pc.abs(pc.subtract(items["looked"], int(time.time()))), fresh_seconds))
    return remote & mask(pc.is_null(items["version"])) & old
