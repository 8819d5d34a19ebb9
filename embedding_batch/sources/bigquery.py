"""Catalogues in BigQuery: a table, or what a query finds, by the Storage Read API.

The project that the URL names also pays for the reading, and runs the query. A table is read as it stands; of a view,
or of what isn't wanted whole, a query is asked for. What a query finds BigQuery keeps as a table, which is then read
like any other.

Credentials are Application Default Credentials, with the roles that `_ROLES` names. Emulators: BIGQUERY_EMULATOR_HOST
(``http://<host>:<port>``) is what Google's client honours, for all but the reading; for that no name is agreed upon,
and BIGQUERY_STORAGE_EMULATOR_HOST (``<host>:<port>``, gRPC without TLS) is ours. Both or neither.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

import pyarrow as pa
import requests
from google.api_core import exceptions as api
from google.api_core.retry import Retry, if_exception_type
from google.auth import exceptions as auth
from google.auth.credentials import AnonymousCredentials

from embedding_batch.errors import CatalogueMalformed, CatalogueUnavailable
from embedding_batch.sources.rows import check_batches, wanted
from model_repository.bucket.gcs_store import may_pass
from model_repository.errors import AccessDenied, DeliveryError, Misconfigured, reason_of

SCHEME: Final = "bigquery://"
STREAMS: Final = 1
"""Most streams of a read session. One keeps the order of what a query sorted, and brings a catalogue's few hundred
megabytes sooner than its rows can be used."""
REST_EMULATOR: Final = "BIGQUERY_EMULATOR_HOST"
STORAGE_EMULATOR: Final = "BIGQUERY_STORAGE_EMULATOR_HOST"

_ANSWER_SECONDS: Final = 30.0
"""Longest wait for one answer; BigQuery's clients would wait for minutes, and retry reading for a day."""
_WHOLE_SECONDS: Final = 3600.0
"""Longest that a query runs, and that its rows are read."""
_ROLES: Final = "roles/bigquery.dataViewer, roles/bigquery.readSessionUser and, for a query, roles/bigquery.jobUser"
_PARTS_OF_TABLE: Final = 3
_UNREADABLE: Final = ("VIEW", "EXTERNAL")
_LIMITS_REACHED: Final = ("rateLimitExceeded", "jobRateLimitExceeded", "quotaExceeded")
"""Reasons of a 403 that say nothing about rights: https://cloud.google.com/bigquery/docs/error-messages"""


@dataclass(frozen=True, slots=True)
class BigQuerySource:
    """A table of a dataset, or a query; of the other the texts are empty."""

    project: str
    dataset: str
    table: str
    query: str

    @property
    def name(self) -> str:
        """For people."""
        return f"{SCHEME}{self.project}" + (" (--query)" if self.query else f"/{self.dataset}/{self.table}")


def parse_bigquery(where: str, query: str) -> BigQuerySource:
    """Read ``bigquery://<project>/<dataset>/<table>``, or a project's URL and a query. Raises Misconfigured."""
    parts = where.removeprefix(SCHEME).removesuffix("/").split("/")
    if not all(parts) or len(parts) not in {1, _PARTS_OF_TABLE}:
        raise Misconfigured(f"--catalogue: {where}: expected {SCHEME}<project>/<dataset>/<table> or {SCHEME}<project>")
    if len(parts) == 1 and not query.strip():
        raise Misconfigured(f"--query: name a file of SQL that finds the catalogue in {where}, or name a table")
    if len(parts) > 1 and query:
        raise Misconfigured(f"--query: goes with {SCHEME}{parts[0]}, without a dataset and a table")
    project, dataset, table = (*parts, "", "")[:_PARTS_OF_TABLE]
    return BigQuerySource(project, dataset, table, query)


def read_bigquery(source: BigQuerySource, *, patience: float = 30.0) -> Iterator[pa.RecordBatch]:
    """Read a table, or run a query and read what it found. patience: seconds to go on retrying what may pass.

    Rows of a query count from 0 in its order; those of a table have none, so errors name the id too. Raises
    Misconfigured, CatalogueMalformed, AccessDenied and CatalogueUnavailable.
    """
    with _errors(source.name):
        clients = _Clients(source, patience)
        table, columns = clients.queried() if source.query else clients.looked_up()
        yield from check_batches(clients.rows(table, columns), source.name, None)


