"""Somebody's own vectors, from files of several kinds, to an index that needs no model."""

from __future__ import annotations

import tempfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import embedding_batch.steps.vectors
from embedding_batch.errors import CatalogueUnavailable, VectorsMalformed
from embedding_batch.steps.build.building import Vectors
from embedding_batch.steps.vectors import spool_vectors
from tests.memory_store import MemoryStore

if TYPE_CHECKING:
    pass

ROWS = [("b", "chairs", [0.0, 2.0]), ("a", "chairs", [3.0, 4.0]), ("c", "lamps", [1.0, 0.0])]


def nowhere(bucket: str) -> MemoryStore:
    raise AssertionError(bucket)


def table(rows: list[tuple[Any, Any, Any]] = ROWS, vector: pa.DataType | None = None, **extra: list[Any]) -> pa.Table:
    ids, categories, vectors = zip(*rows, strict=True)
    columns = {"id": pa.array(ids), "category": pa.array(categories), "vector": pa.array(vectors, vector)}
    return pa.table(columns | {name: pa.array(values) for name, values in extra.items()})


def parquet(path: Path, *arguments: Any, **extra: Any) -> Path:
    pq.write_table(table(*arguments, **extra), path)
    return path


def contents(where: object, ids: object = "", open_bucket: Callable[[str], MemoryStore] = nowhere) -> list[Vectors]:
    """What there is of each category."""
    with tempfile.TemporaryDirectory() as folder:
        spooled = spool_vectors(str(where), str(ids), open_bucket, Path(folder))
        return [one.content(0, len(one.ids)) for one in spooled]


def read(where: object, ids: object = "") -> list[tuple[str, tuple[str, ...], list[list[float]]]]:
    return [(one.category, one.ids, one.vectors.round(6).tolist()) for one in contents(where, ids)]


EXPECTED = [
    ("chairs", ("a", "b"), [[pytest.approx(0.6), pytest.approx(0.8)], [0.0, 1.0]]),
    ("lamps", ("c",), [[1.0, 0.0]]),
]


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.float32()),
        pa.list_(pa.float64()),
        pa.large_list(pa.float32()),
        pa.list_(pa.float16(), 2),
        pa.list_(pa.float32(), 2),
        pa.fixed_shape_tensor(pa.float32(), [2]),
    ],
    ids=str,
)
def test_vectors_of_any_kind_of_list_are_read_by_category_and_made_of_length_1(
    tmp_path: Path, kind: pa.DataType
) -> None:
    as_float16 = [(i, c, list(np.array(v, np.float16))) for i, c, v in ROWS]
    rows = as_float16 if kind.value_type == pa.float16() else ROWS
    found = read(parquet(tmp_path / "a.parquet", rows, kind, embedded_by=[1, 2, 3]))
    assert [(category, ids) for category, ids, _ in found] == [(category, ids) for category, ids, _ in EXPECTED]
    assert np.concatenate([v for *_, v in found]).ravel() == pytest.approx([0.6, 0.8, 0, 1, 1, 0], abs=1e-3)


def test_whole_numbers_may_be_ids_and_dictionaries_categories(tmp_path: Path) -> None:
    made = table([(7, "chairs", [1.0, 0.0]), (12, "chairs", [0.0, 1.0])])
    made = made.set_column(1, "category", made["category"].dictionary_encode())
    pq.write_table(made, tmp_path / "a.parquet")
    assert [ids for _, ids, _ in read(tmp_path / "a.parquet")] == [("12", "7")]


def test_whole_numbers_of_any_size_may_be_a_vector(tmp_path: Path) -> None:
    rows = [("a", "chairs", [3 * 2**60, -(2**62)])]
    assert read(parquet(tmp_path / "a.parquet", rows, pa.list_(pa.int64()))) == [
        ("chairs", ("a",), [pytest.approx([0.6, -0.8])])
    ]


def test_a_pattern_names_many_files(tmp_path: Path) -> None:
    for number, row in enumerate(ROWS):
        parquet(tmp_path / f"part-{number}.parquet", [row])
    assert read(tmp_path / "part-*.parquet") == EXPECTED


