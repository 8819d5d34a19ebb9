"""What a row of a catalogue must be, checked for many rows at once.

Whole columns are checked; only where one is found wrong is each of its cells looked at, to name the row.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as kinds

from embedding_batch.errors import CatalogueMalformed
from embedding_batch.sources.pictures import resolve
from model_repository.documents.items.item_tags import TAG_LIMIT, parse_tag
from model_repository.errors import NameRefused

CATALOGUE_SCHEMA: Final = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("category", pa.string(), nullable=False),
        pa.field("picture", pa.string(), nullable=False),
        pa.field("version", pa.string()),
        pa.field("tags", pa.list_(pa.string())),
    ]
)
NEEDED: Final = ("id", "category", "picture")
SAMPLE: Final = {"id": "chair-16", "category": "chairs", "picture": "images/chair-16.jpg"}
"""A row as it should be, for people whose row isn't."""

ID_LIMIT: Final = 500
CATEGORY_LIMIT: Final = 100
"""Most characters, as index.json allows."""
PICTURE_LIMIT: Final = 4096
"""Most characters, as Linux allows for a path."""
VERSION_LIMIT: Final = 500

_COLUMNS_SHOWN: Final = 200
"""Characters of their names."""

_NO_UTF_8: Final = re.compile("[\ud800-\udfff]")
"""What `_value` makes of such bytes."""

ROWS_AT_ONCE: Final = 1 << 16
"""Rows of a batch, where a reader can choose."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where rows are from. name: of the file or table. folder: what relative pictures are relative to, or None.

    row: names a row of the batch, with the file or table, from its place in the batch, counted from 0.
    """

    name: str
    folder: str | None
    row: Callable[[int], str]


@dataclass(frozen=True, slots=True)
class _Fault:
    """What is wrong with a cell. row: of the batch, from 0."""

    row: int
    field: str
    what: str


def wanted(name: str, names: Iterable[str]) -> list[str]:
    """The columns to read of those that a source has. Raises CatalogueMalformed where one is missing or twice there."""
    names = list(names)
    sample = f"{','.join(SAMPLE)}\\n{','.join(SAMPLE.values())}"
    return columns_of(name, names, CATALOGUE_SCHEMA.names, NEEDED, f"; as CSV: {sample}")


def columns_of(name: str, names: list[str], known: Iterable[str], needed: Collection[str], mend: str = "") -> list[str]:
    """Those of `known` that a source has; raises CatalogueMalformed where one is twice, or is needed and isn't."""
    for column in known:
        if names.count(column) > 1:
            raise CatalogueMalformed(f"{name}: the column {column!r} stands twice")
        if column in needed and column not in names:
            has = ", ".join(map(repr, names))[:_COLUMNS_SHOWN] or "none"
            raise CatalogueMalformed(
                f"{name}: has no column {column!r}; {', '.join(needed)} are needed, and there are {has}{mend}"
            )
    return [column for column in known if column in names]


