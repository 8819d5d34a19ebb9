"""Step `diff`: how the published build differs from what serves, and whether it may go live by itself.

Files of either build are fetched a category at a time: that is the disk it needs. They are mapped, not read.
"""

from __future__ import annotations

import heapq
import shutil
import statistics
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from embedding_batch.errors import StateDamaged
from embedding_batch.events import Warned
from embedding_batch.run import Run
from embedding_batch.state.folder import RunFolder
from embedding_batch.state.tables import read_table
from embedding_batch.steps.committing import Serving
from embedding_batch.steps.diff.asking import Asked, Category, Part
from embedding_batch.steps.diff.gates import judge
from model_repository.bucket.store import Store
from model_repository.comparing.items import Shared, category_diffs, compare_items, tag_diffs
from model_repository.documents.build_diff import (
    Alike,
    BuildDiff,
    diff_name,
    format_build_diff,
    parse_build_diff,
)
from model_repository.documents.index_manifest import IndexManifest, Partition
from model_repository.documents.items.item_ids import ItemIds, ItemLookup
from model_repository.documents.items.item_tags import ItemTags
from model_repository.errors import BuildIncomplete, DocumentMalformed, ObjectMissing, PermanentError
from model_repository.names import IndexPrefix
from model_repository.repository import read_build, read_model_manifest
from vector_index import PartitionFiles

PROBES: Final = 1000
"""Items that are asked about, over the whole index."""
LEAST_PROBES: Final = 20
"""Of each category, where there aren't too many of those."""
_COMPARED: Final = 5
"""So many times as many items have their vectors compared: that is quick, and finds what is rare."""
EXAMPLES: Final = 50
_GOLDEN_CATEGORIES: Final = 20
_VECTOR_LIMIT: Final = 4 * 65536


class _Unreadable(Exception):
    """What serves can't be compared with. The new build is no worse for it."""


def diff(run: Run) -> dict[str, Any]:
    """Compare, judge and write `diffs/<index>/<build>.json`; returns the step's record.

    Raises StepMissing, and what the store does. What serves may be damaged or gone: that is told, and no more.
    """
    folder, config = run.folder, run.config
    folder.recorded("publish")
    serving = Serving.of(folder.recorded("list")["serving"], config.target)
    live = None if serving.live is None else serving.live.commit.index_prefix
    with run.timed("diff") as details:
        if live is None or live == config.prefix:
            details.append("nothing serves yet")
            return {"against": None, "stops": []}
        try:
            found = _compare(run, live)
        except _Unreadable as error:
            run.listener(Warned(f"{live} serves and can't be read, so nothing is compared with it: {error}"))
            return {"against": str(live), "unreadable": str(error), "stops": []}
        details.append(_sentence(found))
    return {
        "against": str(live),
        **{name: found.total(name) for name in ("gone", "new", "moved")},
        "overlap": found.items.overlap,
        "stops": [{"gate": str(stop.gate), "detail": stop.detail} for stop in found.unexpected],
    }


def _compare(run: Run, live: IndexPrefix) -> BuildDiff:
    """Compare with what serves, judge, and write the diff; raises _Unreadable."""
    config = run.config
    after = read_build(run.store, config.prefix).manifest
    with _reading_what_serves():
        before = read_build(run.store, live).manifest
    found = compare_builds(run.store, before, after, run.scratch)
    found = replace(found, pictures=_pictures(run, found), expected=config.gates.expected)
    found = replace(found, environments=(config.target.environment,) if config.commits else ())
    found = replace(found, stops=judge(found, config.gates, config.limits.most_dropped))
    data = format_build_diff(found)
    parse_build_diff(data, config.prefix)
    run.store.write(diff_name(config.prefix), data, if_generation_match=None)
    return found


def _sentence(found: BuildDiff) -> str:
    counts = ", ".join(f"{found.total(name)} {name}" for name in ("gone", "new", "moved"))
    stopped = f"; stops: {', '.join(stop.gate for stop in found.unexpected)}" if found.unexpected else ""
    return f"against {found.against.build}: {counts}, overlap {found.items.overlap:.3f}{stopped}"


