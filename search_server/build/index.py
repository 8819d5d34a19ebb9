"""One build of an index, mapped: opened with every check that costs no pass over the data, then searched.

The puller verified every byte against its digest before it published the folder. Here the sizes are checked again
before anything is mapped, because an engine may load a shortened file without a word, or crash the process on it.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from heapq import merge
from itertools import islice, zip_longest
from pathlib import Path
from typing import NamedTuple

import numpy as np

from model_repository.digests import sha256_digest
from model_repository.documents.files import File
from model_repository.documents.index_manifest import Engine, IndexManifest, parse_index_manifest
from model_repository.documents.index_manifest import Partition as Promise
from model_repository.documents.items.item_ids import ItemIds, ItemLookup
from model_repository.documents.items.item_tags import ItemTags
from model_repository.errors import DocumentMalformed, PermanentError
from model_repository.names import IndexPrefix
from search_server.errors import ItemUnknown, ParameterRefused
from search_server.filters.masks import NOTHING_HIDDEN, Masks
from search_server.filters.restricts import Restricts
from vector_index import IndexFileUnsound, PartitionFiles, Vector, VectorIndex, Visible

_SAMPLE = 64
"""Ids of each partition that are looked up when a build is opened."""


_PER_WIDTH = {Engine.ANNOY: 1.0, Engine.FAISS_HNSW: 16.0}
"""Vectors compared for one of an engine's width: Annoy's search_k counts vectors, HNSW's ef what leads on."""
_WIDEST = 4
"""Times the items: a wider search looks at the same ones again."""
_OVERHEAD = 40_000.0
"""Cost of asking a partition at all, as numbers compared: 15 microseconds."""
_PER_NEIGHBOR = 5_000.0
"""Cost of a neighbour that is found, as numbers compared: 2 microseconds."""


class BuildUnfit(PermanentError):
    """The folder doesn't hold the build that was asked for; a retry can't help."""

    code = "build-unfit"


class Neighbors(NamedTuple):
    """An answer in columns, nearest first.

    distances: angular, sqrt(2 - 2 cos), from 0 to 2. ids: in UTF-8, as they stand in the mapped file.
    """

    distances: list[float]
    ids: list[bytes]
    categories: list[str]

    def part(self, start: int, end: int) -> Neighbors:
        """Those from place `start` to before `end`."""
        return Neighbors(self.distances[start:end], self.ids[start:end], self.categories[start:end])


class MappedIds(ItemIds):
    """The ids of a partition, many at a time: one slice of the mapping each, which is half of what `[]` costs."""

    def __init__(self, buffer: mmap.mmap, name: str) -> None:
        """Read over `buffer`, the mapped file at `name`; raises `DocumentMalformed` if it can't be that."""
        super().__init__(buffer, name)
        self._buffer = buffer
        self._start = len(buffer) - len(self._text)

    def at(self, positions: Iterable[int]) -> list[bytes]:
        """The ids, in UTF-8, at `positions`, which must be positions of the partition."""
        offsets, buffer, start = self._offsets, self._buffer, self._start
        return [buffer[start + offsets[p] : start + offsets[p + 1]] for p in positions]


@dataclass(slots=True, eq=False)
class Partition:
    """Items of one category, mapped. number: its place in the manifest. promise: what that says of it.

    visible: which of them may be found now; None: all.
    """

    number: int
    promise: Promise
    vectors: VectorIndex
    ids: MappedIds
    visible: Visible | None = None

    @property
    def category(self) -> str:
        """Of all its items."""
        return self.promise.category

    @property
    def space(self) -> tuple[int | None, int]:
        """Model and dimensions of its vectors: only within one space do distances mean anything."""
        return self.promise.model, self.promise.dimensions

    def cost(self, k: int) -> float:
        """What a search for `k` takes, as numbers that are compared: 2.5 thousand million a second, more or less."""
        promise = self.promise
        share = 1.0 if self.visible is None else self.visible.share or 1.0
        if promise.engine is Engine.EXACT:
            compared: float = promise.items
        else:
            compared = min(promise.width_for(k) / share, _WIDEST * promise.items) * _PER_WIDTH[promise.engine]
            if self.visible is not None:  # of little, an engine compares all
                compared = min(compared, self.visible.count)
        return _OVERHEAD + compared * promise.dimensions + min(k, promise.items) * _PER_NEIGHBOR

    def nearest(self, to: int | Vector, k: int) -> Neighbors:
        """The `k` nearest to the item at a position, without itself, or to a vector; fewer only if there are fewer.

        Only those that may be found; the item itself need not be.
        """
        width, visible = self.promise.width_for(k), self.visible
        if isinstance(to, int):
            positions, distances = self.vectors.nearest_to(to, k + 1, width, visible)
            if to in positions:
                own = positions.index(to)
                del positions[own], distances[own]
        else:
            positions, distances = self.vectors.nearest(to, k, width, visible)
        ids = self.ids.at(positions[:k])
        return Neighbors(distances[:k], ids, [self.category] * len(ids))


