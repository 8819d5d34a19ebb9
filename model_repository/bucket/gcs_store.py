"""A bucket of Google Cloud Storage, or of an emulator named by STORAGE_EMULATOR_HOST."""

from __future__ import annotations

import json
import os
import uuid
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import partial
from http import HTTPStatus
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO
from urllib.parse import quote, urlsplit

import google_crc32c
import requests
from google.api_core import exceptions as api
from google.api_core import retry as api_retry
from google.auth import exceptions as auth
from google.cloud import storage
from google.cloud.storage.exceptions import DataCorruption, InvalidResponse
from google.cloud.storage.retry import DEFAULT_RETRY

from model_repository.bucket.store import ObjectInfo, StoredObject
from model_repository.digests import format_crc32c
from model_repository.errors import (
    AccessDenied,
    BucketMissing,
    BucketRefused,
    BucketUnavailable,
    DeliveryError,
    DocumentMalformed,
    GenerationConflict,
    Misconfigured,
    ObjectMissing,
    reason_of,
)

_FIELDS = "items(name,size,crc32c,generation,updated),nextPageToken"
_CONNECT_AND_READ_SECONDS = (5.0, 30.0)
_CHUNK = 256 * 1024
_GENERATION = "x-goog-generation"
_AS_STORED = {"Accept-Encoding": "gzip"}
"""Takes what is stored as gzip as it is: https://cloud.google.com/storage/docs/transcoding"""
_STREAMED: dict[str, Any] = {"stream": True, "timeout": _CONNECT_AND_READ_SECONDS}