def is_utf_8(name: str) -> bool:
    """Whether a file's or folder's name, as the file system gives it, is text."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_rows(columns: Mapping[str, pa.Array], origin: Origin) -> pa.RecordBatch:
    """Make rows of a source a batch of `CATALOGUE_SCHEMA`: its pictures resolved, empty versions none.

    columns: those of `wanted`, of equal length. Raises CatalogueMalformed for the first row that is wrong.
    """
    ids, categories, tags, faults = _said_of_items(columns, origin.name)
    given = _text(columns["picture"], origin.name, "picture", _TEXTS)
    versions = columns.get("version", pa.nulls(len(ids)))
    versions = _empty_as_null(_text(versions, origin.name, "version", _VERSIONS))
    unusable = _fault("picture", given, PICTURE_LIMIT, printable=False)
    faults += [unusable, _fault("version", versions, VERSION_LIMIT, nullable=True)]
    pictures, refused = resolve(given.slice(0, unusable.row) if unusable else given, origin.folder)
    if refused:
        faults.append(_Fault(refused.row, "picture", refused.what))
    _refuse(faults, ids, origin.row)
    return pa.RecordBatch.from_arrays([ids, categories, pictures, versions, tags], schema=CATALOGUE_SCHEMA)


def check_batches(
    batches: Iterable[pa.RecordBatch], name: str, folder: str | None, first: int = 0
) -> Iterator[pa.RecordBatch]:
    """Make batches of a source, of the columns of `wanted`, ones of `CATALOGUE_SCHEMA`; as `check_rows`.

    name, folder: as `Origin` has them. first: what its first row is called.
    """
    for batch in batches:
        if batch.num_rows:
            columns = dict(zip(batch.schema.names, batch.columns, strict=True))
            yield check_rows(columns, Origin(name, folder, partial(counted, name, first)))
            first += batch.num_rows


def counted(name: str, first: int, row: int) -> str:
    """What a row is called whose batch begins with the row `first` of what is called `name`."""
    return f"{name}: row {first + row}"


def check_items(
    columns: Mapping[str, pa.Array], name: str, row: Callable[[int], str]
) -> tuple[pa.StringArray, pa.StringArray, pa.ListArray]:
    """Ids, categories and tags, as texts, of rows that have no picture; else as `check_rows`. name: of the file."""
    ids, categories, tags, faults = _said_of_items(columns, name)
    _refuse(faults, ids, row)
    return ids, categories, tags


def _said_of_items(
    columns: Mapping[str, pa.Array], name: str
) -> tuple[pa.StringArray, pa.StringArray, pa.ListArray, list[_Fault | None]]:
    ids = _text(columns["id"], name, "id", _IDS)
    categories = _text(columns["category"], name, "category", _TEXTS)
    tags = _lists(columns.get("tags", pa.nulls(len(ids))), name)
    faults = [_fault("id", ids, ID_LIMIT), _fault("category", categories, CATEGORY_LIMIT), _tag_fault(tags)]
    return ids, categories, tags, faults


def _refuse(faults: Iterable[_Fault | None], ids: pa.StringArray, row: Callable[[int], str]) -> None:
    """Raise CatalogueMalformed for the first row of those, if there is one."""
    if found := [fault for fault in faults if fault]:
        fault = min(found, key=lambda fault: fault.row)
        of = "" if fault.field == "id" else f" of {_value(ids[fault.row])!r}"
        raise CatalogueMalformed(f"{row(fault.row)}: {fault.field!r}{of} {fault.what}")


@dataclass(frozen=True, slots=True)
class _Kind:
    """Which types of Arrow a column may have. name: for people."""

    name: str
    fits: Callable[[pa.DataType], bool]


def _is_text(kind: pa.DataType) -> bool:
    return bool(
        kinds.is_string(kind)
        or kinds.is_large_string(kind)
        or kinds.is_string_view(kind)
        or kinds.is_binary(kind)
        or kinds.is_large_binary(kind)  # as writers of Parquet make it that name no encoding
        or kinds.is_null(kind)
        or (kinds.is_dictionary(kind) and _is_text(kind.value_type))
    )


def _is_whole(kind: pa.DataType) -> bool:
    if kinds.is_dictionary(kind):
        kind = kind.value_type
    return bool(kinds.is_integer(kind) or (kinds.is_decimal(kind) and kind.scale == 0))


_TEXTS: Final = _Kind("text", _is_text)
_IDS: Final = _Kind("text or whole numbers", lambda kind: _is_text(kind) or _is_whole(kind))
_VERSIONS: Final = _Kind(
    "text, whole numbers or times", lambda kind: _is_text(kind) or _is_whole(kind) or bool(kinds.is_temporal(kind))
)


def _text(column: pa.Array, name: str, field: str, kind: _Kind) -> pa.StringArray:
    if not kind.fits(column.type):
        raise CatalogueMalformed(f"{name}: the column {field!r} is {column.type}, and should be {kind.name}")
    if kinds.is_dictionary(column.type):
        column = column.dictionary_decode()
    if kinds.is_timestamp(column.type):  # in UTC, which needs no list of time zones
        column = column.cast(pa.timestamp(column.type.unit))
    return _cast(column, pa.string(), name, field)


def _lists(column: pa.Array, name: str) -> pa.ListArray:
    """Tags as lists; texts are taken apart at each `;`."""
    if kinds.is_null(column.type):
        return pa.nulls(len(column), pa.list_(pa.string()))
    if _is_text(column.type):
        texts = _empty_as_null(_text(column, name, "tags", _TEXTS))
        return _cast(pc.split_pattern(texts, ";"), pa.list_(pa.string()), name, "tags")
    is_list = kinds.is_list(column.type) or kinds.is_large_list(column.type) or kinds.is_fixed_size_list(column.type)
    if not is_list or not _is_text(column.type.value_type):
        raise CatalogueMalformed(f"{name}: the column 'tags' is {column.type}, and should be lists of text, or text")
    return _cast(column, pa.list_(pa.string()), name, "tags")


def _cast(column: pa.Array, kind: pa.DataType, name: str, field: str) -> pa.Array:
    try:
        # What isn't UTF-8 is found by `_fault`, which knows the row.
        return pc.cast(column, options=pc.CastOptions(kind, allow_invalid_utf8=True))
    except pa.ArrowException as error:
        raise CatalogueMalformed(f"{name}: the column {field!r} can't be read as {kind} ({error})") from error


def _empty_as_null(texts: pa.StringArray) -> pa.StringArray:
    return pc.if_else(pc.equal(pc.binary_length(texts), 0), pa.scalar(None, pa.string()), texts)


def _fault(
    field: str, texts: pa.StringArray, longest: int, *, nullable: bool = False, printable: bool = True
) -> _Fault | None:
    """The first that isn't 1 to `longest` characters, as Python counts them and knows them to be printable."""
    if (nullable or not texts.null_count) and _are_sound(texts, longest, printable=printable):
        return None
    for row in range(len(texts)):
        value = _value(texts[row])
        if not (nullable if value is None else _is_sound(value, longest, printable=printable)):
            return _Fault(row, field, _should_be(longest, value, printable=printable))
    raise AssertionError(field)  # what is sound one by one is sound together


