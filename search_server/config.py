"""The server's configuration: one value, built from a mapping."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from model_repository.digests import check_sha256
from model_repository.errors import Misconfigured, NameRefused
from model_repository.names import IndexPrefix, parse_generation

_T = TypeVar("_T")

_MEBIBYTE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request, one connection and all of them together may ask for.

    neighbors: largest k. queries: most queries of one findNeighbors. listed: most items of one page.
    target_bytes, head_bytes: of a request's target and of its whole head. body_bytes: of its body.
    pictures: that wait for the model; one more is answered 503. (How many pixels one may have: `image_embedder`.)
    connections: at the same time.
    head_seconds, body_seconds: for a client to send them. idle_seconds: between two requests of a connection; longer
        than the 600 s for which Google's load balancers keep theirs, so that it is they who close.
    write_seconds: for a client to take an answer. linger_seconds: for a client to close after we did.
    """

    neighbors: int = 1000
    queries: int = 100
    listed: int = 500
    target_bytes: int = 4096
    head_bytes: int = 32 * 1024
    body_bytes: int = 10 * _MEBIBYTE
    pictures: int = 8
    connections: int = 4096
    head_seconds: float = 10.0
    body_seconds: float = 30.0
    idle_seconds: float = 620.0
    write_seconds: float = 30.0
    linger_seconds: float = 2.0


@dataclass(frozen=True, slots=True)
class Config:
    """What to serve, where, and how to leave.

    data: a folder with `index/` and `model/`, as the puller publishes it.
    generation: of the commit that asked for this; every answer names it.
    prefix, digest: of the build, as the commit and the CD side know it.
    item_image_url: the page shows the picture of an item from here; ``{id}`` stands for the item's id. May be empty.
    termination_log: where Kubernetes reads a container's last words.
    drain_seconds: how long to go on answering after SIGTERM.
    """

    data: Path
    generation: int
    prefix: IndexPrefix
    digest: str
    host: str = "0.0.0.0"  # noqa: S104 - a pod is reached from outside
    port: int = 8080
    item_image_url: str = ""
    termination_log: Path = Path("/dev/termination-log")
    drain_seconds: float = 5.0
    limits: Limits = field(default_factory=Limits)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Config:
        """Read the variables that `docs/search-api.md` lists; raises `Misconfigured` with the name of a wrong one."""
        return cls(
            data=Path(environment.get("DATA") or "/data/current"),
            generation=_required(environment, "COMMIT_GENERATION", parse_generation),
            prefix=_required(environment, "INDEX_PREFIX", IndexPrefix.parse),
            digest=_required(environment, "INDEX_DIGEST", check_sha256),
            host=environment.get("HOST") or "0.0.0.0",  # noqa: S104
            port=int(_number(environment, "PORT", default=8080, most=65535)),
            item_image_url=_template(environment.get("ITEM_IMAGE_URL", "")),
            termination_log=Path(environment.get("TERMINATION_LOG") or "/dev/termination-log"),
            drain_seconds=_number(environment, "DRAIN_SECONDS", default=5, most=3600),
        )


def _required(environment: Mapping[str, str], name: str, parse: Callable[[str], _T]) -> _T:
    text = environment.get(name, "")
    if not text:
        raise Misconfigured(f"{name} is not set; the Deployment's manifest sets it")
    try:
        return parse(text)
    except NameRefused as error:
        raise Misconfigured(f"{name}: {error}") from None


def _number(environment: Mapping[str, str], name: str, *, default: float, most: float) -> float:
    text = environment.get(name) or str(default)
    if not re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,3})?", text, re.ASCII) or float(text) > most:
        raise Misconfigured(f"{name}={text[:40]!r}: expected a number from 0 to {most:g}")
    return float(text)


def _template(url: str) -> str:
    """An absolute http(s) URL with {id} in its path, or a path on this server's own origin, or nothing."""
    if not url:
        return ""
    parts = urlsplit(url)
    fine = parts.scheme in ("http", "https") and parts.netloc if parts.scheme or parts.netloc else url.startswith("/")
    if not fine or "{id}" not in parts.path + parts.query or re.search(r"[\s;,'\"<>\\]", url):
        raise Misconfigured(f"ITEM_IMAGE_URL={url[:200]!r}: expected such as https://pictures.example/{{id}}.jpg")
    return url