def compare_builds(store: Store, before: IndexManifest, after: IndexManifest, scratch: Path) -> BuildDiff:
    """Compare two builds of an index that are in the bucket; scratch: where their files may lie meanwhile.

    Raises _Unreadable when `before` is the one that can't be read, what the store raises, and, for `after`,
    `DocumentMalformed`, `IndexFileUnsound` or `ObjectMissing`.
    """
    room = Path(tempfile.mkdtemp(dir=scratch))
    try:
        with _reading_what_serves():
            old_lookup = _lookup(store, before, room)
        new_lookup = _lookup(store, after, room)
        quota = _quota(after)
        compared = {category: _COMPARED * count for category, count in quota.items()}
        shared = compare_items((before, old_lookup), (after, new_lookup), compared)
        asked = Asked()
        builds = _Files(store, before, old_lookup, room), _Files(store, after, new_lookup, room)
        vectors = _golden_vectors(store, before, after)
        for count, (category, probes) in enumerate(quota.items()):
            samples = shared.samples.get(category, [])
            golden = vectors if count < _GOLDEN_CATEGORIES else {}
            if samples:
                with ExitStack() as opened:
                    with _reading_what_serves():
                        old = opened.enter_context(_opened(builds[0], category))
                    new = opened.enter_context(_opened(builds[1], category))
                    with _reading_what_serves():
                        asked.compare(old, new, samples)
                        asked.ask(old, new, samples[:probes], golden)
        with _reading_what_serves():
            tags_before = _tags(store, before, room)
        tags = tag_diffs(tags_before, _tags(store, after, room))
    finally:
        shutil.rmtree(room)
    return replace(_found(before, after, shared, asked), tags=tags)


def _tags(store: Store, manifest: IndexManifest, room: Path) -> Counter[str]:
    """How many items have a tag of each name."""
    if manifest.tags is None:
        return Counter()
    file = manifest.tags.file
    return ItemTags(_fetch(store, manifest, file, room / "tags").read_bytes(), file, manifest.items).given()


def _found(before: IndexManifest, after: IndexManifest, shared: Shared, asked: Asked) -> BuildDiff:
    alike = {category: _mean(each) for category, each in asked.differences.items()}
    everything = [each for of_category in asked.differences.values() for each in of_category]
    worst = heapq.nsmallest(EXAMPLES, asked.examples, key=lambda each: (each.overlap, each.item))
    return BuildDiff(
        prefix=after.prefix,
        against=before.prefix,
        created=after.created,
        models_before=tuple(sorted(f"{model.prefix} {model.digest}" for model in before.references)),
        models_after=tuple(sorted(f"{model.prefix} {model.digest}" for model in after.references)),
        categories=category_diffs(before, after, shared, alike, asked.looks),
        items=_mean(everything),
        changed=sum(changed for _, changed in asked.looks.values()),
        swapped=asked.swapped,
        golden=_mean(asked.golden),
        examples=tuple(each for each in worst if each.overlap < 1),
        pictures={},
        stops=(),
        expected=(),
        tags=(),
        compared=sum(compared for compared, _ in asked.looks.values()),
        doubled=asked.doubled,
    )


def _mean(found: Sequence[tuple[float, float]]) -> Alike:
    if not found:
        return Alike(0, 1.0, 1.0)
    overlaps, biased = zip(*found, strict=True)
    return Alike(len(found), round(statistics.fmean(overlaps), 4), round(statistics.fmean(biased), 4))