class GcsStore:
    """Implements `store.Store` with Google's own client."""

    def __init__(self, bucket: str, *, patience: float = 30.0) -> None:
        """Open a bucket by its name. patience: seconds to go on retrying what may pass.

        Raises `AccessDenied` where there are no credentials, and `Misconfigured` where the emulator has no URL.
        """
        with _errors(f"gs://{bucket}"):
            self._client = storage.Client(project=None)
        # in a thread it asks where the bucket is, for spans that nobody makes; an account for objects alone gets 403
        self._client._bucket_metadata_cache = None  # noqa: SLF001 - it has no option but a variable of the environment
        host = self._client._connection.API_BASE_URL  # noqa: SLF001 - honours STORAGE_EMULATOR_HOST
        if not host.startswith(("http://", "https://")):
            raise Misconfigured(f"STORAGE_EMULATOR_HOST is {host!r}; it must be a URL, such as http://{host}")
        self._bucket = self._client.bucket(bucket)
        self._retry = DEFAULT_RETRY.with_timeout(patience).with_delay(initial=0.2, maximum=5.0)

    @property
    def bucket(self) -> str:
        """The bucket's name."""
        return str(self._bucket.name)

    def read(self, name: str, *, limit: int) -> StoredObject:
        """See `store.Store.read`."""
        with _errors(name):
            found: StoredObject = self._retry(self._read)(name, limit)
            return found

    def _read(self, name: str, limit: int) -> StoredObject:
        with self._get(name) as answer:
            generation, data = int(answer.headers[_GENERATION]), bytearray()
            for chunk in _chunks(name, answer):
                data += chunk
                if len(data) > limit:
                    raise _too_large(name, limit, generation)
            return StoredObject(name, generation, _unpacked(name, bytes(data), limit, generation))

    @contextmanager
    def _get(self, name: str, **headers: str) -> Iterator[requests.Response]:
        # Blob.download_as_bytes hides the generation that the answer names, and asking for it apart could tear. As the
        # bytes are stored: what says that it is gzip and isn't would else be an answer 503 for ever.
        session = self._client._http  # noqa: SLF001 - the client's own authorised session
        host = self._client._connection.API_BASE_URL  # noqa: SLF001 - honours STORAGE_EMULATOR_HOST
        url = f"{host}/download/storage/v1/b/{self.bucket}/o/{quote(name, safe='')}"
        with session.get(url, params={"alt": "media"}, headers=_AS_STORED | headers, **_STREAMED) as answer:
            if answer.status_code not in {HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT}:
                raise api.from_http_status(answer.status_code, f"GET {name}")
            of_a_bucket = HTTPStatus.PARTIAL_CONTENT if headers else HTTPStatus.OK
            if answer.status_code != of_a_bucket or _GENERATION not in answer.headers:
                raise requests.ConnectionError(
                    "what answered is no bucket, but a proxy or a page to log in", request=answer.request
                )
            yield answer

    def download(self, name: str, path: Path) -> None:
        """See `store.Store.download`."""
        with _errors(name):
            self._retry(self._download)(name, path)

    def _download(self, name: str, path: Path) -> None:
        with self._get(name) as answer, path.open("wb") as file:
            file.writelines(_chunks(name, answer))

    def read_range(self, name: str, start: int, size: int) -> bytes:
        """See `store.Store.read_range`."""
        with _errors(name):
            found: bytes = self._retry(self._read_range)(name, f"bytes={start}-{start + size - 1}")
            return found

    def _read_range(self, name: str, asked: str) -> bytes:
        try:
            with self._get(name, Range=asked) as answer:
                return b"".join(answer.raw.stream(_CHUNK, decode_content=False))
        except api.RequestRangeNotSatisfiable:  # it ends before
            return b""

    def stat(self, name: str) -> ObjectInfo | None:
        """See `store.Store.stat`."""
        with _errors(name):
            blob = self._bucket.get_blob(name, retry=self._retry, timeout=_CONNECT_AND_READ_SECONDS)
            return None if blob is None else _info(blob)

    def listing(self, prefix: str, *, deep: bool = True) -> list[ObjectInfo]:
        """See `store.Store.listing`."""
        with _errors(prefix, whole=self.bucket):
            blobs = self._listed(prefix, None if deep else "/", _FIELDS)
            return sorted((_info(blob) for blob in blobs), key=lambda info: info.name)

    def folders(self, prefix: str) -> list[str]:
        """See `store.Store.folders`."""
        with _errors(prefix, whole=self.bucket):
            blobs = self._listed(prefix, "/", "prefixes,nextPageToken")
            for _ in blobs:  # the folders are known when every page has come
                pass
            return sorted(blobs.prefixes)

    def _listed(self, prefix: str, delimiter: str | None, fields: str) -> Any:  # noqa: ANN401 - the client is untyped
        asked = {"retry": self._retry, "timeout": _CONNECT_AND_READ_SECONDS}
        return self._client.list_blobs(self._bucket, prefix=prefix, delimiter=delimiter, fields=fields, **asked)

    def write(self, name: str, data: bytes, *, if_generation_match: int | None) -> ObjectInfo:
        """See `store.Store.write`."""
        write = partial(self._write, name, data, if_generation_match)
        return self._guarded(write, name, if_generation_match, format_crc32c(google_crc32c.value(data)))

    def _write(self, name: str, data: bytes, if_generation_match: int | None) -> ObjectInfo:
        blob = self._bucket.blob(name)
        blob.upload_from_string(
            data,
            content_type=_content_type(name),
            if_generation_match=if_generation_match,
            checksum="crc32c",
            retry=None,
            timeout=_CONNECT_AND_READ_SECONDS,
        )
        return _info(blob)

    def _guarded(
        self, write: Callable[[], ObjectInfo], name: str, if_generation_match: int | None, crc32c: str
    ) -> ObjectInfo:
        """Write until an answer comes; a try that meets its own first one, whose answer was lost, found it done."""
        lost: list[Exception] = []
        with _errors(name, if_generation_match, whole=self.bucket):
            try:
                found: ObjectInfo = self._retry(write, on_error=lost.append)()
            except api.PreconditionFailed:
                stands = self.stat(name) if lost else None
                if stands is None or stands.crc32c != crc32c:
                    raise
                return stands
            return found

    def upload(self, name: str, path: Path, *, if_generation_match: int | None) -> ObjectInfo:
        """See `store.Store.upload`."""
        crc32c = _crc32c_of(path)
        write = partial(self._upload, name, path, if_generation_match, crc32c)
        return self._guarded(write, name, if_generation_match, crc32c)

    def _upload(self, name: str, path: Path, if_generation_match: int | None, crc32c: str) -> ObjectInfo:
        # In one request, which the client's own uploads of files are not: they hold 100 MB of each, and wait for an
        # answer to every piece (docs/benchmarks/upload.md). The bucket compares the bytes with the crc32c.
        said = {"name": name, "contentType": _content_type(name), "crc32c": crc32c}
        parameters = {"uploadType": "multipart", "fields": "name,size,crc32c,generation,updated"}
        if if_generation_match is not None:
            parameters["ifGenerationMatch"] = str(if_generation_match)
        session = self._client._http  # noqa: SLF001 - the client's own authorised session
        host = self._client._connection.API_BASE_URL  # noqa: SLF001 - honours STORAGE_EMULATOR_HOST
        with path.open("rb") as file:
            body = _Related(json.dumps(said).encode(), file, said["contentType"])
            answer = session.post(
                f"{host}/upload/storage/v1/b/{self.bucket}/o",
                params=parameters,
                data=body,
                headers={"Content-Type": f"multipart/related; boundary={body.boundary}"},
                timeout=_CONNECT_AND_READ_SECONDS,
            )
        if answer.status_code != HTTPStatus.OK:
            raise api.from_http_status(answer.status_code, f"POST {name}")
        stands = answer.json()
        updated = datetime.fromisoformat(stands["updated"])
        return ObjectInfo(name, int(stands["size"]), stands["crc32c"], int(stands["generation"]), updated)

    def delete(self, name: str, *, if_generation_match: int | None = None) -> None:
        """See `store.Store.delete`."""
        with suppress(ObjectMissing), _errors(name, if_generation_match):
            self._bucket.delete_blob(
                name, if_generation_match=if_generation_match, retry=self._retry, timeout=_CONNECT_AND_READ_SECONDS
            )