class _Clients:
    """Google's two clients: one asks for tables and queries, the other reads."""

    def __init__(self, source: BigQuerySource, patience: float) -> None:
        try:
            from google.cloud import bigquery, bigquery_storage  # noqa: PLC0415 - not every batch has them installed
        except ImportError as error:
            mend = "install requirements/embedding_batch.txt, which has google-cloud-bigquery and its storage client"
            raise Misconfigured(f"--catalogue: {source.name}: BigQuery's client isn't here ({error}); {mend}") from None
        self._source = source
        self._bigquery, self._types = bigquery, bigquery_storage.types
        emulator = _emulator(os.environ)
        credentials = {"credentials": AnonymousCredentials()} if emulator else {}  # type: ignore[no-untyped-call]
        self._asking = bigquery.Client(source.project, **credentials)
        self._reading = bigquery_storage.BigQueryReadClient(**_transport(emulator))
        self._asked: dict[str, Any] = {
            "retry": bigquery.DEFAULT_RETRY.with_timeout(patience),
            "timeout": _ANSWER_SECONDS,
        }
        self._retry = Retry(if_exception_type(api.ServiceUnavailable, api.DeadlineExceeded), timeout=patience)

    def looked_up(self) -> tuple[Any, list[str]]:
        """The table and the columns to read of it."""
        reference = self._bigquery.DatasetReference(self._source.project, self._source.dataset)
        table = self._asking.get_table(reference.table(self._source.table), **self._asked)
        if table.table_type in _UNREADABLE:
            mend = f"catalogue {SCHEME}{self._source.project} with --query, a file of SQL that reads it"
            raise CatalogueMalformed(
                f"{self._source.name}: a {table.table_type.lower()} can't be read as it is; {mend}"
            )
        return table.reference, wanted(self._source.name, [field.name for field in table.schema])

    def queried(self) -> tuple[Any, list[str]]:
        """The table that BigQuery put what the query found into, and the columns to read of it."""
        config = self._bigquery.QueryJobConfig(job_timeout_ms=int(1000 * _WHOLE_SECONDS))
        job = self._asking.query(self._source.query, config, job_retry=None, **self._asked)
        found = job.result(retry=self._asked["retry"], job_retry=None, timeout=_WHOLE_SECONDS)
        columns = wanted(self._source.name, [field.name for field in found.schema])
        return job.destination, columns

    def rows(self, table: Any, columns: list[str]) -> Iterator[pa.RecordBatch]:  # noqa: ANN401 - the client is untyped
        """Every row, in the batches that come."""
        session = self._reading.create_read_session(
            parent=f"projects/{self._source.project}",
            read_session=self._types.ReadSession(
                table=table.to_bqstorage(),
                data_format=self._types.DataFormat.ARROW,
                read_options={"selected_fields": columns},
            ),
            max_stream_count=STREAMS,
            retry=self._retry,
            timeout=_ANSWER_SECONDS,
        )
        schema = pa.ipc.read_schema(pa.py_buffer(session.arrow_schema.serialized_schema))
        for stream in session.streams:
            for answer in self._reading.read_rows(stream.name, retry=self._retry, timeout=_WHOLE_SECONDS):
                data = pa.py_buffer(answer.arrow_record_batch.serialized_record_batch)
                yield pa.ipc.read_record_batch(data, schema)


def _emulator(environment: Mapping[str, str]) -> str:
    """The address of an emulator's Storage Read API, or nothing. Raises Misconfigured."""
    rest, storage = environment.get(REST_EMULATOR, ""), environment.get(STORAGE_EMULATOR, "")
    if bool(rest) != bool(storage):
        missing = STORAGE_EMULATOR if rest else REST_EMULATOR
        raise Misconfigured(f"{missing}: isn't set, and the emulator's other address is; set both or neither")
    return storage


def _transport(emulator: str) -> dict[str, Any]:
    if not emulator:
        return {}
    import grpc  # noqa: PLC0415 - comes with the client
    from google.cloud.bigquery_storage_v1.services.big_query_read import transports  # noqa: PLC0415 - likewise

    options = [("grpc.max_receive_message_length", -1)]  # as the client's own channel has it
    return {"transport": transports.BigQueryReadGrpcTransport(channel=grpc.insecure_channel(emulator, options))}


@contextmanager
def _errors(name: str) -> Iterator[None]:
    """Turn what the clients raise into the two families, by type and status."""
    try:
        yield
    except api.RetryError as error:
        raise CatalogueUnavailable(f"{name}: gave up retrying: {reason_of(error)}; it may pass") from error
    except api.GoogleAPICallError as error:
        raise _by_status(name, error) from error
    except (auth.DefaultCredentialsError, auth.RefreshError) as error:
        if may_pass(error):
            raise CatalogueUnavailable(f"{name}: no token ({reason_of(error)}); it may pass") from error
        mend = "set up Application Default Credentials: gcloud auth application-default login"
        raise AccessDenied(f"{name}: no valid credentials ({error}); {mend}") from error
    except (requests.RequestException, auth.TransportError, ConnectionError, TimeoutError) as error:
        raise CatalogueUnavailable(f"{name}: no answer from BigQuery ({reason_of(error)}); it may pass") from error


def _by_status(name: str, error: api.GoogleAPICallError) -> DeliveryError:
    said = str(error.message or "").split("\n", 1)[0]
    reasons = {one.get("reason") for one in error.errors if isinstance(one, Mapping)}
    match error.code:
        case HTTPStatus.NOT_FOUND:
            return CatalogueMalformed(f"{name}: no such table, dataset or project ({said}); correct the name")
        case HTTPStatus.BAD_REQUEST:
            return CatalogueMalformed(f"{name}: BigQuery refused it ({said}); correct the query or the table")
        case HTTPStatus.UNAUTHORIZED | HTTPStatus.FORBIDDEN if not reasons.intersection(_LIMITS_REACHED):
            return AccessDenied(f"{name}: BigQuery answered {int(error.code)} ({said}); grant {_ROLES}")
        case _:
            return CatalogueUnavailable(f"{name}: BigQuery answered {error.code} ({said}); it may pass")
