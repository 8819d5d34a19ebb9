"""What a row of a catalogue may say, in files of every kind: the same batches; what is wrong is named."""

from __future__ import annotations

import json
import os
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedding_batch.errors import CatalogueMalformed
from embedding_batch.sources import CATEGORY_LIMIT, ID_LIMIT
from embedding_batch.sources.rows import ROWS_AT_ONCE, Origin, check_rows
from model_repository.errors import Misconfigured
from tests.embedding_batch.catalogue_files import KINDS, Row, line, pictures, read, write


@pytest.mark.parametrize("kind", KINDS)
def test_files_of_every_kind_say_the_same(tmp_path: Path, kind: str) -> None:
    path = write(
        tmp_path / f"a.{kind}",
        line("b", version="7", tags=["new", "sale"], price=3, name='a "quoted", name\nof two lines'),
        line("a", category="椅子", picture="https://host/a.jpg?itok=x", version="", tags=None, price=4, name=""),
    )
    assert read(path) == [
        {"id": "b", "category": "Chairs", "picture": f"{tmp_path}/b.jpg", "version": "7", "tags": ["new", "sale"]},
        {"id": "a", "category": "椅子", "picture": "https://host/a.jpg?itok=x", "version": None, "tags": None},
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_version_and_tags_may_be_left_out(tmp_path: Path, kind: str) -> None:
    (row,) = read(write(tmp_path / f"a.{kind}", line("a")))
    assert (row["version"], row["tags"]) == (None, None)


@pytest.mark.parametrize("kind", KINDS)
def test_ids_and_versions_may_be_whole_numbers(tmp_path: Path, kind: str) -> None:
    (row,) = read(write(tmp_path / f"a.{kind}", line("x", id=12, version=2**60)))
    assert (row["id"], row["version"]) == ("12", str(2**60))


def test_a_folder_means_its_catalogue_and_file_names_a_picture_in_it(tmp_path: Path) -> None:
    write(tmp_path / "catalogue.jsonl", {"id": "a", "category": "c", "file": "https://no.url"})
    assert [row["picture"] for row in read(tmp_path)] == [f"{tmp_path}/https:/no.url"]


def test_folders_are_named_from_where_the_command_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "catalogue.jsonl", line("a"))
    wheres = (".", "catalogue.jsonl", f"../{tmp_path.name}")
    assert [read(where)[0]["picture"] for where in wheres] == [f"{tmp_path}/a.jpg"] * 3


def test_a_folder_s_name_may_look_like_a_file_s_or_a_pattern(tmp_path: Path) -> None:
    for name in ("shop.csv", "shop[1]"):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "catalogue.jsonl", line("a"))
        assert [row["picture"] for row in read(tmp_path / name)] == [f"{tmp_path}/{name}/a.jpg"]