class _Related:
    """The body of a multipart upload, read from the file as it is sent: https://cloud.google.com/storage/docs/uploading-objects."""

    def __init__(self, metadata: bytes, file: BinaryIO, content_type: str) -> None:
        self.boundary = uuid.uuid4().hex
        head = f"--{self.boundary}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n".encode() + metadata
        head += f"\r\n--{self.boundary}\r\nContent-Type: {content_type}\r\n\r\n".encode()
        end = f"\r\n--{self.boundary}--\r\n".encode()
        self._parts: list[BinaryIO] = [BytesIO(head), file, BytesIO(end)]
        self.len = len(head) + os.fstat(file.fileno()).st_size + len(end)

    def read(self, _size: int = -1) -> bytes:
        """The next bytes, as many as are sent best at once; after their end from the beginning.

        The session sends the same body again when it has another token.
        """
        for part in self._parts:
            if data := part.read(_CHUNK):
                return data
        for part in self._parts:
            part.seek(0)
        return b""


def _content_type(name: str) -> str:
    return {".json": "application/json", ".html": "text/html"}.get(
        PurePosixPath(name).suffix, "application/octet-stream"
    )


def _crc32c_of(path: Path) -> str:
    checksum = google_crc32c.Checksum()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            checksum.update(chunk)
    return format_crc32c(_number(checksum))


def _chunks(name: str, answer: requests.Response) -> Iterator[bytes]:
    """All bytes of an object; behind the last ones an error that may pass, unless they are those of its crc32c."""
    checksum = google_crc32c.Checksum()
    for chunk in answer.raw.stream(_CHUNK, decode_content=False):
        checksum.update(chunk)
        yield chunk
    stated = answer.headers.get("x-goog-hash", "")
    if "crc32c=" in stated and f"crc32c={format_crc32c(_number(checksum))}" not in stated:
        raise requests.ConnectionError(f"{name}: the bytes that came don't have the object's crc32c")


