"""Catalogues in BigQuery, on an emulator that answers Google's own clients by REST and gRPC."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import duckdb
import pytest
import requests
from google.api_core import exceptions as api
from google.auth import exceptions as auth
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery

from embedding_batch.errors import CatalogueMalformed, CatalogueUnavailable
from embedding_batch.sources import CATALOGUE_SCHEMA, read_catalogue
from embedding_batch.sources import bigquery as source
from local_stack.processes import free_port
from model_repository.errors import AccessDenied, DeliveryError, Misconfigured

PROJECT = "project-1"
ROWS = [
    {
        "id": "b",
        "category": "椅子",
        "picture": "https://host/b.jpg?v=1",
        "version": "1",
        "tags": ["new", "sale"],
        "n": 1,
    },
    {"id": "a", "category": "Lamps", "picture": "gs://pictures/a.jpg", "version": None, "tags": [], "n": 2},
]
SCHEMA = [
    bigquery.SchemaField("n", "INTEGER"),
    *(bigquery.SchemaField(name, "STRING") for name in ("version", "picture", "category", "id")),
    bigquery.SchemaField("tags", "STRING", mode="REPEATED"),
]


@dataclass
class Emulator:
    """A running one, with its own home and in-memory data."""

    process: subprocess.Popen[bytes]
    rest: str
    storage: str

    @property
    def client(self) -> bigquery.Client:
        return bigquery.Client(PROJECT, credentials=AnonymousCredentials(), client_options={"api_endpoint": self.rest})

    def load(self, name: str, rows: list[dict[str, Any]], schema: list[bigquery.SchemaField]) -> str:
        """Make a table of rows, and say where it is."""
        lines = io.BytesIO("".join(f"{json.dumps(row)}\n" for row in rows).encode())
        config = bigquery.LoadJobConfig(source_format="NEWLINE_DELIMITED_JSON", schema=schema)
        self.client.load_table_from_file(lines, f"{PROJECT}.shop.{name}", job_config=config).result(retry=None)
        return f"bigquery://{PROJECT}/shop/{name}"

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


def start(folder: Path) -> Emulator:
    home = folder / "home"
    home.mkdir(parents=True)
    extension = next(Path(str(files("duckdb_extension_spatial"))).rglob("*.duckdb_extension"))
    duckdb.connect(config={"home_directory": str(home)}).execute(f"INSTALL '{extension}'")
    rest, storage = free_port(), free_port()
    command = [str(Path(sys.executable).with_name("bqemulator")), "start", "--ephemeral", "--project", PROJECT]
    command += ["--rest-port", str(rest), "--grpc-port", str(storage), "--log-level", "error"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, cwd=folder, env={**os.environ, "HOME": str(home), "TMPDIR": str(folder)}
        )
    emulator = Emulator(process, f"http://127.0.0.1:{rest}", f"127.0.0.1:{storage}")
    deadline = time.monotonic() + 100
    while True:
        try:
            emulator.client.create_dataset("shop", retry=None, timeout=10)
        except (OSError, api.GoogleAPICallError):
            if process.poll() is not None or time.monotonic() > deadline:
                emulator.stop()
                pytest.fail(f"the emulator didn't start: {(folder / 'log').read_text()[-2000:]}")
            time.sleep(0.2)
        else:
            return emulator


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    running = start(tmp_path_factory.mktemp("bigquery"))
    yield running
    running.stop()


@pytest.fixture
def mortal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """One that a test may stop."""
    running = start(tmp_path)
    monkeypatch.setenv(source.REST_EMULATOR, running.rest)
    monkeypatch.setenv(source.STORAGE_EMULATOR, running.storage)
    yield running
    running.stop()


@pytest.fixture(autouse=True)
def honoured(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "emulator" in request.fixturenames:
        running = request.getfixturevalue("emulator")
        monkeypatch.setenv(source.REST_EMULATOR, running.rest)
        monkeypatch.setenv(source.STORAGE_EMULATOR, running.storage)


@pytest.fixture(scope="module")
def table(emulator: Emulator) -> str:
    return emulator.load("products", ROWS, SCHEMA)


def read(where: str, query: str = "") -> list[dict[str, Any]]:
    batches = list(read_catalogue(where, query=query))
    assert all(batch.schema.equals(CATALOGUE_SCHEMA) for batch in batches)
    return [row for batch in batches for row in batch.to_pylist()]


def test_a_table_is_read_column_by_column_whatever_their_order(table: str) -> None:
    expected = [{name: row[name] for name in CATALOGUE_SCHEMA.names} for row in ROWS]
    assert sorted(read(table), key=lambda row: row["id"], reverse=True) == expected


def test_a_table_of_many_rows_comes_in_many_batches_and_whole(emulator: Emulator) -> None:
    emulator.client.query(
        "CREATE OR REPLACE TABLE shop.many AS SELECT n AS id, 'c' AS category, CONCAT('https://host/', CAST(n AS"
        " STRING)) AS picture, TIMESTAMP '2026-11-27 00:00:00' AS version FROM UNNEST(GENERATE_ARRAY(1, 100000)) AS n"
    ).result()
    batches = list(read_catalogue(f"bigquery://{PROJECT}/shop/many"))
    assert len(batches) > 1
    rows = [row for batch in batches for row in batch.to_pylist()]
    assert {row["id"] for row in rows} == {str(number) for number in range(1, 100_001)}
    assert {(row["picture"], row["version"]) for row in rows if row["id"] == "7"} == {
        ("https://host/7", "2026-11-27 00:00:00.000000")
    }


def test_what_a_query_finds_is_read_from_the_table_that_it_was_put_into(table: str) -> None:  # noqa: ARG001
    # The emulator keeps results as a table only where the query makes one; BigQuery does for every query.
    sql = "CREATE OR REPLACE TABLE shop.found AS SELECT id, category, picture FROM shop.products WHERE n > 1"
    row = ROWS[1]
    assert read(f"bigquery://{PROJECT}", sql) == [
        {"id": "a", "category": "Lamps", "picture": row["picture"], "version": None, "tags": None}
    ]


def test_a_missing_column_is_named(emulator: Emulator) -> None:
    where = emulator.load("bare", [{"id": "a", "category": "c"}], [bigquery.SchemaField("id", "STRING")])
    with pytest.raises(
        CatalogueMalformed, match=rf"{where}: has no column 'category'; id, category, picture are needed"
    ):
        read(where)
    sql = "CREATE OR REPLACE TABLE shop.bare2 AS SELECT id, id AS category FROM shop.bare"
    with pytest.raises(CatalogueMalformed, match=r"bigquery://project-1 \(--query\): has no column 'picture'"):
        read(f"bigquery://{PROJECT}", sql)


@pytest.mark.parametrize("where", [f"bigquery://{PROJECT}/shop/none", f"bigquery://{PROJECT}/none/none"])
def test_a_missing_table_or_dataset_is_named(emulator: Emulator, where: str) -> None:  # noqa: ARG001
    with pytest.raises(CatalogueMalformed, match=f"{where}: no such table, dataset or project"):
        read(where)


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        ("SELEC 1", "BigQuery refused it"),
        ("SELECT none FROM shop.products", "BigQuery refused it"),
        ("SELECT id, category, picture FROM shop.none", "no such table"),
    ],
)
def test_a_query_that_says_nothing_is_refused(table: str, sql: str, says: str) -> None:  # noqa: ARG001
    with pytest.raises(CatalogueMalformed, match=rf"bigquery://project-1 \(--query\): {says}"):
        read(f"bigquery://{PROJECT}", sql)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"category": ""}, "'category' of 'b' should be 1 to 100 printable characters, and is ''"),
        ({"category": None}, "'category' of 'b' should be 1 to 100 printable characters, and is nothing"),
        ({"picture": "b.jpg"}, "'picture' of 'b' should be a URI: a table has no folder"),
        ({"id": None}, "'id' should be 1 to 500 printable characters, and is nothing"),
    ],
)
def test_a_wrong_row_is_named_by_its_id(emulator: Emulator, wrong: dict[str, Any], says: str) -> None:
    where = emulator.load(f"wrong_{abs(hash(says))}", [ROWS[0] | wrong], SCHEMA)
    with pytest.raises(CatalogueMalformed, match=re.escape(f"{where}: row 0: {says}")):
        read(where)


def test_a_view_is_refused_with_the_mend(emulator: Emulator, table: str) -> None:  # noqa: ARG001
    view = bigquery.Table(f"{PROJECT}.shop.seen")
    view.view_query = "SELECT id, category, picture FROM shop.products"
    emulator.client.create_table(view)
    with pytest.raises(CatalogueMalformed, match=r"shop/seen: a view can't be read as it is; .* --query"):
        read(f"bigquery://{PROJECT}/shop/seen")


def test_an_empty_table_is_refused(emulator: Emulator) -> None:
    emulator.client.create_table(bigquery.Table(f"{PROJECT}.shop.empty", SCHEMA))
    with pytest.raises(CatalogueMalformed, match="shop/empty: has no items"):
        read(f"bigquery://{PROJECT}/shop/empty")


def test_an_emulator_that_is_gone_is_a_try_again(mortal: Emulator) -> None:
    where = mortal.load("products", ROWS, SCHEMA)
    assert len(read(where)) == 2
    mortal.stop()
    for query in ("", "SELECT 1"):
        asked = source.parse_bigquery(f"bigquery://{PROJECT}" if query else where, query)
        with pytest.raises(CatalogueUnavailable, match=r"bigquery://project-1.*it may pass"):
            list(source.read_bigquery(asked, patience=1.0))


def test_one_that_goes_while_its_rows_are_read_is_a_try_again(mortal: Emulator) -> None:
    mortal.client.query(
        "CREATE TABLE shop.many AS SELECT n AS id, 'c' AS category, CONCAT('https://host/', REPEAT('x', 80)) AS"
        " picture FROM UNNEST(GENERATE_ARRAY(1, 1000000)) AS n"
    ).result()
    rows = source.read_bigquery(source.parse_bigquery(f"bigquery://{PROJECT}/shop/many", ""), patience=1.0)
    assert next(rows).num_rows
    mortal.process.send_signal(signal.SIGKILL)
    with pytest.raises(CatalogueUnavailable, match="it may pass"):
        list(rows)


def test_storage_that_nobody_serves_is_a_try_again(emulator: Emulator, table: str, monkeypatch: Any) -> None:  # noqa: ARG001
    monkeypatch.setenv(source.STORAGE_EMULATOR, f"127.0.0.1:{free_port()}")
    with pytest.raises(CatalogueUnavailable, match="it may pass"):
        list(source.read_bigquery(source.parse_bigquery(table, ""), patience=1.0))


def test_half_an_emulator_is_misconfigured(table: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(source.STORAGE_EMULATOR)
    with pytest.raises(Misconfigured, match="BIGQUERY_STORAGE_EMULATOR_HOST: isn't set"):
        read(table)


def test_no_credentials_are_an_access_denied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    with pytest.raises(AccessDenied, match="no valid credentials"):
        read(f"bigquery://{PROJECT}/shop/products")


def refused(cause: auth.TransportError) -> auth.RefreshError:
    """No token, as google.auth.compute_engine.credentials says it."""
    error = auth.RefreshError(cause)
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (api.Forbidden("no", errors=[{"reason": "accessDenied"}]), AccessDenied),
        (api.PermissionDenied("no"), AccessDenied),
        (api.Unauthenticated("who"), AccessDenied),
        (api.Forbidden("slower", errors=[{"reason": "rateLimitExceeded"}]), CatalogueUnavailable),
        (api.Forbidden("enough", errors=[{"reason": "quotaExceeded"}]), CatalogueUnavailable),
        (api.ResourceExhausted("enough"), CatalogueUnavailable),
        (api.ServiceUnavailable("gone"), CatalogueUnavailable),
        (api.DeadlineExceeded("late"), CatalogueUnavailable),
        (api.RetryError("late", api.ServiceUnavailable("gone")), CatalogueUnavailable),
        (api.NotFound("none"), CatalogueMalformed),
        (api.InvalidArgument("what"), CatalogueMalformed),
        (refused(auth.TransportError("Compute Engine Metadata server unavailable")), CatalogueUnavailable),
        (refused(auth.TransportError("Status: 404", "no such service account")), AccessDenied),
        (TimeoutError("late"), CatalogueUnavailable),
        (requests.ConnectionError("gone"), CatalogueUnavailable),
    ],
    ids=lambda value: repr(value)[:60] if isinstance(value, Exception) else "",
)
def test_what_the_clients_raise_becomes_one_of_two_families(error: Exception, expected: type[DeliveryError]) -> None:
    with pytest.raises(expected, match="bigquery://p/d/t"), source._errors("bigquery://p/d/t"):
        raise error