def query_of(vector: Sequence[float], partitions: Sequence[Partition]) -> Vector:
    """The same, as many partitions take it: not each of them should make an array of it anew."""
    return np.asarray(vector, np.float32) if len(partitions) > 1 else vector


class MappedIndex:
    """A build of an index, opened and ready to be searched."""

    def __init__(
        self,
        manifest: IndexManifest,
        digest: str,
        partitions: Sequence[Partition],
        lookup: ItemLookup,
        tags: ItemTags | None,
    ) -> None:
        """Use `open_index`, which checks that these belong together."""
        self.manifest = manifest
        self.digest = digest
        self.partitions = tuple(partitions)
        self.masks = NOTHING_HIDDEN
        self.restricts = Restricts(tags, [partition.promise.items for partition in partitions])
        self._lookup = lookup
        self._spaces = {partition.space for partition in partitions}
        self._cost_of_all = lru_cache(maxsize=1024)(partial(_cost, self.partitions))
        self._by_category: dict[str, tuple[Partition, ...]] = {}
        for partition in partitions:
            self._by_category[partition.category] = (*self._by_category.get(partition.category, ()), partition)

    def hide(self, masks: Masks) -> None:
        """Let only those be found from now on that these masks, of this build, leave visible."""
        for partition, visible in zip_longest(self.partitions, masks.visible):
            partition.visible = visible
        self.masks = masks
        self._cost_of_all.cache_clear()

    def place(self, item: str) -> tuple[Partition, int]:
        """Where `item` stands; raises `ItemUnknown`."""
        encoded = [item.encode()]
        for number, position in self._lookup.find(item):
            partition = self.partitions[number]
            if partition.ids.at((position,)) == encoded:
                return partition, position
        raise ItemUnknown(item)

    def vector(self, item: str) -> list[float]:
        """The vector of `item`; raises `ItemUnknown`."""
        partition, position = self.place(item)
        return partition.vectors.vector(position)

    def select(self, category: str | None) -> tuple[Partition, ...]:
        """The partitions of one category, or all of them for None; raises `ParameterRefused`."""
        if category is None:
            return self.partitions
        partitions = self._by_category.get(category)
        if partitions is None:
            raise ParameterRefused(f"category {category[:100]!r} isn't in this index; GET /v1/status lists them")
        return partitions

    def comparable(self, home: Partition, category: str | None) -> tuple[Partition, ...]:
        """Those of one category, or of all, whose vectors can be compared with those of `home`.

        Raises `ParameterRefused` for a category of which none can.
        """
        partitions = self.select(category)
        if len(self._spaces) > 1:
            partitions = tuple(each for each in partitions if each.space == home.space)
        if not partitions:
            raise ParameterRefused(
                f"category {category!r} was embedded otherwise than {home.category!r}, where the item is: "
                "their distances can't be compared"
            )
        return partitions

    def cost(self, partitions: Sequence[Partition], k: int) -> float:
        """What a search for `k` in all of them takes: see `Partition.cost`."""
        return self._cost_of_all(k) if partitions is self.partitions else _cost(partitions, k)

    def similar(self, home: Partition, position: int, k: int, partitions: Sequence[Partition]) -> Neighbors:
        """The `k` nearest in `partitions` to the item at `position` of `home`, without that item."""
        vector = home.vectors.vector(position) if any(each.number != home.number for each in partitions) else []
        query = query_of(vector, partitions)
        return merged([each.nearest(position if each.number == home.number else query, k) for each in partitions], k)

    def restricted(self, partitions: Sequence[Partition], visible: Sequence[Visible | None]) -> Sequence[Partition]:
        """Those of `partitions` of which anything is visible, and of them just that; visible: of all partitions."""
        of_each = ((each, visible[each.number]) for each in partitions)
        return [replace(each, visible=seen) for each, seen in of_each if seen is None or seen.count]

    def nearest(self, vector: Sequence[float], k: int, partitions: Sequence[Partition]) -> Neighbors:
        """The `k` nearest in `partitions` to `vector`, of their dimensions, finite, not all 0."""
        query = query_of(vector, partitions)
        return merged([each.nearest(query, k) for each in partitions], k)

    def listed(self, category: str | None, after: str | None, limit: int) -> list[tuple[str, str]]:
        """Up to `limit` items as (id, category) in the order of the build, from the one that follows `after`.

        Only those that may be found.
        """
        partitions = self.select(category)
        start = 0
        if after is not None:
            home, position = self.place(after)
            if home not in partitions:
                raise ParameterRefused(f"after: item {after[:200]!r} isn't in category {category!r}")
            partitions, start = partitions[partitions.index(home) :], position + 1
        return list(islice(_walk(partitions, start), limit))


def check_one_space(partitions: Sequence[Partition]) -> tuple[int | None, int]:
    """Model and dimensions of all of them; raises `ParameterRefused` if they aren't the same: no query can ask both."""
    spaces = {partition.space for partition in partitions}
    if len(spaces) != 1:
        raise ParameterRefused("category: name one; those of this index were embedded by several models")
    return spaces.pop()


