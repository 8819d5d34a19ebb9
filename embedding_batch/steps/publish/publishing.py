"""Step `publish`: what makes partitions a build: the lookup, the models that are new, and index.json last."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from embedding_batch.errors import IndexUnsound, NameTaken
from embedding_batch.run import Run
from embedding_batch.state.tables import read_table
from embedding_batch.steps.build.tuning import spread
from embedding_batch.steps.embedding import read_pictures
from embedding_batch.steps.publish.models import LocalModel, NewModel, new_model, publish_model
from embedding_batch.steps.publish.tagging import encode_tags
from embedding_batch.steps.publish.uploading import describe, upload_files, upload_manifest
from image_embedder import PictureUnreadable
from model_repository.documents.files import File
from model_repository.documents.index_manifest import IndexManifest, format_index_manifest, parse_index_manifest
from model_repository.documents.items.item_ids import ItemLookup, encode_item_lookup
from model_repository.documents.references import ModelReference, TagsReference
from model_repository.fields import format_document
from model_repository.repository import read_build

LOOKUP: Final = "items.lookup"
_LOOKED_UP = 10_000
"""Items of a partition that must be found."""
_GOLDEN_IMAGES = 3
_GOLDEN_TRIED = 24
"""Pictures, when one of those can't be had."""


def publish(run: Run) -> dict[str, Any]:
    """Publish the models that are new, and the build; returns the step's record.

    Raises StepMissing, PictureUnreadable for a golden picture, NameTaken, and what the store does.
    """
    folder = run.folder
    collected = folder.recorded("collect")
    numbers = range(collected["parts"])
    with run.timed("publish") as details:
        parts = [folder.recorded("build", number) for number in numbers]
        models = _publish_models(run, folder.recorded("list")["models"])
        its = ["id", "tags"]
        tables = [read_table(run.store, folder.table("part", number), run.scratch, its) for number in numbers]
        tags = encode_tags(table["tags"] for table in tables)
        ids = [of for table, part in zip(tables, parts, strict=True) for of in _ids_of_each(table, part)]
        manifest = publish_build(run, parts, ids, models, tags)
        details.append(f"{manifest.prefix}, {manifest.bytes_to_pull} bytes to pull")
    return published(manifest)


def _ids_of_each(table: pa.Table, part: Mapping[str, Any]) -> Iterator[list[str]]:
    """The ids of each partition of a part, by position."""
    ids = table["id"].to_pylist()
    for partition in part["partitions"]:
        first: int = partition.get("first", 0)
        yield ids[first : first + partition["items"]]


def published(manifest: IndexManifest) -> dict[str, Any]:
    """What the record of `publish` says of a build."""
    return {
        "index_prefix": str(manifest.prefix),
        "models": [str(reference.prefix) for reference in manifest.references],
        "items": manifest.items,
        "recall": manifest.recall.value,
        "bytes_to_pull": manifest.bytes_to_pull,
        "partitions": [
            {
                "category": partition.category,
                "items": partition.items,
                "engine": str(partition.engine),
                "storage": str(partition.storage),
                "width": partition.width,
                "recall": partition.recall.value,
                "queries_per_second": partition.queries_per_second,
            }
            for partition in manifest.partitions
        ],
    }


def _publish_models(run: Run, models: Sequence[Mapping[str, Any]]) -> list[ModelReference]:
    """Publish those that don't stand in the bucket; returns what index.json says of each, by their places in it."""
    references: list[ModelReference] = []
    new: list[tuple[int, LocalModel, NewModel]] = []
    named = {model["place"]: model["name"] for model in models}
    for place, name in sorted(named.items()):
        local, reference = run.model(name)
        if reference is None:
            its = [category for model in models if model["place"] == place for category in model["categories"]]
            one = new_model(local, _golden(run, its), run.now)
            new.append((place, local, one))
            reference = one.reference
        references.append(reference)
    for place, local, one in new:  # every document was read before the first upload
        references[place] = publish_model(run.store, local, one)
    return [replace(reference, device=run.config.device, decode=run.decode) for reference in references]


