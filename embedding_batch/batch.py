"""A run: its steps by name, each of which may be a process of its own, and all of them in their order in one.

list > fetch, embed (each shard) > collect > build (each part) > publish > diff > commit; report in the end.

What a step does is recorded in the bucket when it is done: run again, it answers with its record. So whatever died in a
run goes on, with at most a shard's or a part's work done again.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from typing import Any

import pyarrow as pa

from embedding_batch.config import Config
from embedding_batch.errors import NameTaken
from embedding_batch.events import Listener
from embedding_batch.run import OpenBucket, Run
from embedding_batch.state.plan import open_plan
from embedding_batch.state.scratch import scratch
from embedding_batch.step import do, recording
from embedding_batch.steps.build.indexing import index_part, said_of, shares_of, widths_before
from embedding_batch.steps.build.parts import plan_parts
from embedding_batch.steps.committing import Serving, look
from embedding_batch.steps.guards import guard_items
from embedding_batch.steps.listing import warn_of_strangers
from embedding_batch.steps.publish.publishing import publish_build, published
from embedding_batch.steps.publish.tagging import check_tags, encode_tags
from embedding_batch.steps.reporting import is_reported, report
from embedding_batch.steps.unchanged import unchanged
from embedding_batch.steps.vectors import spool_vectors
from model_repository.bucket.gcs_store import GcsStore
from model_repository.bucket.store import Store


def run(
    config: Config, store: Store, now: datetime, listener: Listener, *, open_bucket: OpenBucket = GcsStore
) -> dict[str, Any]:
    """Index the catalogue's pictures, or somebody's own vectors, publish the build, and commit it; returns the report.

    now: when the build counts as made. open_bucket: where other buckets are read from. A run of the same build that
    didn't end goes on where it stood. Raises what `errors` lists, NameTaken for a build that is done or was begun with
    other options, and what the store does. Nothing is committed then, and a build that isn't whole has no index.json.
    """
    plan = open_plan(store, config, now)
    with scratch(config.cache / "scratch") as room:
        one = Run(config, store, open_bucket, room, plan.created, listener)
        if (committed := one.folder.record("commit")) is not None:
            if not is_reported(one, committed):
                return report(one)
            raise NameTaken(f"{config.prefix}: this build is done already; take a new name, or leave out --build")
        try:
            if config.vectors:
                _index_vectors(one)
            else:
                _index_pictures(one)
        except Exception as error:
            with suppress(Exception):  # what stopped it may keep it from being written, too
                report(one, error)
            raise
        return report(one)


def _index_pictures(run: Run) -> None:
    listed = do(run, "list")
    pictures = run.config.shard_pictures
    for number in range(listed["shards"]):
        for name in ("fetch", "embed"):
            run.spans[name] = (number * pictures, listed["pictures"])
            do(run, name, number)
    collected = do(run, "collect")
    serving = Serving.of(listed["serving"], run.config.target)
    if (committed := unchanged(run, serving, collected["made_of"])) is not None:
        with run.timed("commit") as details:
            details.append(f"nothing to build: {run.config.target.index} serves just this already; --always builds it")
        run.folder.write_record("commit", None, {**committed, "seconds": 0.0})
        return
    for place in {part["model"] for part in collected["of_parts"]}:
        run.features(listed["models"][place]).refresh()
    _side_by_side(run, [part["items"] for part in collected["of_parts"]], lambda number: do(run, "build", number))
    for name in ("publish", "diff", "commit"):
        do(run, name)


def _side_by_side(run: Run, sizes: list[int], build: Callable[[int], dict[str, Any]]) -> list[dict[str, Any]]:
    """Build all parts, on all cores: the engines release the GIL. The largest first: the last one to end is small."""
    records: dict[int, dict[str, Any]] = {}
    with run.timed("build") as details, ThreadPoolExecutor(run.config.workers) as pool:
        run.progress("build", 0, len(sizes))
        order = sorted(range(len(sizes)), key=lambda number: -sizes[number])
        try:
            for number, record in zip(order, pool.map(build, order), strict=True):
                records[number] = record
                run.progress("build", len(records), len(sizes))
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
        partitions = [one for record in records.values() for one in record["partitions"]]
        weakest = min(partitions, key=lambda one: one["recall"]["value"])
        least = f"least recall {weakest['recall']['value']:.3f} in {weakest['category']}"
        details.append(f"{sum(sizes)} items in {len(partitions)} partitions, {least}")
    return [records[number] for number in range(len(sizes))]


def _index_vectors(run: Run) -> None:
    """Somebody's own vectors: nothing to resume but what is in the bucket already."""
    config = run.config
    spool = run.scratch / "vectors"
    spool.mkdir()
    with recording(run, "list") as record, run.timed("list") as details:
        serving = look(run.store, config.target, run.listener)
        spooled = spool_vectors(config.vectors, config.ids, run.bucket, spool)
        items = sum(len(one.ids) for one in spooled)
        details.append(f"{items} vectors of {spooled[0].dimensions} numbers")
        guard_items(items, serving.items, config.limits)
        by_category = {one.category: one for one in spooled}
        warn_of_strangers(run, by_category)
        sizes = {category: len(one.ids) for category, one in by_category.items()}
        parts = plan_parts(sizes, dict.fromkeys(sizes), config)
        pieces = [piece for part in parts for piece in part.pieces]
        of_pieces = [by_category[one.category].tags_of(one.start, one.items) for one in pieces]
        check_tags(pa.chunked_array([chunk for tags in of_pieces for chunk in tags.chunks]), config.vectors)
        record.update(items=items, shards=0, models=[], serving=serving.said())
    widths = widths_before(run, serving)
    of_parts = [said_of(part, widths) for part in parts]
    collected = {"items": items, "parts": len(parts), "partitions": len(pieces), "of_parts": of_parts}
    ids: dict[int, list[tuple[str, ...]]] = {}

    def build(number: int) -> dict[str, Any]:
        # anew each time: the vectors may be others than those that a run before this one built from
        part = parts[number]
        contents = [by_category[one.category].content(one.start, one.items) for one in part.pieces]
        ids[number] = [content.ids for content in contents]
        with recording(run, "build", number) as record:
            said = index_part(run, number, contents, None, shares_of(collected, number), shared=part.shares)
            record.update(said)
        return said

    run.folder.write_record("collect", None, {**collected, "seconds": 0.0})
    records = _side_by_side(run, [part.items for part in parts], build)
    with recording(run, "publish") as record, run.timed("publish") as details:
        of_all = [of for number in range(len(parts)) for of in ids[number]]
        manifest = publish_build(run, records, of_all, [], encode_tags(of_pieces))
        details.append(f"{manifest.prefix}, {manifest.bytes_to_pull} bytes to pull")
        record.update(published(manifest))
    do(run, "diff")
    do(run, "commit")