def _cost(partitions: Sequence[Partition], k: int) -> float:
    return sum(partition.cost(k) for partition in partitions)


def merged(found: Sequence[Neighbors], k: int) -> Neighbors:
    """The `k` nearest of what was found in several partitions."""
    found = [each for each in found if each.ids]
    if len(found) == 1:
        return found[0]
    rows = list(islice(merge(*(zip(*each, strict=True) for each in found)), k))
    return Neighbors([row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows])


def _walk(partitions: Sequence[Partition], start: int) -> Iterator[tuple[str, str]]:
    for partition in partitions:
        for position in range(start, len(partition.ids)):
            if partition.visible is None or position in partition.visible:
                yield partition.ids[position], partition.category
        start = 0


def open_index(folder: Path, prefix: IndexPrefix, digest: str) -> MappedIndex:
    """Open the build that stands in `folder`.

    digest: sha256 of its index.json. Raises `BuildUnfit` or `DocumentMalformed` if the folder holds anything else.
    """
    data = read_document(folder, "index.json", digest)
    manifest = parse_index_manifest(data, prefix)
    check_sizes(folder, manifest.files)
    lookup = ItemLookup(map_file(folder, manifest.lookup), manifest.lookup)
    if len(lookup) != manifest.items:
        raise BuildUnfit(f"{manifest.lookup}: has {len(lookup)} items, index.json says {manifest.items}")
    partitions = list(_open_partitions(folder, manifest.partitions))
    _check_lookup(lookup, partitions, manifest)
    return MappedIndex(manifest, digest, partitions, lookup, _open_tags(folder, manifest))


def _open_tags(folder: Path, manifest: IndexManifest) -> ItemTags | None:
    if (promise := manifest.tags) is None:
        return None
    tags = ItemTags(map_file(folder, promise.file), promise.file, manifest.items)
    if tags.names != promise.names:
        raise BuildUnfit(f"{promise.file}: has tags of {tags.names}, index.json says {promise.names}")
    return tags


def _open_partitions(folder: Path, promises: Sequence[Promise]) -> Iterator[Partition]:
    """Open them all, and each of their files once."""
    files, mapped = PartitionFiles(promises), dict[str, MappedIds]()
    for number, promise in enumerate(promises):
        if promise.ids not in mapped:
            ids = MappedIds(map_file(folder, promise.ids), promise.ids)
            if len(ids) != (rows := files.rows(promise)):
                raise BuildUnfit(f"{promise.ids}: has {len(ids)} ids, index.json says {rows} items")
            mapped[promise.ids] = ids
        try:
            vectors = files.open(folder / promise.file, promise)
        except IndexFileUnsound as error:
            raise BuildUnfit(str(error)) from None
        yield Partition(number, promise, vectors, mapped[promise.ids].part(promise.first, promise.items))


def _check_lookup(lookup: ItemLookup, partitions: Sequence[Partition], manifest: IndexManifest) -> None:
    for partition in partitions:
        count = len(partition.ids)
        for position in range(0, count, max(1, count // _SAMPLE)):
            try:
                item = partition.ids[position]
            except UnicodeDecodeError:
                raise BuildUnfit(f"the item id at position {position} of {partition.category!r} isn't UTF-8") from None
            if (partition.number, position) not in lookup.find(item):
                raise BuildUnfit(
                    f"{manifest.lookup}: doesn't find item {item[:200]!r} at position {position} of "
                    f"{partition.category!r}, where the item ids have it"
                )


def read_document(folder: Path, name: str, digest: str) -> bytes:
    """The bytes of a manifest, which must have this sha256; raises `BuildUnfit`."""
    try:
        data = (folder / name).read_bytes()
    except OSError as error:
        raise BuildUnfit(
            f"{folder / name}: {error.strerror}; the puller publishes the folder before this starts"
        ) from None
    if (found := sha256_digest(data)) != digest:
        raise BuildUnfit(f"{folder / name}: its digest is {found}, the Deployment asks for {digest}")
    return data


def check_sizes(folder: Path, files: Iterable[File]) -> None:
    """Raise `BuildUnfit` for the first of `files` that isn't in `folder` with the size that its manifest says."""
    for file in files:
        path = folder / file.name
        try:
            size = path.stat().st_size
        except OSError as error:
            raise BuildUnfit(f"{path}: {error.strerror}; its manifest says {file.size} bytes") from None
        if size != file.size:
            raise BuildUnfit(f"{path}: has {size} bytes, its manifest says {file.size}")


def map_file(folder: Path, name: str) -> mmap.mmap:
    """A file, mapped read-only; the mapping outlives the descriptor. Raises `DocumentMalformed` for an empty one."""
    with (folder / name).open("rb") as file:
        try:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:
            raise DocumentMalformed(name, "empty") from None
