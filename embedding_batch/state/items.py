"""The list of items: what the catalogue says of them, and what is known of their pictures.

id         string               unique; the order of the rows is theirs
category   dictionary<string>
picture    large_string         a URI; see `sources`
version    large_string, or null   which bytes of that URI are meant: as the catalogue says, or size and time of a file
tags       list<string>, or null
etag, modified   large_string, or null   as the picture's server said
looked     int64, or null       when its bytes were asked for last, seconds since 1970
sha256     binary[32], or null  of its bytes
reason     string, or null      why the item can't be indexed
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from embedding_batch.errors import CatalogueMalformed
from embedding_batch.state.features import DIGEST_BYTES

CATEGORY: Final = pa.dictionary(pa.int32(), pa.string())
LONG: Final = pa.large_string()
"""Of texts that are more than 2 GiB in all, as signed URLs of millions of pictures are."""
SAID: Final = pa.schema(
    [
        ("id", pa.string()),
        ("category", CATEGORY),
        ("picture", LONG),
        ("version", LONG),
        ("tags", pa.list_(pa.string())),
    ]
)
KNOWN: Final = pa.schema(
    [
        ("etag", LONG),
        ("modified", LONG),
        ("looked", pa.int64()),
        ("sha256", pa.binary(DIGEST_BYTES)),
    ]
)
"""Of a picture's bytes, from run to run."""
SHARD_SCHEMA: Final = pa.schema([SAID.field("picture"), SAID.field("version"), *KNOWN])
"""Of a shard: pictures, each once."""
WEB: Final = ("http://", "https://")
REMOTE: Final = (*WEB, "gs://")
"""How URIs begin of pictures that aren't on this machine."""


def gather_items(batches: Iterable[pa.RecordBatch], where: str, most_categories: int) -> pa.Table:
    """Return what a source says as one table of SAID, by id.

    Raises CatalogueMalformed for no items, an id that stands twice, or too many categories.
    """
    held: list[pa.RecordBatch] = []
    categories: set[str] = set()
    for batch in batches:
        category = batch.column("category").dictionary_encode()
        categories.update(category.dictionary.to_pylist())
        if len(categories) > most_categories:
            raise CatalogueMalformed(f"{where}: more than the {most_categories} categories that an index may have")
        columns = [category if each.name == "category" else batch.column(each.name).cast(each.type) for each in SAID]
        held.append(pa.RecordBatch.from_arrays(columns, schema=SAID))
    table = pa.Table.from_batches(held, SAID).unify_dictionaries()
    held.clear()  # three million rows are held twice while they are sorted, and not a third time
    if not table.num_rows:
        raise CatalogueMalformed(f"{where}: has no items")
    table = table.take(pc.sort_indices(table["id"])).combine_chunks()
    ids = table["id"]
    twice = pc.index(pc.equal(ids.slice(1), ids.slice(0, len(ids) - 1)), value=True).as_py()
    if twice >= 0:
        raise CatalogueMalformed(f"{where}: the id {ids[twice].as_py()!r} stands twice")
    return table


def with_long_texts(table: pa.Table) -> pa.Table:
    """Return a table of items, or of some columns, as this release has their texts; an earlier one had short ones."""
    long = {field.name for field in (*SAID, *KNOWN) if field.type == LONG}
    return table.cast(pa.schema([each.with_type(LONG) if each.name in long else each for each in table.schema]))


def with_cells(table: pa.Table, field: pa.Field, where: NDArray[np.bool_], values: pa.Array | pa.Scalar) -> pa.Table:
    """Return the table with other cells in a column, where bool[N] says so; values: those, or one for all of them."""
    column = pc.replace_with_mask(table[field.name].combine_chunks(), pa.array(where), values)
    return table.set_column(table.schema.get_field_index(field.name), field, column)


def mask(values: pa.ChunkedArray | pa.Array) -> NDArray[np.bool_]:
    """Return booleans as bool[N]; null is False."""
    return np.asarray(pc.fill_null(values, False).to_numpy(zero_copy_only=False), bool)  # noqa: FBT003 - arrow's
