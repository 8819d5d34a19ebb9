"""The builds of an index that the bucket has, and where each is live."""

from __future__ import annotations

from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass

from model_repository.bucket.store import Store
from model_repository.documents.index_manifest import IndexManifest
from model_repository.errors import NameRefused, ObjectMissing, PermanentError
from model_repository.names import IndexPrefix
from model_repository.repository import list_commits, read_build, read_live
from operator_cli.builds import build_names, index_missing


@dataclass(frozen=True, slots=True)
class BuildRow:
    """One build. manifest: None: it can't be read, and `why` says it. live_in: targets whose commit names it."""

    prefix: IndexPrefix
    manifest: IndexManifest | None
    why: str
    live_in: tuple[str, ...]


def list_builds(store: Store, index: str, limit: int) -> list[BuildRow]:
    """The newest `limit` builds by name, which the batch makes of their time. Raises `BuildMissing` for no builds."""
    names = build_names(store, index)
    if not names:
        raise index_missing(store, index)
    live: dict[IndexPrefix, list[str]] = defaultdict(list)
    for found in list_commits(store):
        if found.target and (commit := read_live(store, found.target).commit):
            live[commit.index_prefix].append(str(found.target))
    rows = []
    for name in names[:limit]:
        with suppress(NameRefused):  # nothing of ours
            prefix = IndexPrefix(index, name)
            rows.append(BuildRow(prefix, *_read(store, prefix), tuple(live[prefix])))
    return rows


def _read(store: Store, prefix: IndexPrefix) -> tuple[IndexManifest | None, str]:
    try:
        return read_build(store, prefix).manifest, ""
    except ObjectMissing:
        return None, "has no index.json: it is being uploaded, or was given up"
    except PermanentError as error:
        return None, str(error)
