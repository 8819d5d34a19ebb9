"""One build of an index, mapped: opened with every check that costs no pass over the data, then searched.

The puller verified every byte against its digest before it published the folder. Here the sizes are checked again
before anything is mapped, because an engine may load a shortened file without a word, or crash the process on it.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from itertools import accumulate, groupby, islice, zip_longest
from pathlib import Path

from model_repository.digests import sha256_digest
from model_repository.documents.files import File
from model_repository.documents.index_manifest import Engine, IndexManifest, parse_index_manifest
from model_repository.documents.index_manifest import Partition as Promise
from model_repository.documents.items.item_ids import ItemLookup
from model_repository.documents.items.item_tags import ItemTags
from model_repository.errors import DocumentMalformed, PermanentError
from model_repository.names import IndexPrefix
from search_server.build.partitions import Block, MappedIds, Partition, parts_of
from search_server.errors import ItemUnknown, ParameterRefused
from search_server.filters.masks import NOTHING_HIDDEN, Masks
from search_server.filters.restricts import Restricts
from vector_index import IndexFileUnsound, PartitionFiles, Visible

_SAMPLE = 64
"""Ids of each partition that are looked up when a build is opened."""


class BuildUnfit(PermanentError, code="build-unfit"):
    """The folder doesn't hold the build that was asked for; a retry can't help."""


class MappedIndex:
    """A build of an index, opened and ready to be searched.

    partitions: as the manifest has them. blocks: all of it in as few as can be searched at once, in the same order.
    """

    def __init__(
        self,
        manifest: IndexManifest,
        digest: str,
        blocks: Sequence[Partition],
        lookup: ItemLookup,
        tags: ItemTags | None,
    ) -> None:
        """Use `open_index`, which checks that these belong together."""
        self.manifest = manifest
        self.digest = digest
        self.blocks = tuple(blocks)
        self.partitions = tuple(part for block in blocks for part in parts_of(block))
        self.masks = NOTHING_HIDDEN
        self.restricts = Restricts(tags, [block.promise.items for block in blocks])
        self._lookup = lookup
        self._spaces = {partition.space for partition in self.partitions}
        self._places = [0, *accumulate(partition.promise.items for partition in self.partitions)]
        self._cost_of_all = lru_cache(maxsize=1024)(partial(_cost, self.blocks))
        self._by_category: dict[str, tuple[Partition, ...]] = {}
        for partition in self.partitions:
            self._by_category[partition.category] = (*self._by_category.get(partition.category, ()), partition)

    def hide(self, masks: Masks) -> None:
        """Let only those be found from now on that these masks, of this build, leave visible."""
        for partition, visible in zip_longest(self.partitions, masks.visible):
            partition.visible = visible
        for block in self.blocks:
            if isinstance(block, Block):
                block.gather_visible()
        self.masks = replace(masks, visible=tuple(block.visible for block in self.blocks))
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
        """Where to search for what is of one category, or of any for None; raises `ParameterRefused`."""
        return self.blocks if category is None else self._of(category)

    def select_several(
        self, allowed: set[str] | None, denied: set[str]
    ) -> tuple[tuple[Partition, ...], tuple[range, ...]]:
        """Where to search for what is of these categories (None: of any) and of none of those.

        And the places in the build that mustn't be found there, because others of the same block may. Raises
        `ParameterRefused`.
        """
        named = [each for category in sorted(denied | (allowed or set())) for each in self._of(category)]
        if allowed is not None:
            found = [each for each in named if each.category in allowed and each.category not in denied]
            return tuple(sorted(found, key=lambda each: each.number)), ()
        alone = {each.number for each in named if each is self.blocks[each.block]}
        partitions = tuple(each for each in self.blocks if each.number not in alone)
        starts = ((self._places[each.number], each) for each in named if each.number not in alone)
        return partitions, tuple(range(start, start + each.promise.items) for start, each in starts)

    def _of(self, category: str) -> tuple[Partition, ...]:
        partitions = self._by_category.get(category)
        if partitions is None:
            raise ParameterRefused(f"category {category[:100]!r} isn't in this index; GET /v1/status lists them")
        return partitions

    def comparable(self, home: Partition, category: str | None) -> tuple[Partition, ...]:
        """Where to search, in one category or in all, for vectors that can be compared with those of `home`.

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
        return self._cost_of_all(k) if partitions is self.blocks else _cost(partitions, k)

    def restricted(self, partitions: Sequence[Partition], visible: Sequence[Visible | None]) -> Sequence[Partition]:
        """Those of `partitions` of which anything is visible, and of them just that; visible: of all blocks."""
        of_each = ((each, _seen(each, visible)) for each in partitions)
        return [replace(each, visible=seen) for each, seen in of_each if seen is None or seen.count]

    def listed(self, category: str | None, after: str | None, limit: int) -> list[tuple[str, str]]:
        """Up to `limit` items as (id, category) in the order of the build, from the one that follows `after`.

        Only those that may be found.
        """
        partitions, start = self.partitions if category is None else self._of(category), 0
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


