"""Step `collect`: the list with all that was found out, and the parts that its categories are built in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from embedding_batch.events import Warned
from embedding_batch.run import Run
from embedding_batch.state.items import KNOWN, mask, with_cells
from embedding_batch.state.tables import read_table, write_table
from embedding_batch.steps.build.indexing import said_of, widths_before
from embedding_batch.steps.build.parts import plan_parts
from embedding_batch.steps.committing import Serving
from embedding_batch.steps.guards import Broken, guard_broken, guard_items
from embedding_batch.steps.listing import apply_fetched
from embedding_batch.steps.unchanged import made_of

_NAMED = 1000
"""Items whose fault is told one by one."""


def collect(run: Run) -> dict[str, Any]:
    """Write the list and the parts; returns the step's record.

    Raises StepMissing, TooManyBroken, ItemsDropped, and what the store does.
    """
    folder = run.folder
    listed = folder.recorded("list")
    with run.timed("collect") as details:
        items = _with_reasons(run, read_table(run.store, folder.listed, run.scratch), listed)
        broken = _broken(items)
        for one in broken[:_NAMED]:
            run.listener(Warned(f"{one.id}: skipped, {one.reason} ({one.picture!r})"))
        guard_broken(broken, items.num_rows, run.config.limits)
        serving = Serving.of(listed["serving"], run.config.target)
        guard_items(items.num_rows - len(broken), serving.items, run.config.limits)
        write_table(run.store, folder.catalogue, items, run.scratch)
        sound = items.filter(pc.is_null(items["reason"])).select(["id", "category", "sha256", "tags"])
        made = made_of(run.config.options, listed["models"], sound)
        parts: list[dict[str, Any]] = []
        for said, table in _parts(run, sound, listed["models"], serving):
            write_table(run.store, folder.table("part", len(parts)), table, run.scratch)
            parts.append(said)
        for model in listed["models"]:
            run.features(model).merge()
        details.append(f"{items.num_rows - len(broken)} items in {len(parts)} parts, {len(broken)} skipped")
    return {
        "items": items.num_rows - len(broken),
        "parts": len(parts),
        "of_parts": parts,
        "partitions": sum(len(part["contents"]) for part in parts),
        "pictures": pc.count_distinct(sound["sha256"]).as_py(),
        "made_of": made,
        "broken": len(broken),
        "skipped": [{"id": one.id, "reason": one.reason} for one in broken[:_NAMED]],
    }


def _with_reasons(run: Run, items: pa.Table, listed: Mapping[str, Any]) -> pa.Table:
    """The items as the shards left them, with the column `reason`."""
    folder, shards = run.folder, range(listed["shards"])
    faults: dict[int, dict[bytes, str]] = {}
    for number in shards:
        found = folder.recorded("embed", number)["faults"]
        of_model = faults.setdefault(listed["shard_models"][number], {})
        of_model |= {bytes.fromhex(digest): reason for digest, reason in found.items()}
    reasons = np.full(items.num_rows, None, object)
    if shards:
        fetched = pa.concat_tables(
            [read_table(run.store, folder.table("fetched", number), run.scratch) for number in shards]
        )
        items = apply_fetched(items, fetched)
        lost = fetched.filter(pc.is_valid(fetched["reason"]))
        places = pc.index_in(items["picture"], value_set=lost["picture"].combine_chunks())
        is_lost = mask(pc.is_valid(places))
        rows = np.flatnonzero(is_lost)
        reasons[rows] = lost["reason"].take(places.take(pa.array(rows))).to_pylist()
        for field in KNOWN:  # one that is gone isn't taken for fresh by the next run: it is asked for again
            items = with_cells(items, field, is_lost, pa.scalar(None, field.type))
    for place, model in enumerate(listed["models"]):
        if bad := faults.get(place):
            of_model = pc.is_in(items["category"].cast(pa.string()), value_set=pa.array(model["categories"]))
            digests = pa.array(list(bad), pa.binary(32))
            rows = np.flatnonzero(mask(pc.and_(of_model, pc.is_in(items["sha256"], value_set=digests))))
            reasons[rows] = [bad[digest] for digest in items["sha256"].take(pa.array(rows)).to_pylist()]
    return items.append_column("reason", pa.array(reasons, pa.string()))


def _broken(items: pa.Table) -> list[Broken]:
    found = items.filter(pc.is_valid(items["reason"]))
    columns = (found[name].to_pylist() for name in ("id", "picture", "reason"))
    return [Broken(*row) for row in zip(*columns, strict=True)]


def _parts(
    run: Run, sound: pa.Table, models: list[dict[str, Any]], serving: Serving
) -> Iterator[tuple[dict[str, Any], pa.Table]]:
    """What each task of `build` makes, and the items of it, category after category, by id."""
    places: dict[str, int | None] = {
        category: place for place, model in enumerate(models) for category in model["categories"]
    }
    encoded = sound.unify_dictionaries()["category"].combine_chunks()
    names, codes = encoded.dictionary.to_pylist(), encoded.indices.to_numpy()
    order = np.argsort(codes, kind="stable")
    counts = np.bincount(codes, minlength=len(names))
    begins = dict(zip(names, np.cumsum(counts) - counts, strict=True))
    parts = plan_parts({name: int(size) for name, size in zip(names, counts, strict=True) if size}, places, run.config)
    widths = widths_before(run, serving)
    for part in parts:
        stretches = [(begins[piece.category] + piece.start, piece.items) for piece in part.pieces]
        rows = np.concatenate([order[begin : begin + items] for begin, items in stretches])
        yield said_of(part, widths), sound.take(pa.array(rows)).select(["id", "sha256", "tags"])
