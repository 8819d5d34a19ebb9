"""The builds of an index that the bucket has, and where each is live."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from model_repository.bucket.store import Store
from model_repository.documents.index_manifest import IndexManifest
from model_repository.errors import NameRefused, ObjectMissing, PermanentError
from model_repository.names import IndexPrefix
from model_repository.repository import list_commits, read_build
from operator_cli.builds import index_missing
from operator_cli.live import read_live


@dataclass(frozen=True, slots=True)
class BuildRow:
    """One build. manifest: None: it can't be read, and `why` says it. live_in: targets whose commit names it."""

    prefix: IndexPrefix
    manifest: IndexManifest | None
    why: str
    live_in: tuple[str, ...]


def list_builds(store: Store, index: str, limit: int) -> list[BuildRow]:
    """The newest `limit` builds by name, which the batch makes of their time. Raises `BuildMissing` for no builds."""
    root = f"indexes/{index}/"
    names = sorted((folder.removeprefix(root).rstrip("/") for folder in store.folders(root)), reverse=True)
    if not names:
        raise index_missing(store, index)
    live: dict[IndexPrefix, list[str]] = defaultdict(list)
    for found in list_commits(store):
        if found.target and (commit := read_live(store, found.target).commit):
            live[commit.index_prefix].append(str(found.target))
    rows = []
    for name in names[:limit]:
        try:
            prefix = IndexPrefix(index, name)
        except NameRefused:
            continue
        try:
            rows.append(BuildRow(prefix, read_build(store, prefix).manifest, "", tuple(live[prefix])))
        except ObjectMissing:
            why = "has no index.json: it is being uploaded, or was given up"
            rows.append(BuildRow(prefix, None, why, tuple(live[prefix])))
        except PermanentError as error:
            rows.append(BuildRow(prefix, None, str(error), tuple(live[prefix])))
    return rows
