"""index.json: what a build is, written last into its folder, so that a half-uploaded build has none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import partial

from model_repository.digests import check_sha256
from model_repository.documents.files import File, check_used, format_files, parse_files
from model_repository.fields import Fields, format_document, format_moment, parse_document
from model_repository.names import IndexPrefix, ModelPrefix, check_file, check_label, check_name

INDEX_MANIFEST_LIMIT = 16 * 1024 * 1024
"""Most bytes of an index.json."""

_SCHEMA = 1
_METRICS = ("angular",)
_MANY = 10_000


@dataclass(frozen=True, slots=True)
class ModelReference:
    """The model that a build was made with, complete: whoever holds index.json can check and pull it.

    digest: sha256 of the bytes of model.json. dimensions: of what it makes, as model.json says.
    files: every object of the model's folder, model.json included.
    """

    prefix: ModelPrefix
    digest: str
    dimensions: int
    files: tuple[File, ...]


@dataclass(frozen=True, slots=True)
class Partition:
    """One Annoy file: the items of one category.

    category: as people write it; unique in the index.
    file: the Annoy file. ids: the item ids by position (see `item_ids`). items: how many.
    """

    category: str
    file: str
    ids: str
    items: int


@dataclass(frozen=True, slots=True)
class GoldenQuery:
    """A query whose answer the batch recorded; a server must reproduce it before it answers.

    item: an item id of the partition of `category`. neighbors, distances: what Annoy gave for that item, the item
        itself included, nearest first; distances in Annoy's own measure (angular: sqrt(2 - 2 cos)).
    """

    category: str
    item: str
    neighbors: tuple[str, ...]
    distances: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Recall:
    """How much of the exact answer Annoy finds, measured by the batch.

    at: the k of recall@k. value: 0 to 1. queries: how many were asked.
    """

    at: int
    value: float
    queries: int


@dataclass(frozen=True, slots=True)
class IndexManifest:
    """A build of an index, whole and immutable.

    dimensions: length of a vector. metric: ``angular``. trees: of each Annoy file.
    lookup: the file that finds an item id's partition and position (see `item_ids`).
    files: every file of the folder but index.json itself.
    """

    prefix: IndexPrefix
    created: datetime
    model: ModelReference
    dimensions: int
    metric: str
    trees: int
    recall: Recall
    lookup: str
    partitions: tuple[Partition, ...]
    golden_queries: tuple[GoldenQuery, ...]
    files: tuple[File, ...]

    @property
    def items(self) -> int:
        """How many items the whole index has."""
        return sum(partition.items for partition in self.partitions)

    @property
    def bytes_to_pull(self) -> int:
        """Bytes of the index's and the model's files together."""
        return sum(file.size for file in (*self.files, *self.model.files))


@dataclass(frozen=True, slots=True)
class Build:
    """A build as it stands in the bucket. generation: of the object index.json. digest: sha256 of its bytes."""

    manifest: IndexManifest
    generation: int
    digest: str


def parse_index_manifest(data: bytes, prefix: IndexPrefix) -> IndexManifest:
    """Read the index.json that stands below `prefix`; raises `DocumentMalformed`."""
    fields = parse_document(data, prefix.manifest, limit=INDEX_MANIFEST_LIMIT)
    fields.schema_version(_SCHEMA)
    stated = IndexPrefix(
        fields.parsed("index", partial(check_label, "index")),
        fields.parsed("build", partial(check_name, "build")),
    )
    if stated != prefix:
        fields.refuse(f"says it is {stated}; a build must stand where its manifest says")
    manifest = IndexManifest(
        prefix=prefix,
        created=fields.moment("created"),
        model=_parse_model(fields.object("model")),
        dimensions=fields.whole("dimensions", least=1, most=65536),
        metric=fields.text("metric"),
        trees=fields.whole("trees", least=1, most=100_000),
        recall=_parse_recall(fields.object("recall")),
        lookup=fields.parsed("lookup", check_file),
        partitions=tuple(_parse_partitions(fields)),
        golden_queries=tuple(_parse_golden(fields)),
        files=parse_files(fields),
    )
    fields.done()
    _check_consistent(manifest, fields)
    return manifest


def _parse_model(fields: Fields) -> ModelReference:
    reference = ModelReference(
        prefix=fields.parsed("prefix", ModelPrefix.parse),
        digest=fields.parsed("digest", check_sha256),
        dimensions=fields.whole("dimensions", least=1, most=65536),
        files=parse_files(fields),
    )
    fields.done()
    if "model.json" not in {file.name for file in reference.files}:
        fields.refuse("files: model.json is missing")
    return reference


def _parse_recall(fields: Fields) -> Recall:
    recall = Recall(
        at=fields.whole("at", least=1, most=1000),
        value=fields.number("value", least=0.0, most=1.0),
        queries=fields.whole("queries", least=1),
    )
    fields.done()
    return recall


def _parse_partitions(fields: Fields) -> Iterator[Partition]:
    for entry in fields.objects("partitions", most=_MANY):
        yield Partition(
            category=entry.text("category", longest=100),
            file=entry.parsed("file", check_file),
            ids=entry.parsed("ids", check_file),
            items=entry.whole("items", least=1, most=2**31 - 1),
        )
        entry.done()


def _parse_golden(fields: Fields) -> Iterator[GoldenQuery]:
    for entry in fields.objects("golden_queries", most=_MANY):
        golden = GoldenQuery(
            category=entry.text("category", longest=100),
            item=entry.text("item", longest=500),
            neighbors=entry.texts("neighbors", most=1000, longest=500),
            distances=entry.numbers("distances", most=1000),
        )
        entry.done()
        if len(golden.neighbors) != len(golden.distances) or not golden.neighbors:
            entry.refuse("neighbors and distances must be of one length, at least 1")
        yield golden


def _check_consistent(manifest: IndexManifest, fields: Fields) -> None:
    if manifest.metric not in _METRICS:
        fields.refuse(f"metric {manifest.metric!r}; this release knows {', '.join(_METRICS)}")
    if manifest.dimensions != manifest.model.dimensions:
        fields.refuse(
            f"vectors of {manifest.dimensions} dimensions, but {manifest.model.prefix} makes "
            f"{manifest.model.dimensions}: build the index again with that model"
        )
    categories = {partition.category for partition in manifest.partitions}
    if not categories:
        fields.refuse("partitions: at least one is needed")
    if len(categories) != len(manifest.partitions):
        fields.refuse("partitions: a category stands twice")
    if strangers := {golden.category for golden in manifest.golden_queries} - categories:
        fields.refuse(f"golden_queries: no partition has the category {min(strangers)!r}")
    used = [manifest.lookup] + [name for p in manifest.partitions for name in (p.file, p.ids)]
    if len(set(used)) != len(used):
        fields.refuse("partitions: a file is used twice")
    check_used(fields, manifest.files, used, itself="index.json")


def format_index_manifest(manifest: IndexManifest) -> bytes:
    """Write an index.json: parse(format(x)) == x when the files are in order."""
    return format_document(
        {
            "schema_version": _SCHEMA,
            "index": manifest.prefix.index,
            "build": manifest.prefix.build,
            "created": format_moment(manifest.created),
            "model": {
                "prefix": str(manifest.model.prefix),
                "digest": manifest.model.digest,
                "dimensions": manifest.model.dimensions,
                "files": format_files(manifest.model.files),
            },
            "dimensions": manifest.dimensions,
            "metric": manifest.metric,
            "trees": manifest.trees,
            "recall": asdict(manifest.recall),
            "lookup": manifest.lookup,
            "partitions": [asdict(partition) for partition in manifest.partitions],
            "golden_queries": [asdict(golden) for golden in manifest.golden_queries],
            "files": format_files(manifest.files),
        }
    )
