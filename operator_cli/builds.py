"""Builds in the bucket: which one a person means, whether it is whole, and what else there is."""

from __future__ import annotations

from model_repository.bucket.store import Store
from model_repository.builds import check_build
from model_repository.documents.index_manifest import IndexManifest
from model_repository.errors import BucketMissing, NameRefused, ObjectMissing
from model_repository.mistyped import near_names, sentence
from model_repository.names import IndexPrefix
from operator_cli.errors import BuildMissing

_SUGGESTIONS = 3


def parse_build(text: str, index: str, bucket: str) -> IndexPrefix:
    """The build that a person names: its name, its prefix, or what a browser of buckets copies (gs://.../index.json).

    Raises `NameRefused`, also for a build of another index or in another bucket.
    """
    path = text
    if path.startswith("gs://"):
        found, _, path = path.removeprefix("gs://").partition("/")
        if found != bucket:
            raise NameRefused(f"{text[:200]!r} is in another bucket than gs://{bucket}; name one of its builds")
    path = path.removesuffix("/index.json").rstrip("/")
    prefix = IndexPrefix.parse(path) if "/" in path else IndexPrefix(index, path)
    if prefix.index != index:
        raise NameRefused(f"{prefix} is a build of {prefix.index!r}, not of {index!r}; name the index it belongs to")
    return prefix


def whole_build(store: Store, prefix: IndexPrefix) -> IndexManifest:
    """The manifest of a build that `check_build` finds whole, and raises as that does.

    A build that isn't there is `BuildMissing`, which names those that are.
    """
    try:
        return check_build(store, prefix).manifest
    except BucketMissing:
        raise
    except ObjectMissing:
        raise build_missing(store, prefix) from None


def build_missing(store: Store, prefix: IndexPrefix) -> BuildMissing:
    """The error for a build that isn't there. Raises `BucketMissing`."""
    builds = build_names(store, prefix.index)
    if not builds:
        return index_missing(store, prefix.index)
    others = [build for build in builds if build != prefix.build]
    if prefix.build in builds:
        what = f"{prefix}: has no index.json, so it is still being uploaded or was given up"
        return BuildMissing(sentence(what, "wait for it, or take another build", _newest(others)))
    return BuildMissing(sentence(f"{prefix}: no such build", near_names(prefix.build, others), _newest(others)))


def other_builds(store: Store, index: str, than: IndexPrefix | None) -> str:
    """The newest builds of an index but for one, in words; empty: there are none."""
    return _newest([build for build in build_names(store, index) if than is None or build != than.build])


def build_names(store: Store, index: str) -> list[str]:
    """The folders of an index, the newest builds first: they are named for their time."""
    return sorted(_folders(store, f"indexes/{index}/"), reverse=True)


def index_missing(store: Store, index: str) -> BuildMissing:
    """The error for an index without builds. Raises `BucketMissing`."""
    indexes = _folders(store, "indexes/")
    there = f"builds have {', '.join(sorted(indexes)[:_SUGGESTIONS])}" if indexes else "the batch makes the first"
    return BuildMissing(sentence(f"indexes/{index}/: no builds", near_names(index, indexes) or there))


def _folders(store: Store, prefix: str) -> list[str]:
    return [path.removeprefix(prefix).rstrip("/") for path in store.folders(prefix)]


def _newest(builds: list[str]) -> str:
    return f"newest by name: {', '.join(builds[:_SUGGESTIONS])}" if builds else ""