def _seen(partition: Partition, visible: Sequence[Visible | None]) -> Visible | None:
    of_block = visible[partition.block]
    return None if of_block is None else of_block.part(partition.row, partition.promise.items)


def _walk(partitions: Sequence[Partition], start: int) -> Iterator[tuple[str, str]]:
    for partition in partitions:
        visible = partition.visible
        if visible is None or visible.count:  # of thousands, those in which all is hidden take no time
            for position in range(start, len(partition.ids)) if visible is None else visible.after(start):
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
    index = MappedIndex(manifest, digest, _open(folder, manifest.partitions), lookup, _open_tags(folder, manifest))
    _check_lookup(lookup, index.partitions, manifest)
    return index


def _open_tags(folder: Path, manifest: IndexManifest) -> ItemTags | None:
    if (promise := manifest.tags) is None:
        return None
    tags = ItemTags(map_file(folder, promise.file), promise.file, manifest.items)
    if tags.names != promise.names:
        raise BuildUnfit(f"{promise.file}: has tags of {tags.names}, index.json says {promise.names}")
    return tags


def _open(folder: Path, promises: Sequence[Promise]) -> list[Partition]:
    """Open them all, and each of their files once; the blocks that they are of."""
    files, mapped = PartitionFiles(promises), dict[str, MappedIds]()

    def opened(number: int, promise: Promise) -> Partition:
        if promise.ids not in mapped:
            ids = MappedIds(map_file(folder, promise.ids), promise.ids)
            if len(ids) != (rows := files.rows(promise)):
                raise BuildUnfit(f"{promise.ids}: has {len(ids)} ids, index.json says {rows} items")
            mapped[promise.ids] = ids
        try:
            vectors = files.open(folder / promise.file, promise)
        except IndexFileUnsound as error:
            raise BuildUnfit(str(error)) from None
        return Partition(number, promise, vectors, mapped[promise.ids].part(promise.first, promise.items))

    partitions = [opened(number, promise) for number, promise in enumerate(promises)]
    blocks: list[Partition] = []
    for _, run in groupby(partitions, _stretch):
        parts = [*run]
        for part in parts:
            part.block, part.row = len(blocks), part.promise.first - parts[0].promise.first
        if len(parts) == 1:
            blocks += parts
        else:
            items = sum(part.promise.items for part in parts)
            whole = opened(parts[0].number, replace(parts[0].promise, category="", items=items))
            begins = [part.row for part in parts]
            blocks.append(
                Block(whole.number, whole.promise, whole.vectors, whole.ids, None, len(blocks), 0, parts, begins)
            )
    return blocks


def _stretch(partition: Partition) -> object:
    """Partitions of which this says the same, and which follow each other, are one stretch of a file."""
    exact = partition.promise.engine is Engine.EXACT
    return (partition.promise.file, partition.space) if exact else partition.number


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
