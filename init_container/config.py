"""What to pull, from where, to where: one frozen value built from a mapping that is passed in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from model_repository.digests import check_sha256
from model_repository.errors import Misconfigured, NameRefused
from model_repository.names import IndexPrefix

GOOGLE = "https://storage.googleapis.com"
LEAST_DEADLINE = 60.0
"""Seconds for a pull whose size isn't known yet, and besides the time for its bytes."""
_MIB = 1024 * 1024

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Config:
    """One pull.

    bucket: the Model Repository's name. index_prefix: the build.
    index_digest: sha256 of the bytes of its index.json; empty: what stands there is pulled (a person pulls by hand).
    destination: the folder that appears when all is verified; its parent must exist and be writable.
    endpoint: ``http(s)://host[:port]`` of the storage API. anonymous: send no credentials. user_project: billed for a
        requester-pays bucket, or empty.
    deadline: seconds for the whole pull; 0: derived from the bytes. stall: seconds without a byte after which a
        connection is given up. attempts: of one range in a row without a single byte of progress.
    processes: that fetch side by side; 0: as many as there are processors, and bytes for them, at most 4.
    connections: most at a time, of all processes together; 0: 16 for each.
    range_bytes: most bytes asked for at once; 0: follows the connection.
    certificates: PEM file of certificate authorities, or empty for the system's. proxy: ``http://host:port`` or empty.
    progress_seconds: between two progress lines; 0 for none.
    """

    bucket: str
    index_prefix: IndexPrefix
    index_digest: str
    destination: Path
    endpoint: str = GOOGLE
    anonymous: bool = False
    user_project: str = ""
    deadline: float = 0.0
    stall: float = 10.0
    attempts: int = 8
    processes: int = 0
    connections: int = 0
    range_bytes: int = 0
    certificates: str = ""
    proxy: str = ""
    progress_seconds: float = 3.0

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Config:
        """Read the settings; raises `Misconfigured` naming the variable."""
        read = _Reader(environment)
        destination = Path(read.required("DESTINATION"))
        if not destination.is_absolute() or destination.name in ("", ".."):
            raise Misconfigured(f"DESTINATION {str(destination)[:200]!r}: expected an absolute path of a folder")
        emulator = read.text("STORAGE_EMULATOR_HOST")
        endpoint = _endpoint("STORAGE_EMULATOR_HOST", emulator) if emulator else ""
        endpoint = endpoint or _endpoint("STORAGE_ENDPOINT", read.text("STORAGE_ENDPOINT") or GOOGLE)
        return cls(
            bucket=_bucket(read.required("MODEL_REPOSITORY")),
            index_prefix=_parsed("INDEX_PREFIX", IndexPrefix.parse, read.required("INDEX_PREFIX").rstrip("/")),
            index_digest=_parsed("INDEX_DIGEST", _digest, read.text("INDEX_DIGEST")),
            destination=destination,
            endpoint=endpoint,
            anonymous=bool(emulator) or read.flag("STORAGE_ANONYMOUS"),
            user_project=read.text("USER_PROJECT"),
            deadline=read.number("DEADLINE_SECONDS", 0.0, least=0.0, most=86_400.0),
            stall=read.number("STALL_SECONDS", 10.0, least=0.1, most=600.0),
            attempts=int(read.number("ATTEMPTS", 8, least=1, most=100)),
            processes=int(read.number("PROCESSES", 0, least=0, most=16)),
            connections=int(read.number("CONNECTIONS", 0, least=0, most=64)),
            range_bytes=int(read.number("RANGE_MIB", 0, least=0, most=1024) * _MIB),
            certificates=read.text("SSL_CERT_FILE"),
            proxy=_proxy(endpoint, environment),
            progress_seconds=read.number("PROGRESS_SECONDS", 3.0, least=0.0, most=3600.0),
        )


class _Reader:
    """Reads variables and names them in errors; surrounding blanks are dropped, empty means unset."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment

    def text(self, name: str) -> str:
        return self._environment.get(name, "").strip()

    def required(self, name: str) -> str:
        value = self.text(name)
        if not value:
            raise Misconfigured(f"{name} is not set")
        return value

    def flag(self, name: str) -> bool:
        value = self.text(name).lower()
        if value not in ("", "0", "1", "false", "true"):
            raise Misconfigured(f"{name} {value[:40]!r}: expected 1 or 0")
        return value in ("1", "true")

    def number(self, name: str, default: float, *, least: float, most: float) -> float:
        value = self.text(name)
        try:
            number = float(value) if value else default
        except ValueError:
            number = least - 1
        if not least <= number <= most:
            raise Misconfigured(f"{name} {value[:40]!r}: expected a number from {least:g} to {most:g}")
        return number


def _parsed(name: str, parse: Callable[[str], T], text: str) -> T:
    try:
        return parse(text)
    except NameRefused as error:
        raise Misconfigured(f"{name}: {error}") from None


def _digest(text: str) -> str:
    return check_sha256(text) if text else ""


def _bucket(url: str) -> str:
    name = url.removeprefix("gs://").rstrip("/")
    plain = name.isascii() and all(character.isalnum() or character in "-_." for character in name)
    if not url.startswith("gs://") or not name or not plain:
        raise Misconfigured(f"MODEL_REPOSITORY {url[:200]!r}: expected gs://<bucket>, without a path")
    return name


def _endpoint(name: str, url: str) -> str:
    """Scheme, host and port of a URL; ``host:port`` alone means http, as Google's clients read it."""
    text = url if "://" in url else f"http://{url}"
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not host or parts.path not in ("", "/") or parts.query:
        raise Misconfigured(f"{name} {url[:200]!r}: expected http(s)://host[:port]")
    bracketed = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{bracketed}" + (f":{port}" if port else "")


def _proxy(endpoint: str, environment: Mapping[str, str]) -> str:
    """The proxy for https endpoints, read as other tools do: HTTPS_PROXY and NO_PROXY, in either case."""
    parts = urlsplit(endpoint)
    url = (environment.get("https_proxy") or environment.get("HTTPS_PROXY") or "").strip()
    if parts.scheme != "https" or not url:
        return ""
    host = parts.hostname or ""
    exceptions = (environment.get("no_proxy") or environment.get("NO_PROXY") or "").split(",")
    for exception in (entry.strip().lstrip(".").rsplit(":", 1)[0] for entry in exceptions):
        if exception and (exception in ("*", host) or host.endswith(f".{exception}")):
            return ""
    if urlsplit(url if "://" in url else f"http://{url}").scheme != "http":
        raise Misconfigured(f"HTTPS_PROXY {url[:200]!r}: expected http://host[:port]; https is for what is behind it")
    return url if "://" in url else f"http://{url}"