def test_files_in_a_bucket_are_found_by_a_pattern(tmp_path: Path) -> None:
    stores = {"features": MemoryStore()}
    for number, row in enumerate(ROWS):
        data = parquet(tmp_path / "one", [row]).read_bytes()
        stores["features"].write(f"out/part-{number}.parquet", data, if_generation_match=0)
    stores["features"].write("out/_SUCCESS", b"", if_generation_match=0)
    found = contents("gs://features/out/*.parquet", "", stores.__getitem__)
    assert [one.ids for one in found] == [("a", "b"), ("c",)]


def test_an_array_in_a_bucket_has_its_ids_there_or_here(tmp_path: Path) -> None:
    store = MemoryStore()
    np.save(tmp_path / "a.npy", np.array([vector for *_, vector in ROWS]))
    (tmp_path / "ids.tsv").write_text("".join(f"{item}\t{category}\n" for item, category, _ in ROWS))
    for name in ("a.npy", "ids.tsv"):
        store.write(f"out/{name}", (tmp_path / name).read_bytes(), if_generation_match=0)
    for ids in (tmp_path / "ids.tsv", "gs://features/out/ids.tsv"):
        found = contents("gs://features/out/a.npy", ids, {"features": store}.__getitem__)
        assert [(one.category, one.ids) for one in found] == [("chairs", ("a", "b")), ("lamps", ("c",))]
    with pytest.raises(VectorsMalformed, match=r"--ids: gs://features/out/ids\.txt: no such file"):
        contents("gs://features/out/a.npy", "gs://features/out/ids.txt", {"features": store}.__getitem__)
    store.write("out/b.tsv", (tmp_path / "ids.tsv").read_bytes(), if_generation_match=0)
    with pytest.raises(VectorsMalformed, match=r"--ids: gs://features/out/\*\.tsv: several files; name one"):
        contents("gs://features/out/a.npy", "gs://features/out/*.tsv", {"features": store}.__getitem__)


def test_an_array_and_its_ids(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([vector for *_, vector in ROWS]))
    (tmp_path / "ids.tsv").write_text("".join(f"{item}\t{category}\r\n" for item, category, _ in ROWS))
    assert read(tmp_path / "a.npy", tmp_path / "ids.tsv") == EXPECTED


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([*ROWS, ("a", "lamps", [1.0, 1.0])], "row 3: the id 'a' stands twice"),
        ([("a", "lamps", [0.0, 0.0])], "row 0: a vector of finite numbers, not all 0"),
        ([*ROWS, ("d", "lamps", [float("nan"), 1.0])], "row 3: a vector of finite numbers"),
        ([*ROWS, ("d", "lamps", [float("inf"), 1.0])], "row 3: a vector of finite numbers"),
        ([*ROWS, ("d", "lamps", [1.0])], "aren't all of one length"),
        ([*ROWS, ("d", "lamps", [1.0, 2.0, 3.0])], "aren't all of one length"),
        ([*ROWS, ("d", "lamps", None)], "aren't all of one length"),
        ([*ROWS, ("d", "lamps", [1.0, None])], "numbers are missing"),
        ([("d", "lamps", [])], "aren't all of one length"),
        ([*ROWS, ("", "lamps", [1.0, 1.0])], "row 3: 'id' should be"),
        ([*ROWS, (None, "lamps", [1.0, 1.0])], "row 3: 'id' should be"),
        ([*ROWS, ("d", "l\x00mps", [1.0, 1.0])], "row 3: 'category' of 'd' should be"),
        ([*ROWS, ("d", "x" * 101, [1.0, 1.0])], "row 3: 'category' of 'd' should be"),
    ],
)
def test_what_no_index_can_be_made_of_is_refused_with_file_and_row(
    tmp_path: Path, rows: list[tuple[Any, Any, Any]], says: str
) -> None:
    path = parquet(tmp_path / "a.parquet", rows, pa.list_(pa.float32()))
    with pytest.raises(VectorsMalformed) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert says in str(caught.value)


def test_files_of_other_lengths_of_vectors_do_not_go_together(tmp_path: Path) -> None:
    parquet(tmp_path / "a.parquet", ROWS)
    parquet(tmp_path / "b.parquet", [("d", "lamps", [1.0, 2.0, 3.0])])
    with pytest.raises(VectorsMalformed, match=r"b\.parquet: vectors of 3 numbers, those before it have 2"):
        read(tmp_path / "*.parquet")


