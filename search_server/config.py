"""The server's configuration: one value, built from a mapping."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from http_limits.limits import ConnectionLimits
from model_repository.digests import check_sha256
from model_repository.names import IndexPrefix, Target, parse_generation
from model_repository.programs.environment import Environment
from model_repository.resources.processors import processors
from model_repository.resources.serving import CONNECTIONS, HELD_BYTES, JSON_BYTES
from model_repository.telemetry.spans import TRACEPARENT, spans_wanted

_MOST_WORKERS = 256
_CACHE_SCHEMES = ("redis", "rediss", "unix")


@dataclass(frozen=True, slots=True)
class Limits(ConnectionLimits):
    """What one request may ask for, besides what every connection may.

    neighbors: largest k. queries: most queries of one findNeighbors. listed: most items of one page.
    search_cost: of the searches of one request; waiting_cost: under way, with which no long search is begun. Both in
        numbers compared, 2.5 thousand million a second: see `build.index.Partition.cost`.
    json_bytes: of a body that is JSON.
    pictures: that wait for the model; one more is answered 503. (How many pixels one may have: `image_embedder`.)
    """

    held_bytes: int = HELD_BYTES
    connections: int = CONNECTIONS
    neighbors: int = 1000
    queries: int = 100
    listed: int = 500
    search_cost: float = 32e9
    waiting_cost: float = 8e9
    json_bytes: int = JSON_BYTES
    pictures: int = 8


@dataclass(frozen=True, slots=True)
class Config:
    """What to serve, where, and how to leave.

    data: a folder with `index/` and `model/`, as the puller publishes it.
    generation: of the commit that asked for this; every answer names it.
    prefix, digest: of the build, as the commit and the CD side know it.
    filter: the object whose filter is kept in force, filters/<environment>/<index>.json; empty: none is.
    cache_seconds: for which a cache may answer for items without asking; 0: it asks each time.
    cache_url: of the Redis in which pods share what they remember of photos; may hold a password. Empty: none.
    embedding_url: of servers of the Open Inference Protocol that embed photos; empty: the pod does.
    embedding_model: what they call a model, and after a slash its version.
    item_image_url: the page shows the picture of an item from here; ``{id}`` stands for the item's id. May be empty.
    item_names_url: the page finds what items are called there, in a JSON object of names by id. May be empty.
    pull_figures: where the puller said what the pull took; None: nowhere.
    termination_log: where Kubernetes reads a container's last words.
    traceparent: the rollout's span, from which this pod's go on; empty: none are recorded.
    probe_port: of the probes, which no caller can keep busy. workers: processes that answer.
    drain_seconds: how long to go on answering after SIGTERM.
    """

    data: Path
    generation: int
    prefix: IndexPrefix
    digest: str
    host: str = "0.0.0.0"  # noqa: S104 - a pod is reached from outside
    port: int = 8080
    probe_port: int = 8081
    workers: int = 1
    filter: str = ""
    cache_seconds: int = 0
    cache_url: str = field(default="", repr=False)
    embedding_url: str = ""
    embedding_model: str = "{model}/{version}"
    item_image_url: str = ""
    item_names_url: str = ""
    pull_figures: Path | None = None
    termination_log: Path = Path("/dev/termination-log")
    drain_seconds: float = 5.0
    traceparent: str = ""
    limits: Limits = field(default_factory=Limits)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Config:
        """Read the variables that `docs/search-api.md` lists; raises `Misconfigured` with all that is wrong."""
        read = Environment(environment)
        manifest = "what the Deployment's manifest says"
        config = cls(
            data=Path(read.text("DATA", "/data/current")),
            generation=read.parsed("COMMIT_GENERATION", parse_generation, manifest),
            prefix=read.parsed("INDEX_PREFIX", IndexPrefix.parse, manifest),
            digest=read.parsed("INDEX_DIGEST", check_sha256, manifest),
            host=read.text("HOST", "0.0.0.0"),  # noqa: S104
            port=read.whole("PORT", 8080, least=0, most=65535),
            probe_port=read.whole("PROBE_PORT", 8081, least=0, most=65535),
            workers=read.whole("WORKERS", processors(), least=1, most=_MOST_WORKERS),
            filter=_filter(read),
            cache_seconds=read.whole("CACHE_SECONDS", 0, least=0, most=86_400),
            cache_url=_cache_url(read),
            embedding_url=read.text("EMBEDDING_URL"),
            embedding_model=read.text("EMBEDDING_MODEL", "{model}/{version}"),
            item_image_url=read.text("ITEM_IMAGE_URL"),
            item_names_url=read.text("ITEM_NAMES_URL"),
            pull_figures=Path(read.text("PULL_FIGURES")) if read.text("PULL_FIGURES") else None,
            termination_log=Path(read.text("TERMINATION_LOG", "/dev/termination-log")),
            drain_seconds=read.number("DRAIN_SECONDS", 5, least=0, most=3600),
            traceparent=read.text(TRACEPARENT) if spans_wanted(environment) else "",
        )
        if config.item_image_url and not ("{id}" in config.item_image_url and _is_place(config.item_image_url)):
            read.expected("ITEM_IMAGE_URL", "such as https://pictures.example/{id}.jpg")
        if config.item_names_url and not _is_place(config.item_names_url):
            read.expected("ITEM_NAMES_URL", "such as https://shop.example/names.json")
        if config.embedding_url and not _is_server(config.embedding_url):
            read.expected(
                "EMBEDDING_URL", "http, https, grpc or grpcs, and host:port, such as grpc://pool.example:9000"
            )
        if not _names_models(config.embedding_model):
            read.expected("EMBEDDING_MODEL", "a name with {model}, and {version} in it or after a slash")
        if config.port and config.probe_port == config.port:
            read.expected("PROBE_PORT", "another port than PORT")
        read.done()
        return config


def _filter(read: Environment) -> str:
    if not read.text("FILTER"):
        return ""
    read.bucket()  # the program that fetches it needs to know
    return read.parsed("FILTER", Target.from_filter_name, "filters/<environment>/<index>.json").filter_name


def _cache_url(read: Environment) -> str:
    url = read.text("CACHE_URL")
    if url and not _is_cache(url):
        # it isn't said again: there may be a password in it
        read.refuse(
            "CACHE_URL: expected redis://, rediss:// or unix://, such as redis://:PASSWORD@redis.example:6379/0"
        )
    return url


def _is_cache(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in _CACHE_SCHEMES and bool(parts.hostname or parts.path) and parts.port != 0
    except ValueError:
        return False


def _is_server(url: str) -> bool:
    try:
        parts = urlsplit(url)
        plain = not (parts.query or parts.fragment or parts.username)
        return plain and (
            (parts.scheme in ("http", "https") and bool(parts.hostname))
            or (parts.scheme in ("grpc", "grpcs") and bool(parts.port) and parts.path in ("", "/"))
        )
    except ValueError:
        return False


def _names_models(template: str) -> bool:
    """Whether it makes another name of each version of a model."""
    try:
        made = template.format(model="\0", version="\1")
    except (LookupError, ValueError, AttributeError):
        return False
    return "\0" in made.partition("/")[0] and "\1" in made and made.count("/") <= 1


def _is_place(url: str) -> bool:
    """Whether it is an absolute http(s) URL whose host is fixed, or a path on this server's own origin."""
    parts = urlsplit(url)
    fine = parts.scheme in ("http", "https") and parts.netloc if parts.scheme or parts.netloc else url.startswith("/")
    return bool(fine) and "{" not in parts.netloc and not re.search(r"[\s;,'\"<>\\]", url)