def _quota(manifest: IndexManifest) -> dict[str, int]:
    """How many items of each category are asked about; the largest categories first, `PROBES` of them at most."""
    items: dict[str, int] = {}
    for partition in manifest.partitions:
        items[partition.category] = items.get(partition.category, 0) + partition.items
    least = max(1, min(LEAST_PROBES, PROBES // len(items)))
    largest = sorted(items, key=lambda category: (-items[category], category))[:PROBES]
    return {category: max(least, round(PROBES * items[category] / manifest.items)) for category in largest}


@contextmanager
def _reading_what_serves() -> Iterator[None]:
    try:
        yield
    except (PermanentError, ValueError, IndexError) as error:
        raise _Unreadable(str(error)) from error


def _lookup(store: Store, manifest: IndexManifest, room: Path) -> ItemLookup:
    return ItemLookup(_fetch(store, manifest, manifest.lookup, room / "lookup").read_bytes(), manifest.lookup)


def _fetch(store: Store, manifest: IndexManifest, name: str, path: Path) -> Path:
    """A file of a build; raises `ObjectMissing`, `BuildIncomplete` for one of another size."""
    store.download(f"{manifest.prefix}/{name}", path)
    size = next(file.size for file in manifest.files if file.name == name)
    if path.stat().st_size != size:
        found = f"{path.stat().st_size} bytes"
        raise BuildIncomplete(f"{manifest.prefix}/{name}", f"{size} bytes", found)
    return path


class _Files:
    """The files of a build's partitions. Those of one are fetched when it is opened, and then deleted.

    Those that partitions of several categories share are kept: they would be fetched for each of these.
    """

    def __init__(self, store: Store, manifest: IndexManifest, lookup: ItemLookup, room: Path) -> None:
        self.manifest = manifest
        self.lookup = lookup
        self._store = store
        self._kept = Path(tempfile.mkdtemp(dir=room))
        self._room = room
        self._sharers = Counter(one.file for one in manifest.partitions)

    @contextmanager
    def fetched(self) -> Iterator[Callable[[Partition], tuple[Path, Path]]]:
        """What gives the files of vectors and of ids of a partition."""
        own = Path(tempfile.mkdtemp(dir=self._room))
        try:
            yield lambda one: (self._fetch(one, one.file, own), self._fetch(one, one.ids, own))
        finally:
            shutil.rmtree(own)

    def _fetch(self, one: Partition, name: str, own: Path) -> Path:
        path = (self._kept if self._sharers[one.file] > 1 else own) / name.replace("/", "_")
        return path if path.exists() else _fetch(self._store, self.manifest, name, path)


@contextmanager
def _opened(files: _Files, category: str) -> Iterator[Category]:
    """Fetch and map the partitions of a category."""
    partitions, parts = files.manifest.partitions, dict[int, Part]()
    mapped = PartitionFiles(partitions)
    with files.fetched() as fetch:
        try:
            for number, one in enumerate(partitions):
                if one.category == category:
                    path, of_ids = fetch(one)
                    ids = ItemIds(of_ids.read_bytes(), one.ids)
                    if len(ids) != mapped.rows(one):
                        raise DocumentMalformed(one.ids, f"has {len(ids)} ids, index.json says {mapped.rows(one)}")
                    parts[number] = Part(one, mapped.open(path, one), ids.part(one.first, one.items))
            yield Category(category, parts, files.lookup)
        finally:
            for part in parts.values():
                part.index.close()


def _golden_vectors(store: Store, before: IndexManifest, after: IndexManifest) -> dict[str, NDArray[np.float32]]:
    """The vectors of golden pictures by name, of a build whose one model is that of what serves."""
    if len(after.models) != 1 or after.models != before.models:
        return {}
    prefix = after.models[0].prefix
    model, _ = read_model_manifest(store, prefix)
    return {
        golden.image: np.frombuffer(store.read(f"{prefix}/{golden.embedding}", limit=_VECTOR_LIMIT).data, "<f4")
        for golden in model.golden_images
    }


def _pictures(run: Run, found: BuildDiff) -> dict[str, str]:
    """Where the pictures of the examples' items are, as far as the catalogues of the two builds say."""
    ids = {item for each in found.examples for item in (each.item, *each.before, *each.after)}
    pictures: dict[str, str] = {}
    for prefix in (found.against, found.prefix) if ids else ():
        try:
            table = read_table(run.store, RunFolder(run.store, prefix).catalogue, run.scratch, ["id", "picture"])
        except (ObjectMissing, StateDamaged):  # somebody's own vectors have none
            continue
        chosen = table.filter(pc.is_in(table["id"].cast(pa.string()), value_set=pa.array(sorted(ids), pa.string())))
        pictures |= {row["id"]: row["picture"] for row in chosen.to_pylist() if row["picture"]}
    return pictures