def test_a_folder_whose_name_no_picture_could_be_written_down_with_is_misconfigured(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"\xff")
    folder.mkdir()
    write(folder / "catalogue.jsonl", line("a"))
    with pytest.raises(Misconfigured, match="should be UTF-8"):
        read(folder)


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_come_out_as_absolute_paths_and_whole_urls(tmp_path: Path, kind: str) -> None:
    expected = {
        "a.jpg?itok=x": f"{tmp_path}/a.jpg?itok=x",
        " (1).jpg": f"{tmp_path}/ (1).jpg",
        "椅子/家.jpg": f"{tmp_path}/椅子/家.jpg",
        "x" * 500: f"{tmp_path}/{'x' * 500}",
        "a%20b.jpg": f"{tmp_path}/a%20b.jpg",
        "12:30.jpg": f"{tmp_path}/12:30.jpg",
        "..a/b..jpg": f"{tmp_path}/..a/b..jpg",
        ".//./a//b/./c.jpg": f"{tmp_path}/a/b/c.jpg",
        "/mnt/./a//b.jpg": "/mnt/a/b.jpg",
        "/mnt/a%20b.jpg": "/mnt/a%20b.jpg",
        "file:///mnt/a.jpg": "/mnt/a.jpg",
        "file:///mnt//./b.jpg": "/mnt/b.jpg",
        "file:/mnt/a.jpg?v=1": "/mnt/a.jpg?v=1",
        "file://localhost/mnt/a%20%E6%A4%85.jpg": "/mnt/a 椅.jpg",
        "gs://bucket/a//./b c.jpg": "gs://bucket/a//./b c.jpg",
        "http://host/a//b/../c": "http://host/a//b/../c",
        "https://user@host:8080/a?b=c#d": "https://user@host:8080/a?b=c#d",
        "HTTPS://Host/A.JPG": "https://Host/A.JPG",
    }
    assert pictures(tmp_path / f"a.{kind}", *expected) == list(expected.values())
    for one, whole in expected.items():
        assert pictures(tmp_path / f"a.{kind}", one) == [whole]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("picture", "says"),
    [
        ("../secret.jpg", "must lie within the catalogue's folder"),
        ("a/../../secret.jpg", "must lie within the catalogue's folder"),
        ("a/..", "must lie within the catalogue's folder"),
        ("s3://bucket/a.jpg", "should be a path, file:///<path>, gs://"),
        ("ftp://host/a.jpg", "should be a path"),
        ("data:image/png;base64,AAAA", "should be a path"),
        ("//cdn.example/a.jpg", "should be a path"),
        ("C:/pictures/a.jpg", "should be a path"),
        ("https:///a.jpg", "should be a path"),
        ("gs://b/a.jpg", "should be a path"),
        ("gs://bucket/", "should be a path"),
        ("file://host/a.jpg", "should be a path"),
        ("file:///", "should be a path"),
        ("file:///%FF.jpg", "spell UTF-8"),
        ("x" * 4097, "should be 1 to 4096 characters"),
    ],
)
def test_what_no_picture_can_be_called_is_refused_with_its_row(
    tmp_path: Path, kind: str, picture: str, says: str
) -> None:
    path = write(tmp_path / f"a.{kind}", line("a"), line("b", picture=picture), line("c", picture="gopher://x/"))
    with pytest.raises(CatalogueMalformed, match=re.escape(says)) as caught:
        read(path)
    place = {"jsonl": ":2", "csv": ": row 3", "parquet": ": row 1"}[kind]
    assert str(caught.value).startswith(f"{path}{place}: 'picture' of 'b' ")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"id": ""}, "'id' should be 1 to 500 printable characters, and is ''"),
        ({"id": "b\n"}, "'id' should be"),
        ({"id": "b" * 501}, "'id' should be"),
        ({"category": ""}, "'category' of 'b' should be 1 to 100 printable characters, and is ''"),
        ({"category": "c" * 101}, "'category' of 'b' should be"),
        ({"category": "Chairs\u2028"}, "'category' of 'b' should be"),
        ({"category": "Chairs\u00a0"}, "'category' of 'b' should be"),
        ({"category": "Chairs\u0378"}, "'category' of 'b' should be"),
        ({"picture": ""}, "'picture'"),
        ({"version": "v" * 501}, "'version' of 'b' should be"),
        ({"version": "1\x002"}, "'version' of 'b' should be"),
        ({"tags": ["a", "b\tc"]}, "'tags' of 'b' has one that should be 1 to 100 printable characters, and is 'b\\tc'"),
        ({"tags": ["a", ""]}, "'tags' of 'b' has one that"),
        ({"tags": ["t" * 101]}, "'tags' of 'b' has one that"),
    ],
)
def test_the_first_wrong_cell_is_named(tmp_path: Path, kind: str, wrong: Row, says: str) -> None:
    rows = line("a", version="1", tags=["a"]), line("b", version="1", tags=["a"]) | wrong, line("", category="\n")
    path = write(tmp_path / f"a.{kind}", *rows)
    with pytest.raises(CatalogueMalformed) as caught:
        read(path)
    place = {"jsonl": ":2", "csv": ": row 3", "parquet": ": row 1"}[kind]
    assert str(caught.value).startswith(f"{path}{place}: {says}")