def _golden(run: Run, categories: Sequence[str]) -> list[bytes]:
    """Some pictures of these categories, evenly spread.

    Those of the bucket may have been deleted since they were embedded: then their hosts are asked again, and where
    these have others by now, other pictures are taken. Raises PictureUnreadable when none of those can be had.
    """
    items = read_table(run.store, run.folder.catalogue, run.scratch, ["category", "picture", "sha256", "reason"])
    of_model = pc.is_in(items["category"].cast(pa.string()), value_set=pa.array(categories))
    items = items.filter(pc.and_(of_model, pc.is_null(items["reason"])))
    found: dict[bytes, bytes] = {}
    faults: dict[str, str] = {}
    for count in (_GOLDEN_IMAGES, _GOLDEN_TRIED):
        rows = items.take(spread(items.num_rows, count)).to_pylist()
        missing = {row["sha256"]: row["picture"] for row in rows if row["sha256"] not in found}
        found.update(read_pictures(run, missing, faults))
        golden = [found[digest] for digest in dict.fromkeys(row["sha256"] for row in rows) if digest in found]
        if len(golden) >= min(_GOLDEN_IMAGES, items.num_rows):
            break
    if not golden:
        raise PictureUnreadable(
            f"none of {len(faults)} pictures can be had again to prove the model by; the first: "
            f"{next(iter(faults.values()))}; put pictures/ or models/ of the bucket back, or delete features/ there: "
            "then a new run asks for all pictures"
        )
    return golden[:_GOLDEN_IMAGES]


def index_document(
    run: Run,
    parts: Sequence[Mapping[str, Any]],
    models: Sequence[ModelReference],
    files: Sequence[File],
    tags: TagsReference | None = None,
) -> tuple[IndexManifest, bytes]:
    """Return what index.json says, and its bytes; raises DocumentMalformed if its own reader would not take them.

    parts: as the step `build` records them. files: of all partitions together: the lookup, and the tags.
    """
    detector, partitions = run.detector(), [one for part in parts for one in part["partitions"]]
    its = None if detector is None else detector.reference_for(one["category"] for one in partitions)
    empty = IndexManifest(run.config.prefix, run.now, tuple(models), LOOKUP, (), (), tuple(files), its, tags)
    document = json.loads(format_index_manifest(empty))
    document["partitions"] = partitions
    document["golden_queries"] = [golden for part in parts for golden in part["golden_queries"]]
    document["files"] += [file for part in parts for file in part["files"]]
    data = format_document(document)
    return parse_index_manifest(data, run.config.prefix), data


def publish_build(
    run: Run,
    parts: Sequence[Mapping[str, Any]],
    ids: Sequence[Sequence[str]],
    models: Sequence[ModelReference],
    tags: tuple[TagsReference, bytes] | None,
) -> IndexManifest:
    """Write the lookup, the tags and then index.json, the last object of a build whose partitions are uploaded.

    ids: of each partition, by position. tags: as `encode_tags` gives them. Raises ValueError when an item is in two of
    them; NameTaken when another build stands there.
    """
    contents = {LOOKUP: encode_item_lookup(ids)}
    _check_lookup(contents[LOOKUP], ids)
    if tags is not None:
        contents[tags[0].file] = tags[1]
    files = describe(contents)
    manifest, document = index_document(run, parts, models, files, tags and tags[0])
    upload_files(run.store, manifest.prefix, contents, files)
    try:
        upload_manifest(run.store, manifest.prefix, document)
    except NameTaken:
        standing = read_build(run.store, manifest.prefix).manifest
        if _unmeasured(standing) != _unmeasured(manifest):
            raise
        return standing
    return manifest


def check_readable(run: Run, part: Mapping[str, Any]) -> None:
    """Raise DocumentMalformed if index.json can't say this of a part: before anything of it is uploaded."""
    partitions = [{name: value for name, value in one.items() if name != "model"} for one in part["partitions"]]
    index_document(run, [{**part, "partitions": partitions}], [], describe({LOOKUP: b""}))


def _check_lookup(data: bytes, ids: Sequence[Sequence[str]]) -> None:
    lookup = ItemLookup(data, LOOKUP)
    for number, of_partition in enumerate(ids):
        for position in spread(len(of_partition), _LOOKED_UP):
            if (number, position) not in lookup.find(of_partition[position]):
                raise IndexUnsound(f"{LOOKUP}: doesn't find item {of_partition[position]!r}")


def _unmeasured(manifest: IndexManifest) -> IndexManifest:
    """The build without what is never measured the same twice."""
    partitions = (replace(partition, queries_per_second=None) for partition in manifest.partitions)
    return replace(manifest, partitions=tuple(partitions), files=tuple(sorted(manifest.files)))
