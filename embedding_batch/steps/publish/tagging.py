"""The items' tags, as a file of the build that finds the items of each."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from embedding_batch.errors import CatalogueMalformed
from model_repository.documents.items.item_tags import TAGS_LIMIT, ItemTags, encode_item_tags, parse_tag, tag_name
from model_repository.documents.references import TagsReference

TAGS_FILE: Final = "items.tags"
_LISTS: Final = pa.list_(pa.string())


def check_tags(tags: pa.ChunkedArray, where: str) -> None:
    """Raise CatalogueMalformed if these are more than an index can have: list<string> of each item, or null."""
    distinct = pc.count_distinct(pc.list_flatten(tags)).as_py()
    if distinct > TAGS_LIMIT:
        raise CatalogueMalformed(
            f"{where}: {distinct} different tags, an index may have {TAGS_LIMIT}; a tag is for what many items "
            "have in common, such as a brand"
        )


def encode_tags(parts: Iterable[pa.ChunkedArray]) -> tuple[TagsReference, bytes] | None:
    """Return what index.json says of the tags, and their file; None if no item has one.

    parts: list<string> of each partition in the order of index.json, a row for each position; null is no tags.
    """
    chunks = [chunk.fill_null([]) for part in parts for chunk in part.cast(_LISTS).chunks]
    tags = pa.chunked_array(chunks, _LISTS).combine_chunks()
    given = tags.flatten().dictionary_encode()
    if not len(given):
        return None
    parsed = [parse_tag(text) for text in given.dictionary.to_pylist()]
    names = sorted(set(parsed))
    number_of = {tag: number for number, tag in enumerate(names)}
    codes = np.array([number_of[tag] for tag in parsed], np.uint64)[given.indices.to_numpy()]
    places = pc.list_parent_indices(tags).to_numpy().astype(np.uint64)
    pairs = np.unique(codes << np.uint64(32) | places)  # an item has a tag once, however often that is said
    begins = np.searchsorted(pairs >> np.uint64(32), np.arange(len(names) + 1, dtype=np.uint64))
    places = (pairs & np.uint64(0xFFFFFFFF)).astype("<u4")
    data = encode_item_tags({tag: places[begins[n] : begins[n + 1]].tobytes() for n, tag in enumerate(names)})
    ItemTags(data, TAGS_FILE, len(tags))
    return TagsReference(TAGS_FILE, tuple(sorted({tag_name(tag) for tag in names}))), data