def test_a_wrong_row_far_down_is_counted_from_the_beginning(tmp_path: Path) -> None:
    rows = [line(str(number)) for number in range(ROWS_AT_ONCE + 10)]
    rows[-2]["category"] = ""
    for kind, place in (
        ("jsonl", f":{len(rows) - 1}"),
        ("csv", f": row {len(rows)}"),
        ("parquet", f": row {len(rows) - 2}"),
    ):
        path = write(tmp_path / f"a.{kind}", *rows)
        with pytest.raises(
            CatalogueMalformed, match=rf"{re.escape(str(path))}{place}: 'category' of '{ROWS_AT_ONCE + 8}'"
        ):
            read(path)


@given(item=st.text(max_size=501), category=st.text(max_size=101))
def test_columns_are_judged_as_python_judges_each_cell(
    item: str, category: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = write(tmp_path_factory.mktemp("shop") / "a.jsonl", line("a"), line("b") | {"id": item, "category": category})
    limits = ((item, ID_LIMIT), (category, CATEGORY_LIMIT))
    if all(0 < len(text) <= longest and text.isprintable() for text, longest in limits):
        assert [(row["id"], row["category"]) for row in read(path)][1:] == [(item, category)]
    else:
        with pytest.raises(CatalogueMalformed, match=r"a\.jsonl:2: "):
            read(path)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("{not json", "not JSON"),
        ("{}{}", "not JSON"),
        ("\u00a0{}", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "expected an object"),
        (line("b", category=7), "'category' should be 1 to 100 printable"),
        (line("b", id=True), "'id' should be"),
        (line("b", id=1.5), "'id' should be"),
        (line("b", picture=7), "'picture' should be"),
        (line("b", picture=None), "'picture' should be"),
        ({"id": "b", "category": "c"}, "'file' should be a picture's path"),
        ({"id": "b", "category": "c", "file": ""}, "'file' should be"),
        ({"id": "b", "category": "c", "file": "../a.jpg"}, "within the catalogue"),
        ({"id": "b", "category": "c", "file": "/etc/passwd"}, "within the catalogue"),
        (line("b", version=1.5), "'version' should be"),
        (line("b", tags="a"), "'tags' should be a list of texts"),
        (line("b", tags=[1]), "'tags' should be a list of texts"),
        (line("b", picture="\ud800.jpg"), "half a character, \\ud800"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, wrong: object, says: str) -> None:
    text = wrong if isinstance(wrong, str) else json.dumps(wrong)
    (tmp_path / "catalogue.jsonl").write_text(f"{json.dumps(line('a'))}\n{text}\n")
    with pytest.raises(CatalogueMalformed) as caught:
        read(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path}/catalogue.jsonl:2: ")
    assert says in str(caught.value)


def test_an_earlier_line_that_is_wrong_is_named_before_a_later_one(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(f"{json.dumps(line('a', category=''))}\nnot JSON\n")
    with pytest.raises(CatalogueMalformed, match=r"a\.jsonl:1: 'category'"):
        read(tmp_path / "a.jsonl")


def test_lines_end_at_line_feeds_alone_and_a_byte_order_mark_may_stand_before_them(tmp_path: Path) -> None:
    raw = json.dumps(line("a", name="one\u2028two\u2029three\x85four"), ensure_ascii=False)
    (tmp_path / "a.jsonl").write_bytes(("\ufeff" + raw + "\r\n\n").encode() + json.dumps(line("b")).encode())
    assert [row["id"] for row in read(tmp_path / "a.jsonl")] == ["a", "b"]
    (tmp_path / "a.csv").write_bytes("\ufeffid,category,picture\r\na,c\u2028d,a.jpg\r\n".encode())
    with pytest.raises(CatalogueMalformed, match="row 2: 'category' of 'a'"):
        read(tmp_path / "a.csv")


def test_bytes_that_are_no_utf_8_are_refused_with_their_line(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(json.dumps(line("a")).encode() + b'\n{"id": "\xff"}')
    with pytest.raises(CatalogueMalformed, match=r"a\.jsonl:2: not UTF-8"):
        read(tmp_path / "a.jsonl")
    (tmp_path / "a.csv").write_bytes(b"id,category,picture\na,c,a.jpg\nb,\xff,b.jpg\n")
    with pytest.raises(CatalogueMalformed, match=r"a\.csv: can't be read \(.*Row #3: .*UTF8"):
        read(tmp_path / "a.csv")
    table = pa.table({"id": ["a", "b"], "category": ["c", "c"], "picture": pa.array([b"a.jpg", b"\xff"])})
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(CatalogueMalformed, match=r"row 1: 'picture' of 'b' should be"):
        read(tmp_path / "a.parquet")


def test_halves_of_a_character_in_two_rows_are_not_one_character(tmp_path: Path) -> None:
    ids = pa.array([b"a\xe6\xa4", b"\x85b"])
    pq.write_table(pa.table({"id": ids, "category": ["c", "c"], "picture": ["a", "b"]}), tmp_path / "a.parquet")
    with pytest.raises(CatalogueMalformed, match=r"a\.parquet: row 0: 'id' should be"):
        read(tmp_path / "a.parquet")


def test_what_lies_behind_lists_that_are_not_there_is_not_looked_at() -> None:
    values = pa.array(["x", "hidden\n", "y", None])
    missing = pa.array([False, True, False])
    tags = pa.ListArray.from_arrays(pa.array([0, 1, 2, 3], pa.int32()), values, mask=missing)
    texts = pa.array(["a", "b", "c"])
    columns = {"id": texts, "category": texts, "picture": pa.array(["/a", "/b", "/c"])}
    origin = Origin("table", None, "row {}".format)
    assert check_rows(columns | {"tags": tags}, origin)["tags"].to_pylist() == [["x"], None, ["y"]]
    tags = pa.ListArray.from_arrays(pa.array([0, 1, 2, 4], pa.int32()), values, mask=missing)
    with pytest.raises(CatalogueMalformed, match=r"row 2: 'tags' of 'c' has one that .* is nothing"):
        check_rows(columns | {"tags": tags}, origin)


@pytest.mark.parametrize(
    ("column", "values", "expected"),
    [
        ("id", pa.array(["a", "b"], pa.large_string()), ["a", "b"]),
        ("id", pa.array([b"a", b"b"]), ["a", "b"]),
        ("id", pa.array(["a", "b"]).dictionary_encode(), ["a", "b"]),
        ("id", pa.array([1, 2], pa.uint64()), ["1", "2"]),
        ("id", pa.array([Decimal(1), Decimal(2)], pa.decimal128(38, 0)), ["1", "2"]),
        ("version", pa.array([1, None], pa.int32()), ["1", None]),
        ("version", pa.array([None, None], pa.null()), [None, None]),
        ("version", pa.array([0, None], pa.timestamp("us", "UTC")), ["1970-01-01 00:00:00.000000", None]),
        ("version", pa.array([1, None], pa.date32()), ["1970-01-02", None]),
        ("tags", pa.array([["x"], None], pa.large_list(pa.large_string())), [["x"], None]),
        ("tags", pa.array([["x"], ["y"]], pa.list_(pa.string(), 1)), [["x"], ["y"]]),
        ("tags", pa.array([["x"], []], pa.list_(pa.string())), [["x"], []]),
        ("tags", pa.array([["x"], []]).cast(pa.list_(pa.dictionary(pa.int32(), pa.string()))), [["x"], []]),
        ("tags", pa.array([None, None], pa.null()), [None, None]),
        ("id", pa.array([7, 8]).dictionary_encode(), ["7", "8"]),
        ("id", pa.array([b"a", b"b"], pa.large_binary()), ["a", "b"]),
        ("tags", pa.array(["x;y", ""]), [["x", "y"], None]),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_columns_of_parquet_may_have_any_type_that_says_it(
    tmp_path: Path, column: str, values: pa.Array, expected: list[Any]
) -> None:
    columns = {"id": pa.array(["a", "b"]), "category": ["c", "c"], "picture": ["a", "b"]}
    pq.write_table(pa.table(columns | {column: values}), tmp_path / "a.parquet")
    assert [row[column] for row in read(tmp_path / "a.parquet")] == expected


@pytest.mark.parametrize(
    ("column", "values", "says"),
    [
        ("id", [1.5], "the column 'id' is double, and should be text or whole numbers"),
        ("category", [7], "the column 'category' is int64, and should be text"),
        ("version", [1.5], "the column 'version' is double, and should be text, whole numbers or times"),
        ("tags", [[1]], "the column 'tags' is list<"),
    ],
)
def test_a_column_of_another_type_is_named(tmp_path: Path, column: str, values: list[Any], says: str) -> None:
    pq.write_table(pa.Table.from_pylist([line("a") | {column: values[0]}]), tmp_path / "a.parquet")
    with pytest.raises(CatalogueMalformed, match=re.escape(f"a.parquet: {says}")):
        read(tmp_path / "a.parquet")


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_missing_column_is_named(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path / f"a.{kind}", {"id": "a", "picture": "a.jpg"})
    with pytest.raises(CatalogueMalformed, match=rf"a\.{kind}: has no column 'category'; id, category, picture are"):
        read(path)


def test_columns_of_other_names_are_shown(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id;category;picture\na;c;p\n")
    with pytest.raises(
        CatalogueMalformed, match=r"has no column 'id'; .* are needed, and there are 'id;category;picture'"
    ):
        read(tmp_path / "a.csv")
    pq.write_table(pa.table({"id": ["a"], "category": ["c"], "picture": ["p"]}), tmp_path / "a.parquet",
                   store_schema=False)  # fmt: skip
    (tmp_path / "a.parquet").write_bytes((tmp_path / "a.parquet").read_bytes().replace(b"picture", b"pictur\xff"))
    with pytest.raises(CatalogueMalformed, match="can't be read"):
        read(tmp_path / "a.parquet")


def test_a_column_that_stands_twice_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,category,picture,id\na,c,a.jpg,b\n")
    with pytest.raises(CatalogueMalformed, match=r"a\.csv: the column 'id' stands twice"):
        read(tmp_path / "a.csv")


@pytest.mark.parametrize("head", ["id,category,picture,name", "id,category,name,picture"])
def test_csv_that_ends_within_quotes_loses_no_item_without_a_word(tmp_path: Path, head: str) -> None:
    (tmp_path / "a.csv").write_text(f'{head}\na,c,x.jpg,5" wide\nb,c,y.jpg,"so ""wide""\nc,c,z.jpg,narrow\n')
    with pytest.raises(CatalogueMalformed, match=r"a\.csv: a quote is never closed.*: '\"so \"\"wide"):
        read(tmp_path / "a.csv")
    (tmp_path / "a.csv").write_text('id,category,picture\n"a",c"d,"x,""y"".jpg"\n')
    assert [(row["category"], row["picture"]) for row in read(tmp_path / "a.csv")] == [('c"d', f'{tmp_path}/x,"y".jpg')]


@pytest.mark.parametrize("far", [0, 5 << 20])
def test_csv_with_quotes_that_are_not_doubled_loses_no_item_without_a_word(tmp_path: Path, far: int) -> None:
    rows = [f'a,c,x.jpg,"{"y" * far}\n5\\""', 'b,c,y.jpg,"6\\" wide"', "c,c,z.jpg,narrow"]
    (tmp_path / "a.csv").write_text("\n".join(["id,category,picture,name", *rows, ""]))
    with pytest.raises(CatalogueMalformed, match=r"a\.csv: a cell goes on behind the quote that closes it; double a"):
        read(tmp_path / "a.csv")


def test_a_row_of_csv_with_too_few_cells_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,category,picture\na,c,a.jpg\nb,c\n")
    with pytest.raises(CatalogueMalformed, match=r"a\.csv: can't be read \(.*Row #3: Expected 3 columns, got 2"):
        read(tmp_path / "a.csv")