def _tag_fault(tags: pa.ListArray) -> _Fault | None:
    values = tags.flatten()
    fault = _fault("tags", values, TAG_LIMIT)
    fault = fault or _no_tag(values)
    if fault is None:
        return None
    row = pc.list_parent_indices(tags)[fault.row].as_py()
    return _Fault(row, "tags", f"has one that {fault.what}")


def _no_tag(values: pa.StringArray) -> _Fault | None:
    faults = []
    for text in pc.unique(values).to_pylist():
        try:
            parse_tag(text)
        except NameRefused as error:
            faults.append(_Fault(pc.index(values, pa.scalar(text)).as_py(), "tags", f"can't be one: {error}"))
    return min(faults, key=lambda fault: fault.row, default=None)


def _are_sound(texts: pa.StringArray, longest: int, *, printable: bool) -> bool:
    if len(texts) == texts.null_count:
        return True
    try:
        texts.validate(full=True)  # a file may call UTF-8 what isn't
    except pa.ArrowInvalid:
        return False
    lengths = pc.min_max(pc.utf8_length(texts)).as_py()
    if not 0 < lengths["min"] <= lengths["max"] <= longest:
        return False
    # Python's own table of what is printable, since Python reads the documents: all cells as one string
    return not printable or _joined(texts).isprintable()


def _is_sound(text: str, longest: int, *, printable: bool) -> bool:
    return 0 < len(text) <= longest and (text.isprintable() if printable else not _NO_UTF_8.search(text))


def _joined(texts: pa.StringArray) -> str:
    texts = texts.drop_null()
    whole = pa.ListArray.from_arrays(pa.array([0, len(texts)], pa.int32()), texts)
    return str(pc.binary_join(whole, "")[0].as_py())


def _value(cell: pa.StringScalar) -> str | None:
    """The cell's text; each byte that isn't UTF-8 as a character that can't be printed."""
    if not cell.is_valid:
        return None
    data: bytes = cell.as_buffer().to_pybytes()
    return data.decode("utf-8", "surrogateescape")


def _should_be(longest: int, value: str | None, *, printable: bool) -> str:
    found = "nothing" if value is None else repr(value[:80])
    return f"should be 1 to {longest}{' printable' * printable} characters, and is {found}"
