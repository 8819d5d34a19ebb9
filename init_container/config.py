"""What to pull, from where, to where: one frozen value built from a mapping that is passed in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from model_repository.digests import check_sha256
from model_repository.names import IndexPrefix
from model_repository.programs.environment import Environment

GOOGLE = "https://storage.googleapis.com"
LEAST_DEADLINE = 60.0
"""Seconds for a pull whose size isn't known yet, and besides the time for its bytes."""
_MIB = 1024 * 1024
_FOLDER = "an absolute path of a folder"


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
    figures: the file that says afterwards how long it took and how many bytes it were; None: none is written.
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
    figures: Path | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Config:
        """Read the settings; raises `Misconfigured` with all that is wrong."""
        read = Environment(environment)
        emulator = "STORAGE_EMULATOR_HOST" if read.text("STORAGE_EMULATOR_HOST") else ""
        endpoint = _endpoint(read, emulator or "STORAGE_ENDPOINT")
        config = cls(
            bucket=read.bucket(),
            index_prefix=read.parsed("INDEX_PREFIX", lambda text: IndexPrefix.parse(text.rstrip("/")), "the build's"),
            index_digest=read.parsed("INDEX_DIGEST", check_sha256, "") if read.text("INDEX_DIGEST") else "",
            destination=Path(read.required("DESTINATION", _FOLDER) or "/"),
            endpoint=endpoint,
            anonymous=bool(emulator) or read.flag("STORAGE_ANONYMOUS"),
            user_project=read.text("USER_PROJECT"),
            deadline=read.number("DEADLINE_SECONDS", 0.0, least=0.0, most=86_400.0),
            stall=read.number("STALL_SECONDS", 10.0, least=0.1, most=600.0),
            attempts=read.whole("ATTEMPTS", 8, least=1, most=100),
            processes=read.whole("PROCESSES", 0, least=0, most=16),
            connections=read.whole("CONNECTIONS", 0, least=0, most=64),
            range_bytes=read.whole("RANGE_MIB", 0, least=0, most=1024) * _MIB,
            certificates=read.text("SSL_CERT_FILE"),
            proxy=_proxy(read, endpoint),
            progress_seconds=read.number("PROGRESS_SECONDS", 3.0, least=0.0, most=3600.0),
            figures=Path(read.text("PULL_FIGURES")) if read.text("PULL_FIGURES") else None,
        )
        if read.text("DESTINATION") and (not config.destination.is_absolute() or config.destination.name in ("", "..")):
            read.expected("DESTINATION", _FOLDER)
        read.done()
        return config


def _server(url: str) -> SplitResult | None:
    """A URL that names a server, ``host:port`` alone meaning http, as Google's clients read it; or None."""
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        named = parts.hostname and parts.port != 0
    except ValueError:  # a bracket without its other, or a port that is none
        return None
    return parts if named and parts.path in ("", "/") and not parts.query else None


def _endpoint(read: Environment, name: str) -> str:
    parts = _server(read.text(name, GOOGLE))
    if parts is None or parts.scheme not in ("http", "https"):
        read.expected(name, "http(s)://host[:port]")
        return GOOGLE
    host = f"[{parts.hostname}]" if ":" in str(parts.hostname) else parts.hostname
    return f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port else "")


def _proxy(read: Environment, endpoint: str) -> str:
    """The proxy for https endpoints, read as other tools do: HTTPS_PROXY and NO_PROXY, in either case."""
    to = urlsplit(endpoint)
    name = "https_proxy" if read.text("https_proxy") else "HTTPS_PROXY"
    url = read.text(name)
    if to.scheme != "https" or not url:
        return ""
    host = to.hostname or ""
    exceptions = (read.text("no_proxy") or read.text("NO_PROXY")).split(",")
    for exception in (entry.strip().lstrip(".").rsplit(":", 1)[0] for entry in exceptions):
        if exception and (exception in ("*", host) or host.endswith(f".{exception}")):
            return ""
    parts = _server(url)
    if parts is None or parts.scheme != "http":
        read.expected(name, "http://host[:port]; https is for what is behind it")
        return ""
    return parts.geturl()
