"""Builds in the bucket: which one a person means, whether it is whole, and what else there is."""

from __future__ import annotations

import difflib

from model_repository.errors import NameRefused, ObjectMissing
from model_repository.files import check_files
from model_repository.index_manifest import IndexManifest
from model_repository.names import IndexPrefix
from model_repository.repository import read_index_manifest, read_model_manifest
from model_repository.store import ObjectInfo, Store
from operator_cli.errors import BucketMissing, BuildMissing, ModelUnknown

_SUGGESTIONS = 3


def listing(store: Store, prefix: str) -> list[ObjectInfo]:
    """`Store.listing`; a bucket that isn't there raises `BucketMissing`, not that an object is missing."""
    try:
        return store.listing(prefix)
    except ObjectMissing:
        raise bucket_missing(store) from None


def folders(store: Store, prefix: str) -> list[str]:
    """The names (not paths) of the folders below `prefix`; raises `BucketMissing`."""
    try:
        return [path[len(prefix) :].rstrip("/") for path in store.folders(prefix)]
    except ObjectMissing:
        raise bucket_missing(store) from None


def bucket_missing(store: Store) -> BucketMissing:
    """The error for a bucket that isn't there."""
    return BucketMissing(f"gs://{store.bucket}: no such bucket; check MODEL_REPOSITORY or --repository")


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


def check_build(store: Store, prefix: IndexPrefix) -> IndexManifest:
    """The manifest of a build that is whole: every file of index and model stands in the bucket as promised.

    Raises `BuildMissing`, `DocumentMalformed`, `BuildIncomplete` or `ModelUnknown`.
    """
    try:
        manifest, _ = read_index_manifest(store, prefix)
    except ObjectMissing:
        raise _missing(store, prefix) from None
    check_files(str(prefix), manifest.files, listing(store, f"{prefix}/"))
    _check_model(store, manifest)
    return manifest


def _check_model(store: Store, manifest: IndexManifest) -> None:
    reference = manifest.model
    try:
        model, digest = read_model_manifest(store, reference.prefix)
    except ObjectMissing:
        raise ModelUnknown(
            f"{manifest.prefix.manifest}: its model {reference.prefix} isn't in the bucket; upload that, then commit"
        ) from None
    if digest != reference.digest:
        raise ModelUnknown(
            f"{manifest.prefix.manifest}: was built with a {reference.prefix.manifest} of digest {reference.digest}, "
            f"the bucket has {digest}; models are immutable: put the old one back, or build the index again"
        )
    if model.dimensions != reference.dimensions:
        raise ModelUnknown(
            f"{manifest.prefix.manifest}: says that {reference.prefix} makes vectors of {reference.dimensions} "
            f"dimensions, but it makes {model.dimensions}; build the index again"
        )
    check_files(str(reference.prefix), reference.files, listing(store, f"{reference.prefix}/"))


def _missing(store: Store, prefix: IndexPrefix) -> BuildMissing:
    builds = folders(store, f"indexes/{prefix.index}/")
    if not builds:
        what = f"{prefix}: the index {prefix.index!r} has no builds"
        return BuildMissing(sentence(what, near_names(prefix.index, folders(store, "indexes/"))))
    others = [build for build in builds if build != prefix.build]
    if prefix.build in builds:
        what = f"{prefix}: has no index.json, so it is still being uploaded or was given up"
        return BuildMissing(sentence(what, "wait for it, or take another build", _newest(others)))
    return BuildMissing(sentence(f"{prefix}: no such build", near_names(prefix.build, others), _newest(others)))


def _newest(builds: list[str]) -> str:
    # builds are named for their time, so the last names are the newest
    return f"newest by name: {', '.join(sorted(builds, reverse=True)[:_SUGGESTIONS])}" if builds else ""


def near_names(name: str, names: list[str]) -> str:
    """What a person may have meant, as a part of a sentence; empty if nothing comes near."""
    near = difflib.get_close_matches(name, names, n=_SUGGESTIONS, cutoff=0.6)
    return f"did you mean {' or '.join(near)}?" if near else ""


def sentence(*parts: str) -> str:
    """Join the parts that say something."""
    return "; ".join(part for part in parts if part).replace("?; ", "? ")