def _number(checksum: google_crc32c.Checksum) -> int:
    return int.from_bytes(checksum.digest(), "big")


def _too_large(name: str, limit: int, generation: int) -> DocumentMalformed:
    return DocumentMalformed(name, f"more than the {limit} bytes allowed", generation=generation)


def _unpacked(name: str, data: bytes, limit: int, generation: int) -> bytes:
    """The bytes of what was stored as gzip; those of anything else as they are, whatever it says of itself."""
    if not data.startswith(b"\x1f\x8b"):
        return data
    try:
        found = zlib.decompressobj(wbits=31).decompress(data, limit + 1)
    except zlib.error:
        return data  # whoever reads it says what is wrong with it
    if len(found) > limit:
        raise _too_large(name, limit, generation)
    return found


def _info(blob: Any) -> ObjectInfo:  # noqa: ANN401 - the client is untyped
    return ObjectInfo(blob.name, int(blob.size), blob.crc32c or "", int(blob.generation), blob.updated)


@contextmanager
def _errors(name: str, if_generation_match: int | None = None, *, whole: str = "") -> Iterator[None]:
    """Turn what the client raises into the two families, by type and status.

    whole: the bucket, where a 404 can only be about all of it: when it is listed or written to.
    """
    try:
        yield
    except api_retry.exceptions.RetryError as error:
        raise _unavailable(name, error.cause or error) from error
    except api.GoogleAPICallError as error:
        if whole and error.code == HTTPStatus.NOT_FOUND:
            raise BucketMissing(whole) from error
        raise _by_status(name, error.code, if_generation_match) from error
    except (auth.DefaultCredentialsError, auth.RefreshError) as error:
        if may_pass(error):
            raise _unavailable(name, error) from error
        mend = "set up Application Default Credentials: gcloud auth application-default login"
        raise AccessDenied(f"{name}: no valid credentials ({error}); {mend}") from error
    except DataCorruption as error:
        raise BucketUnavailable(f"{name}: the bytes were damaged on the way; it may pass") from error
    except (requests.RequestException, auth.TransportError, ConnectionError, TimeoutError) as error:
        raise _unavailable(name, error) from error


def may_pass(error: auth.GoogleAuthError) -> bool:
    """Whether nobody said no to the credentials: the token's server didn't answer, after tries of the client's own."""
    cause = error.__cause__
    # with the answer's body, where there was one that isn't asked for again
    return error.retryable or (isinstance(cause, auth.TransportError) and len(cause.args) == 1)


def _unavailable(name: str, error: BaseException) -> DeliveryError:
    if isinstance(error, api.GoogleAPICallError):
        return _by_status(name, error.code, None)
    if isinstance(error, InvalidResponse):  # of an upload by the client
        return _by_status(name, error.response.status_code, None)
    asked = getattr(error, "request", None)
    where = urlsplit(asked.url).netloc if asked is not None else "the bucket"
    return BucketUnavailable(f"{name}: no answer from {where} ({reason_of(error)}); it may pass")


def _by_status(name: str, code: int | None, if_generation_match: int | None) -> DeliveryError:
    match code:
        case 404:
            return ObjectMissing(name)
        case 412 if if_generation_match is not None:  # to a request without a condition, it is a proxy's or a policy's
            return GenerationConflict(name, if_generation_match)
        case 401 | 403:
            return AccessDenied(f"{name}: the bucket answered {code}; grant the account that this runs as access")
        case None | 408 | 429:
            return BucketUnavailable(f"{name}: the bucket answered {code}; it may pass")
        case _ if code >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return BucketUnavailable(f"{name}: the bucket answered {code}; it may pass")
        case _:
            return BucketRefused(f"{name}: the bucket answered {code}; check MODEL_REPOSITORY and the name")
