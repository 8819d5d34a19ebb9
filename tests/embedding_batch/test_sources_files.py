"""Which files a catalogue's name means, here and in a bucket; folders of pictures; and looking at one."""

from __future__ import annotations

import errno
import gzip
import os
import re
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embedding_batch.catalogue import look_at_catalogue
from embedding_batch.errors import CatalogueMalformed, CatalogueUnavailable
from embedding_batch.sources import CATALOGUE_SCHEMA, read_catalogue
from model_repository.bucket.gcs_store import GcsStore
from model_repository.errors import BucketMissing, Misconfigured
from tests.embedding_batch.catalogue_files import KINDS, line, nowhere, read, write
from tests.memory_store import MemoryStore


@pytest.mark.parametrize("kind", KINDS)
def test_a_pattern_names_many_files_in_the_order_of_their_names(tmp_path: Path, kind: str) -> None:
    for number in (2, 0, 1):
        write(tmp_path / f"part-{number}.{kind}", line(str(number)))
    assert [row["id"] for row in read(tmp_path / f"part-*.{kind}")] == ["0", "1", "2"]


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(tmp_path: Path) -> None:
    write(tmp_path / "a[1].csv", line("a"))
    write(tmp_path / "a1.csv", line("b"))
    assert [row["id"] for row in read(tmp_path / "a[1].csv")] == ["a"]


@pytest.mark.parametrize("kind", KINDS)
def test_catalogues_in_a_bucket_name_pictures_beside_them(tmp_path: Path, kind: str) -> None:
    rows = [line("a"), line("b", picture="./x//y.jpg"), line("c", picture="https://host/"), line("d", picture="/mnt/a")]
    store = MemoryStore("catalogues")
    store.write(f"shop/a.{kind}", write(tmp_path / f"a.{kind}", *rows).read_bytes(), if_generation_match=0)
    store.write("shop/_SUCCESS", b"", if_generation_match=0)
    for where in (f"gs://catalogues/shop/a.{kind}", f"gs://catalogues/s*.{kind}"):
        batches = read_catalogue(where, open_bucket={"catalogues": store}.__getitem__)
        assert [uri for batch in batches for uri in batch["picture"].to_pylist()] == [
            "gs://catalogues/shop/a.jpg",
            "gs://catalogues/shop/x//y.jpg",
            "https://host/",
            "/mnt/a",
        ]


@pytest.mark.parametrize("kind", KINDS)
def test_objects_that_are_stored_as_gzip_are_read_and_none_stays_on_the_disk(tmp_path: Path, kind: str) -> None:
    store = MemoryStore("catalogues")
    for name in ("0", "1"):
        data = write(tmp_path / f"{name}.{kind}", line(name)).read_bytes()
        store.write(f"{name}.{kind}", gzip.compress(data), if_generation_match=0)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    batches = read_catalogue(
        f"gs://catalogues/*.{kind}", open_bucket={"catalogues": store}.__getitem__, scratch=scratch
    )
    for name, batch in zip("01", batches, strict=True):
        assert batch["id"].to_pylist() == [name]
        assert len(list(scratch.iterdir())) == 1
    assert list(scratch.iterdir()) == []
    store.write(f"2.{kind}", b"\x1f\x8b and no more", if_generation_match=0)
    with pytest.raises(CatalogueMalformed, match=rf"gs://catalogues/2\.{kind}"):
        list(read_catalogue(f"gs://catalogues/2.{kind}", open_bucket={"catalogues": store}.__getitem__))


def test_a_folder_of_a_bucket_means_its_catalogue(tmp_path: Path) -> None:
    store = MemoryStore("catalogues")
    data = write(tmp_path / "a.jsonl", line("a")).read_bytes()
    store.write("catalogue.jsonl", data, if_generation_match=0)
    store.write("shop/catalogue.jsonl", data, if_generation_match=0)
    for where in ("gs://catalogues", "gs://catalogues/", "gs://catalogues/shop", "gs://catalogues/shop/"):
        (batch,) = read_catalogue(where, open_bucket={"catalogues": store}.__getitem__)
        assert batch["picture"].to_pylist() == [f"{where.rstrip('/')}/a.jpg"]