def test_what_is_no_such_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VectorsMalformed, match="no such file"):
        read(tmp_path / "*.parquet")
    (tmp_path / "a.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(VectorsMalformed, match="can't be read"):
        read(tmp_path / "a.parquet")
    pq.write_table(pa.table({"id": ["a"], "vector": [[1.0]]}), tmp_path / "b.parquet")
    with pytest.raises(VectorsMalformed, match="has no column 'category'"):
        read(tmp_path / "b.parquet")
    pq.write_table(table().slice(0, 0), tmp_path / "c.parquet")
    with pytest.raises(VectorsMalformed, match="has no vectors"):
        read(tmp_path / "c.parquet")


NO_UTF_8 = pa.Array.from_buffers(
    pa.string(), 3, [None, pa.py_buffer(np.array([0, 1, 2, 3], np.int32)), pa.py_buffer(b"a\xffc")]
)


@pytest.mark.parametrize(
    ("column", "values", "says"),
    [
        ("id", pa.array([1.0, 2.0, 3.0]), "the column 'id' is double, and should be text or whole numbers"),
        ("category", pa.array([True, False, True]), "the column 'category' is bool, and should be text"),
        ("vector", pa.array(["1", "2", "3"]), "the column 'vector' is string, and should be lists of numbers"),
        ("vector", pa.array([["1"], ["2"], ["3"]]), "and should be lists of numbers"),
        ("vector", pa.array([[[1.0]], [[2.0]], [[3.0]]]), "and should be lists of numbers"),
        ("vector", pa.array([[1.0], None, [2.0]], pa.list_(pa.float32(), 1)), "row 1: the vectors aren't all of one"),
        ("vector", pa.array([[1.0], [2.0], [None]], pa.list_(pa.float32(), 1)), "row 2: the vectors aren't all of"),
        ("id", NO_UTF_8, "row 1: 'id' should be 1 to 500 printable characters, and is '\\udcff'"),
        ("category", NO_UTF_8, "row 1: 'category' of 'c' should be"),
        ("tags", pa.ListArray.from_arrays(pa.array([0, 1, 2, 3], pa.int32()), NO_UTF_8), "row 1: 'tags' of 'c'"),
        ("tags", pa.array([["a=b"], [None], []]), "row 1: 'tags' of 'c'"),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_a_column_that_says_something_else_is_named_with_its_row(
    tmp_path: Path, column: str, values: pa.Array, says: str
) -> None:
    ids, *rest = zip(*[(item, *others) for item, *others in (ROWS[1], ROWS[2], ROWS[0])], strict=True)
    made = {"id": pa.array(ids), "category": pa.array(rest[0]), "vector": pa.array(rest[1])}
    pq.write_table(pa.table(made | {column: values}), tmp_path / "a.parquet")
    with pytest.raises(VectorsMalformed) as caught:
        read(tmp_path / "a.parquet")
    assert says in str(caught.value)


def test_a_column_that_stands_twice_or_whose_name_is_no_text_is_refused(tmp_path: Path) -> None:
    twice = pa.table([*table().columns, table()["id"]], [*table().column_names, "id"])
    pq.write_table(twice, tmp_path / "a.parquet")
    with pytest.raises(VectorsMalformed, match="the column 'id' stands twice"):
        read(tmp_path / "a.parquet")
    pq.write_table(table(), tmp_path / "b.parquet", store_schema=False)
    damaged = (tmp_path / "b.parquet").read_bytes().replace(b"category", b"categor\xff")
    (tmp_path / "b.parquet").write_bytes(damaged)
    with pytest.raises(VectorsMalformed, match="can't be read"):
        read(tmp_path / "b.parquet")


@pytest.mark.parametrize(
    "data",
    [b"", b"\x93NUMPY\x01\0\x08\0{'a': (\n", b"PK\x03\x04 and so on", b"PK\x05\x06" + bytes(18)],
    ids=["nothing", "half a head", "an archive", "an empty archive"],
)
def test_what_only_its_name_makes_an_array_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.npy").write_bytes(data)
    (tmp_path / "ids.tsv").write_text("a\tchairs\n")
    with pytest.raises(VectorsMalformed, match=r"a\.npy: can't be read"):
        read(tmp_path / "a.npy", tmp_path / "ids.tsv")


def test_an_array_of_any_order_and_byte_order_is_read_and_one_that_is_too_large_refused(tmp_path: Path) -> None:
    (tmp_path / "ids.tsv").write_text("".join(f"{item}\t{category}\n" for item, category, _ in ROWS))
    vectors = np.array([vector for *_, vector in ROWS])
    for made in (np.asfortranarray(vectors), vectors.astype(">f4"), vectors.astype(np.int8)):
        np.save(tmp_path / "a.npy", made)
        assert read(tmp_path / "a.npy", tmp_path / "ids.tsv") == EXPECTED
    np.save(tmp_path / "a.npy", vectors * [[1], [1e300], [1]])
    with pytest.raises(VectorsMalformed, match="row 1: a vector of finite numbers"):
        read(tmp_path / "a.npy", tmp_path / "ids.tsv")
    (tmp_path / "ids.tsv").write_text("a\tchairs\n\tchairs\nc\tchairs\n")
    with pytest.raises(VectorsMalformed, match=r"ids\.tsv:2: 'id' should be"):
        read(tmp_path / "a.npy", tmp_path / "ids.tsv")


def test_of_an_array_a_part_of_its_rows_is_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, dimensions = 4000, 2048
    monkeypatch.setattr(embedding_batch.steps.vectors, "ROWS_AT_ONCE", 100)
    np.save(tmp_path / "a.npy", np.ones((rows, dimensions), np.float32))
    (tmp_path / "ids.tsv").write_text("".join(f"{row:04}\tchairs\n" for row in range(rows)))
    tracemalloc.start()
    (chairs,) = spool_vectors(str(tmp_path / "a.npy"), str(tmp_path / "ids.tsv"), nowhere, tmp_path)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < rows * dimensions * 4 / 2
    assert chairs.ids == [f"{row:04}" for row in range(rows)]
    assert chairs.path.stat().st_size == rows * dimensions * 4


def test_an_array_that_does_not_fit_its_ids_is_refused(tmp_path: Path) -> None:
    ids = tmp_path / "ids.tsv"
    np.save(tmp_path / "a.npy", np.ones((3, 2), np.float32))
    with pytest.raises(VectorsMalformed, match="--ids: an array has no ids"):
        read(tmp_path / "a.npy")
    ids.write_text("a\tchairs\n")
    with pytest.raises(VectorsMalformed, match="has 3 rows, --ids has 1 lines"):
        read(tmp_path / "a.npy", ids)
    ids.write_text("a chairs\n")
    with pytest.raises(VectorsMalformed, match=r"ids\.tsv:1: expected an id, a tab"):
        read(tmp_path / "a.npy", ids)
    ids.write_text("a\tchairs\n")
    np.save(tmp_path / "b.npy", np.ones(3))
    with pytest.raises(VectorsMalformed, match="rows and columns"):
        read(tmp_path / "b.npy", ids)
    np.save(tmp_path / "c.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(VectorsMalformed, match="can't be read"):
        read(tmp_path / "c.npy", ids)


@pytest.mark.parametrize("most", [1, 2])
def test_items_of_a_category_are_given_in_pieces_by_id(tmp_path: Path, most: int) -> None:
    chairs, _ = spool_vectors(str(parquet(tmp_path / "a.parquet")), "", nowhere, tmp_path)
    pieces = [chairs.content(start, most) for start in range(0, 2, most)]
    assert [item for piece in pieces for item in piece.ids] == ["a", "b"]
    assert np.concatenate([piece.vectors for piece in pieces]) == pytest.approx(np.array([[0.6, 0.8], [0, 1]]))


def test_vectors_whose_disk_fails_may_be_read_another_time(tmp_path: Path) -> None:
    (tmp_path / "a.npy").symlink_to("/proc/self/mem")  # which answers that there is an input/output error
    (tmp_path / "ids.tsv").write_text("a\tc\n")
    with pytest.raises(CatalogueUnavailable, match=r"a\.npy: can't be read now"):
        read(tmp_path / "a.npy", tmp_path / "ids.tsv")
