"""One pull from beginning to end: index.json, the plan, the files, the rename."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from pathlib import Path
from urllib.parse import quote, urlsplit

import google_crc32c

from init_container.config import Config, Misconfigured
from init_container.plan import INDEX_MANIFEST, MODEL_MANIFEST, Plan, Wanted, check_whole, plan_pull
from init_container.report import Report
from model_repository.digests import sha256_digest
from model_repository.errors import (
    AccessDenied,
    BucketUnavailable,
    BuildIncomplete,
    DeliveryError,
    ObjectMissing,
    TransientError,
)
from model_repository.index_manifest import INDEX_MANIFEST_LIMIT, parse_index_manifest

_CHUNK = 1024 * 1024


def main(environment: Mapping[str, str]) -> int:
    """Pull; returns the exit code: 0 done, 64 misconfigured, 65 the data is bad, 75 try again."""
    report = Report(Path(environment.get("TERMINATION_LOG") or "/dev/termination-log"))
    try:
        config = Config.from_environment(environment)
        began = time.monotonic()
        pulled = pull(config)
    except (DeliveryError, OSError) as error:
        code = exit_code(error)
        report.line("ERROR", f"{error}", code=getattr(error, "code", type(error).__name__), exit=code)
        report.last_words(f"{error}")
        return code
    seconds = time.monotonic() - began
    rate = pulled / max(seconds, 1e-9) / 1e6
    message = f"pulled {config.index_prefix}: {pulled} bytes in {seconds:.3f} s, {rate:.0f} MB/s"
    report.line("INFO", message, bytes=pulled, seconds=round(seconds, 3), prefix=str(config.index_prefix))
    report.last_words(message)
    return 0


def exit_code(error: Exception) -> int:
    """The exit code of a failure, by its type."""
    if isinstance(error, Misconfigured | AccessDenied):
        return os.EX_USAGE
    if isinstance(error, TransientError | OSError):
        return os.EX_TEMPFAIL
    return os.EX_DATAERR


def pull(config: Config) -> int:
    """Pull a build and publish it by one rename; returns the bytes fetched."""
    partial = config.destination.with_name(f".{config.destination.name}.partial")
    if not config.destination.parent.is_dir():
        raise Misconfigured(f"DESTINATION: {config.destination.parent} is not a folder; mount the volume there")
    if _published(config):
        return 0
    shutil.rmtree(partial, ignore_errors=True)
    bucket = _Bucket(config)
    data = bucket.read(config.index_prefix.manifest, INDEX_MANIFEST_LIMIT)
    plan = _plan(config, data)
    _write(partial / INDEX_MANIFEST, data)
    for file in plan.files:
        bucket.fetch(file, partial / file.path)
    _check_model(plan, partial)
    partial.rename(config.destination)
    return len(data) + plan.bytes


def _plan(config: Config, data: bytes) -> Plan:
    digest = sha256_digest(data)
    if config.index_digest and digest != config.index_digest:
        raise BuildIncomplete(config.index_prefix.manifest, config.index_digest, digest)
    return plan_pull(parse_index_manifest(data, config.index_prefix), digest)


def _published(config: Config) -> bool:
    try:
        data = (config.destination / INDEX_MANIFEST).read_bytes()
    except OSError:
        if config.destination.exists():
            raise Misconfigured(f"{config.destination} is there but holds no build; choose another folder") from None
        return False
    if config.index_digest in ("", sha256_digest(data)):
        plan = plan_pull(parse_index_manifest(data, config.index_prefix), sha256_digest(data))
        return all((config.destination / file.path).stat().st_size == file.size for file in plan.files)
    raise Misconfigured(f"{config.destination} holds another build; remove it or choose another folder")


def _check_model(plan: Plan, partial: Path) -> None:
    digest = sha256_digest((partial / MODEL_MANIFEST).read_bytes())
    if digest != plan.model_digest:
        raise BuildIncomplete("model.json", plan.model_digest, digest)


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


class _Bucket:
    """One connection, one object after another."""

    def __init__(self, config: Config) -> None:
        self._config = config
        parts = urlsplit(config.endpoint)
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        self._connection = kind(parts.hostname or "", parts.port, timeout=config.stall)

    def read(self, name: str, limit: int) -> bytes:
        try:
            answer = self._get(name)
            data = answer.read(limit + 1)
        except (OSError, HTTPException) as error:
            raise BucketUnavailable(f"{name}: no answer from the bucket ({error}); it may pass") from error
        return data

    def fetch(self, file: Wanted, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        crc, size = 0, 0
        try:
            answer = self._get(file.name)
            with path.open("wb") as out:
                while chunk := answer.read(_CHUNK):
                    crc = google_crc32c.extend(crc, chunk)
                    size += len(chunk)
                    out.write(chunk)
        except HTTPException as error:
            raise BucketUnavailable(f"{file.name}: no answer from the bucket ({error}); it may pass") from error
        if size != file.size:
            raise BuildIncomplete(file.name, f"{file.size} bytes", f"{size} bytes")
        check_whole(file, crc)

    def _get(self, name: str) -> HTTPResponse:
        path = f"/download/storage/v1/b/{self._config.bucket}/o/{quote(name, safe='')}?alt=media"
        self._connection.request("GET", path, headers={"Accept-Encoding": "gzip"})
        answer = self._connection.getresponse()
        if answer.status == HTTPStatus.NOT_FOUND:
            raise ObjectMissing(name)
        if answer.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            raise AccessDenied(f"{name}: the bucket answered {answer.status}; grant this service account access")
        if answer.status != HTTPStatus.OK:
            raise BucketUnavailable(f"{name}: the bucket answered {answer.status}; it may pass")
        return answer