def test_a_bucket_that_is_not_there_is_said(bucket_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", bucket_server)
    with pytest.raises(BucketMissing):
        list(read_catalogue("gs://no-such-bucket/a.csv", open_bucket=GcsStore))


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_catalogue_is_refused(tmp_path: Path, kind: str) -> None:
    with pytest.raises(CatalogueMalformed, match="no such file; name a folder with"):
        read(tmp_path / f"*.{kind}")
    with pytest.raises(CatalogueMalformed, match=r"no/catalogue\.jsonl: no such file"):
        read(tmp_path / "no")
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(CatalogueMalformed, match=r"a\.txt: of no known kind"):
        read(tmp_path / "a.txt")
    (tmp_path / f"a.{kind}").write_bytes(b"PAR1 \x00 not really")
    with pytest.raises(CatalogueMalformed, match=rf"a\.{kind}:"):
        read(tmp_path / f"a.{kind}")
    (tmp_path / f"a.{kind}").unlink()
    (tmp_path / f"a.{kind}").mkdir()
    with pytest.raises(CatalogueMalformed, match=rf"a\.{kind}/catalogue\.jsonl: no such file"):
        read(tmp_path / f"a.{kind}")


@pytest.mark.parametrize("kind", KINDS)
def test_a_catalogue_without_items_is_refused(tmp_path: Path, kind: str) -> None:
    if kind == "jsonl":
        (tmp_path / "a.jsonl").write_text("\n \n")
    elif kind == "csv":
        (tmp_path / "a.csv").write_text("id,category,picture\n")
    else:
        pq.write_table(pa.Table.from_pylist([line("a")]).slice(0, 0), tmp_path / "a.parquet")
    with pytest.raises(CatalogueMalformed, match=rf"a\.{kind}: has no items"):
        read(tmp_path / f"a.{kind}")


@pytest.mark.parametrize(
    ("where", "query", "says"),
    [
        ("shop", "SELECT 1", "--query: goes with bigquery://<project>"),
        ("", "", "--catalogue: '': name a folder"),
        ("s3://bucket/a.csv", "", "--catalogue: 's3://bucket/a.csv': name a folder"),
        ("bigquery://p", "", "--query: name a file of SQL"),
        ("bigquery://p/d/t", "SELECT 1", "--query: goes with bigquery://p, without"),
        ("bigquery://p/d", "", "--catalogue: bigquery://p/d: expected"),
        ("bigquery://p//t", "", "--catalogue: bigquery://p//t: expected"),
    ],
)
def test_what_makes_no_sense_is_said_before_anything_is_read(where: str, query: str, says: str) -> None:
    with pytest.raises(Misconfigured, match=re.escape(says)):
        read_catalogue(where, query=query, open_bucket=nowhere)


def test_bigquery_without_its_client_is_misconfigured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "google.cloud.bigquery", None)
    with pytest.raises(
        Misconfigured, match=r"bigquery://p/d/t: BigQuery's client isn't here .*; install requirements/"
    ):
        list(read_catalogue("bigquery://p/d/t", open_bucket=nowhere))


def test_only_the_columns_that_are_wanted_are_kept(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", line("a", embedding=[1.0] * 512))
    assert read(tmp_path / "a.parquet")[0].keys() == set(CATALOGUE_SCHEMA.names)


def test_folders_are_categories_and_the_pictures_in_them_items(tmp_path: Path) -> None:
    for name in ("chairs/oak.jpg", "lamps/kids/moon 1.PNG", "chairs/birch.webp", "chairs/readme.txt", ".git/a.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert read(tmp_path) == [
        {"id": item, "category": category, "picture": f"{tmp_path}/{file}", "version": None, "tags": None}
        for item, category, file in (
            ("chairs/birch", "chairs", "chairs/birch.webp"),
            ("chairs/oak", "chairs", "chairs/oak.jpg"),
            ("lamps/kids/moon 1", "lamps", "lamps/kids/moon 1.PNG"),
        )
    ]
    write(tmp_path / "catalogue.jsonl", line("a"))  # who wrote a list means it
    assert [row["id"] for row in read(tmp_path)] == ["a"]


def test_links_to_folders_are_followed_but_not_to_those_that_they_stand_in(tmp_path: Path) -> None:
    (tmp_path / "elsewhere/kids").mkdir(parents=True)
    (tmp_path / "elsewhere/kids/moon.jpg").touch()
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop/lamps").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/all").symlink_to(tmp_path)
    (tmp_path / "elsewhere/again").symlink_to("../elsewhere/kids/..")
    assert [row["id"] for row in read(tmp_path / "shop")] == ["lamps/kids/moon"]


