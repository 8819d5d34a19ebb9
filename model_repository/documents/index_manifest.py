"""index.json: what a build is, written last into its folder, so that a half-uploaded build has none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import partial
from typing import Annotated, Any

from model_repository.documents.files import FileName, Files, check_used, format_files
from model_repository.documents.references import (
    MOST_DIMENSIONS,
    DetectorReference,
    Dimensions,
    ModelReference,
    TagsReference,
    format_detector,
)
from model_repository.fields import Fields, format_document, format_moment, parse_document
from model_repository.names import IndexPrefix, check_label, check_name
from model_repository.records import Bound, Share, read, written

INDEX_MANIFEST_LIMIT = 16 * 1024 * 1024
"""Most bytes of an index.json."""

_SCHEMA = 2
_EARLIER = 1
"""Is still read."""
_METRICS = ("angular",)
_MANY = 10_000
_MODELS = 100
_WIDEST = 2**31 - 1
_MOST_ITEMS = 2**31 - 1
_FLOAT = 4
"""Bytes of a number."""

Category = Annotated[str, Bound(longest=100)]


class Engine(StrEnum):
    """What searches a partition."""

    ANNOY = "annoy"
    FAISS_HNSW = "faiss-hnsw"
    EXACT = "exact"


class Storage(StrEnum):
    """How exactly a partition keeps its vectors: 4, 2 or 1 byte for each number."""

    FLOAT32 = "float32"
    FP16 = "fp16"
    INT8 = "int8"

    def suits(self, engine: Engine) -> bool:
        """Whether the engine can keep them so."""
        return self is Storage.FLOAT32 or engine is Engine.FAISS_HNSW


@dataclass(frozen=True, slots=True)
class Recall:
    """How much of the exact answer is found, measured by the batch.

    at: the k of recall@k. value: 0 to 1. queries: how many were asked.
    """

    at: Annotated[int, Bound(1, 1000)]
    value: Share
    queries: Annotated[int, Bound(1)]


@dataclass(frozen=True, slots=True)
class Partition:
    """Items of one category, in files of their own, or in stretches of files that several partitions share.

    category: as people write it; several partitions may have it.
    file: of the engine. ids: the item ids by position (see `item_ids`). items: how many.
    dimensions: of a vector. metric: ``angular``. model: its place in the build's models; None: the vectors are
        somebody's own.
    width: how widely the engine looks, in its own measure (`vector_index`), to find as many of `recall`.at neighbours
        as `recall` says. queries_per_second: of one core of the batch's machine, at that width; None: not measured.
    first: at which row of both files its items begin. Only `exact` can share; the stretches of a file follow each other
        in the order of the partitions, and leave nothing out.
    """

    category: Category
    file: FileName
    ids: FileName
    items: Annotated[int, Bound(1, _MOST_ITEMS)]
    engine: Engine
    storage: Storage
    dimensions: Dimensions
    metric: str
    model: int | None
    width: Annotated[int, Bound(1, _WIDEST)]
    recall: Recall
    queries_per_second: Annotated[float, Bound(0, 1e9)] | None = None
    first: Annotated[int, Bound(0, _MOST_ITEMS)] = 0

    def check(self, fields: Fields) -> None:
        """Refuse vectors that the engine can't keep."""
        if not self.storage.suits(self.engine):
            fields.refuse(f"{self.engine} can't keep vectors as {self.storage}", "storage")

    def width_for(self, neighbors: int) -> int:
        """How widely to look for so many: as widely as was measured for each, and no less for fewer of them."""
        return -(-self.width * max(neighbors, self.recall.at) // self.recall.at)


def mean_recall(partitions: Sequence[Partition]) -> Recall:
    """The mean of the partitions' recalls, of which each counts as much as it has items."""
    items = sum(partition.items for partition in partitions)
    value = sum(partition.recall.value * partition.items for partition in partitions) / items
    return Recall(partitions[0].recall.at, min(1.0, value), sum(partition.recall.queries for partition in partitions))


@dataclass(frozen=True, slots=True)
class GoldenQuery:
    """A query whose answer the batch recorded; a server must reproduce it before it answers.

    item: an item id of a partition of `category`. neighbors, distances: what that partition gave for the item, itself
        included, nearest first, looking as widely as the partition says; angular distances, sqrt(2 - 2 cos).
    """

    category: Category
    item: Annotated[str, Bound(longest=500)]
    neighbors: Annotated[tuple[str, ...], Bound(entries=1000, longest=500)]
    distances: Annotated[tuple[float, ...], Bound(entries=1000)]

    def check(self, fields: Fields) -> None:
        """Refuse an answer that is none."""
        if len(self.neighbors) != len(self.distances) or not self.neighbors:
            fields.refuse("neighbors and distances must be of one length, at least 1")


@dataclass(frozen=True, slots=True)
class IndexManifest:
    """A build of an index, whole and immutable.

    models: what made the vectors; none if they are somebody's own.
    lookup: the file that finds an item id's partition and position (see `item_ids`).
    files: every file of the folder but index.json itself.
    detector: what finds the things in a picture, where there is one. tags: None: the items have none.
    """

    prefix: IndexPrefix
    created: datetime
    models: Annotated[tuple[ModelReference, ...], Bound(entries=_MODELS)]
    lookup: FileName
    partitions: Annotated[tuple[Partition, ...], Bound(entries=_MANY)]
    golden_queries: Annotated[tuple[GoldenQuery, ...], Bound(entries=_MANY)]
    files: Files
    detector: DetectorReference | None = None
    tags: TagsReference | None = None

    @property
    def references(self) -> tuple[ModelReference | DetectorReference, ...]:
        """Everything below models/ that a pod needs: the models, then the detector."""
        return (*self.models, *([] if self.detector is None else [self.detector]))

    @property
    def items(self) -> int:
        """How many items the whole index has."""
        return sum(partition.items for partition in self.partitions)

    @property
    def recall(self) -> Recall:
        """Of the whole index."""
        return mean_recall(self.partitions)

    @property
    def bytes_to_pull(self) -> int:
        """Bytes of the index's files and those below models/ together."""
        return sum(file.size for file in self.files) + self.model_bytes

    @property
    def model_bytes(self) -> int:
        """Bytes of the files of the models and the detector."""
        return sum(file.size for reference in self.references for file in reference.files)


@dataclass(frozen=True, slots=True)
class Build:
    """A build as it stands in the bucket. generation: of the object index.json. digest: sha256 of its bytes."""

    manifest: IndexManifest
    generation: int
    digest: str


def parse_index_manifest(data: bytes, prefix: IndexPrefix) -> IndexManifest:
    """Read the index.json that stands below `prefix`; raises `DocumentMalformed`."""
    fields = parse_document(data, prefix.manifest, limit=INDEX_MANIFEST_LIMIT)
    schema = fields.schema_version(_EARLIER, _SCHEMA)
    stated = IndexPrefix(
        fields.parsed("index", partial(check_label, "index")),
        fields.parsed("build", partial(check_name, "build")),
    )
    if stated != prefix:
        fields.refuse(f"says it is {stated}; a build must stand where its manifest says")
    earlier = _parse_earlier(fields) if schema == _EARLIER else {}
    manifest = read(IndexManifest, fields, prefix=prefix, **earlier)
    _check_consistent(manifest, fields)
    return manifest


def _parse_earlier(fields: Fields) -> dict[str, Any]:
    """What schema 1 says otherwise: one model, and Annoy with as many trees for each partition.

    Annoy looks at candidates of each tree.
    """
    model = read(ModelReference, fields.object("model"))
    dimensions, metric = fields.whole("dimensions", least=1, most=MOST_DIMENSIONS), fields.text("metric")
    trees, recall = fields.whole("trees", least=1, most=100_000), read(Recall, fields.object("recall"))
    same: dict[str, Any] = {"engine": Engine.ANNOY, "storage": Storage.FLOAT32, "dimensions": dimensions}
    same |= {"metric": metric, "model": 0, "width": trees * recall.at, "recall": recall}
    same |= {"queries_per_second": None, "first": 0}
    partitions = [read(Partition, entry, **same) for entry in fields.objects("partitions", most=_MANY)]
    if len({partition.category for partition in partitions}) != len(partitions):
        fields.refuse("partitions: a category stands twice")
    return {"models": (model,), "partitions": tuple(partitions), "detector": None, "tags": None}


def _check_consistent(manifest: IndexManifest, fields: Fields) -> None:
    _check_partitions(manifest, fields)
    categories = {partition.category for partition in manifest.partitions}
    if strangers := {golden.category for golden in manifest.golden_queries} - categories:
        fields.refuse(f"golden_queries: no partition has the category {min(strangers)!r}")
    if manifest.detector is not None:
        _check_detector(manifest, manifest.detector, fields)
    used = [manifest.lookup] + ([] if manifest.tags is None else [manifest.tags.file])
    used += _used(manifest, fields)
    if len(set(used)) != len(used):
        fields.refuse("partitions: a file is used twice")
    check_used(fields, manifest.files, used, itself="index.json")


def _check_partitions(manifest: IndexManifest, fields: Fields) -> None:
    if not manifest.partitions:
        fields.refuse("partitions: at least one is needed")
    models = len(manifest.models)
    if len({model.prefix for model in manifest.models}) != models:
        fields.refuse("models: a model stands twice")
    for place, partition in enumerate(manifest.partitions):
        if partition.model is not None and partition.model >= models:
            fields.refuse(f"partitions[{place}].model: expected 0 to {models - 1}, found {partition.model}")
        if partition.metric not in _METRICS:
            fields.refuse(f"metric {partition.metric!r}; this release knows {', '.join(_METRICS)}")
        model = None if partition.model is None else manifest.models[partition.model]
        if model is not None and partition.dimensions != model.dimensions:
            fields.refuse(
                f"vectors of {partition.dimensions} dimensions, but {model.prefix} makes {model.dimensions}: "
                "build the index again with that model"
            )
    if len({partition.recall.at for partition in manifest.partitions}) != 1:
        fields.refuse("partitions: recall.at must be the same for all")


def _used(manifest: IndexManifest, fields: Fields) -> list[str]:
    """The files of the partitions, twice where two that can't share one name the same."""
    used: list[str] = []
    ends: dict[tuple[str, str, int, Engine], int] = {}
    sizes = {file.name: file.size for file in manifest.files}
    for one in manifest.partitions:
        shared = one.file, one.ids, one.dimensions, one.engine
        begins = ends.get(shared, 0) if one.engine is Engine.EXACT else 0
        if not begins:
            used += [one.file, one.ids]
        if one.first != begins:
            fields.refuse(f"partitions: {one.category!r} has row {one.first} of {one.file} first, expected {begins}")
        ends[shared] = one.first + one.items
        if one.engine is Engine.EXACT and ends[shared] * one.dimensions * _FLOAT > sizes.get(one.file, math.inf):
            fields.refuse(f"partitions: {one.category!r} goes beyond the end of {one.file}")
    return used


def _check_detector(manifest: IndexManifest, detector: DetectorReference, fields: Fields) -> None:
    if strangers := set(detector.categories.values()) - {partition.category for partition in manifest.partitions}:
        fields.refuse(f"detector.categories: no partition has the category {min(strangers)!r}")
    if detector.prefix in {model.prefix for model in manifest.models}:
        fields.refuse(f"detector: {detector.prefix} is one of the models")


def format_index_manifest(manifest: IndexManifest) -> bytes:
    """Write an index.json: parse(format(x)) == x when the files are in order."""
    detector = {} if manifest.detector is None else {"detector": format_detector(manifest.detector)}
    tags = {} if manifest.tags is None else {"tags": written(manifest.tags)}
    return format_document(
        {
            "schema_version": _SCHEMA,
            "index": manifest.prefix.index,
            "build": manifest.prefix.build,
            "created": format_moment(manifest.created),
            "models": [written(model, "files") | {"files": format_files(model.files)} for model in manifest.models],
            **detector,
            "partitions": [written(partition) for partition in manifest.partitions],
            "lookup": manifest.lookup,
            **tags,
            "golden_queries": [written(golden) for golden in manifest.golden_queries],
            "files": format_files(manifest.files),
        }
    )