def test_a_folder_that_can_not_be_looked_into_loses_no_category_without_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("chairs/oak.jpg", "lamps/moon.jpg"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    look = os.scandir

    def denied(path: str) -> Any:
        if path.endswith("/lamps"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return look(path)

    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(
        CatalogueMalformed, match=rf"can't be read \(\[Errno 13\] Permission denied: '{tmp_path}/lamps'"
    ):
        read(tmp_path)


def test_a_picture_in_no_categorys_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "chairs").mkdir()
    for name in ("chairs/oak.jpg", "stray.jpg"):
        (tmp_path / name).touch()
    with pytest.raises(
        CatalogueMalformed, match=r"/stray\.jpg: lies in no category's folder; move it into one, such as"
    ):
        read(tmp_path)


def test_a_wrong_row_is_shown_a_right_one(tmp_path: Path) -> None:
    (tmp_path / "catalogue.jsonl").write_text("chair-16, chairs, a.jpg")
    with pytest.raises(CatalogueMalformed) as wrong:
        read(tmp_path)
    sample = str(wrong.value).partition("a line is such as ")[2]
    (tmp_path / "catalogue.jsonl").write_text(sample)
    assert [row["id"] for row in read(tmp_path)] == ["chair-16"]
    (tmp_path / "a.csv").write_text("id,name\n1,a")
    with pytest.raises(CatalogueMalformed) as wrong:
        read(tmp_path / "a.csv")
    (tmp_path / "a.csv").write_text(str(wrong.value).partition("as CSV: ")[2].replace("\\n", "\n"))
    assert [row["category"] for row in read(tmp_path / "a.csv")] == ["chairs"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_catalogue_is_counted_and_written_as_the_batch_sees_it(tmp_path: Path, kind: str) -> None:
    given = write(tmp_path / f"a.{kind}", line("b", tags=["brand=acme"]), line("a", category="Lamps"))
    seen = tmp_path / "elsewhere" / "seen.jsonl"
    seen.parent.mkdir()
    counts = look_at_catalogue(["--catalogue", str(given), "--write", str(seen)])
    missing = [row["picture"] for row in read(given)]
    assert counts == {
        "items": 2,
        "categories": {"Chairs": 1, "Lamps": 1},
        "pictures_missing": len(missing),
        "first": missing,
    }
    assert read(seen) == read(given)
    for picture in missing:
        Path(picture).parent.mkdir(exist_ok=True)
        Path(picture).write_bytes(b"")
    assert look_at_catalogue(["--catalogue", str(given)]) == {"items": 2, "categories": {"Chairs": 1, "Lamps": 1}}


def test_an_id_that_stands_twice_in_a_catalogue_is_named(tmp_path: Path) -> None:
    given = write(tmp_path / "a.csv", line("b"), line("a"), line("b"))
    with pytest.raises(CatalogueMalformed, match=r"a\.csv: the id 'b' stands twice"):
        look_at_catalogue(["--catalogue", str(given)])


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_a_catalogue_whose_disk_fails_may_be_read_another_time(tmp_path: Path, kind: str) -> None:
    (tmp_path / f"a.{kind}").symlink_to("/proc/self/mem")  # which answers that there is an input/output error
    with pytest.raises(CatalogueUnavailable, match=rf"a\.{kind}: can't be read now \(.*Input/output error\)"):
        read(tmp_path / f"a.{kind}")
