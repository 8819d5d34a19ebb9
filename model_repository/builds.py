"""Is the build whole? The one answer for whoever commits it and for whoever deploys it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from model_repository.bucket.checksums import with_checksums
from model_repository.bucket.store import Store
from model_repository.documents.commit import Commit, LiveCommit
from model_repository.documents.files import File, check_files
from model_repository.documents.index_manifest import Build, IndexManifest
from model_repository.documents.receipts.receipt import Outcome
from model_repository.documents.references import DetectorReference, ModelReference
from model_repository.errors import DocumentMalformed, ModelUnknown, ObjectMissing, PermanentError
from model_repository.names import IndexPrefix, ModelPrefix, Target
from model_repository.repository import (
    list_receipts,
    read_build,
    read_detector_manifest,
    read_model_manifest,
    read_receipt,
)

T = TypeVar("T")

MOST_RESTORED = 20
"""Receipts that are looked at for the build that served last."""


def check_build(store: Store, prefix: IndexPrefix) -> Build:
    """Return a build once every file of index, models and detector was seen in the bucket as index.json promises.

    Two reads of the bucket, and two for each model and the detector: index.json, every model.json, and a listing of
    each one's folder.
    Raises `ObjectMissing` when there is no index.json, `DocumentMalformed`, `BuildIncomplete` or `ModelUnknown`, and
    what the store raises.
    """
    try:
        build = read_build(store, prefix)
    except ObjectMissing:
        hint = "no such build, or its upload did not finish; commit one that is there"
        raise ObjectMissing(prefix.manifest, hint) from None
    except DocumentMalformed as error:
        raise error.mended_by("publish the build again under a new name, and commit that") from None
    check_folder(store, prefix, build.manifest.files)
    for model in build.manifest.models:
        _check_model(store, build.manifest, model)
    if build.manifest.detector is not None:
        _check_detector(store, build.manifest, build.manifest.detector)
    return build


def check_folder(store: Store, prefix: IndexPrefix | ModelPrefix, files: Iterable[File]) -> None:
    """Raise `BuildIncomplete` for the first of these files that isn't in the bucket as promised; one listing."""
    check_files(str(prefix), files, with_checksums(store, store.listing(f"{prefix}/")))


def served_last(
    store: Store, target: Target, *, before: int = 0, but: IndexPrefix | None = None
) -> tuple[LiveCommit, Build] | None:
    """The commit that a receipt says served last, of those whose build is whole still; None: nothing is left.

    before: only of those whose receipts were written before this commit's, if it has one. but: not this build.
    Reads `MOST_RESTORED` receipts at most. Raises what may pass.
    """
    generations = list_receipts(store, target)
    if before in generations:
        generations = generations[generations.index(before) + 1 :]
    for generation in generations[:MOST_RESTORED]:
        try:
            receipt = read_receipt(store, target, generation)
            if receipt.outcome is Outcome.SERVED and receipt.index_prefix not in {None, but}:
                build = check_build(store, receipt.index_prefix)
                return LiveCommit(target, generation, Commit(receipt.index_prefix, receipt.by, receipt.reason)), build
        except PermanentError:  # a receipt that nobody understands, a build that is gone: the one before it, then
            continue
    return None


def _check_model(store: Store, manifest: IndexManifest, reference: ModelReference) -> None:
    model = _read_stated(store, manifest, reference, read_model_manifest)
    if model.dimensions != reference.dimensions:
        raise ModelUnknown(
            f"{manifest.prefix.manifest}: says that {reference.prefix} makes vectors of {reference.dimensions} "
            f"dimensions, but it makes {model.dimensions}; build the index again"
        )
    check_folder(store, reference.prefix, reference.files)


def _check_detector(store: Store, manifest: IndexManifest, reference: DetectorReference) -> None:
    detector = _read_stated(store, manifest, reference, read_detector_manifest)
    if strangers := set(reference.categories) - set(detector.classes):
        raise ModelUnknown(
            f"{manifest.prefix.manifest}: says that {reference.prefix} finds {min(strangers)!r}, which is none of its "
            "classes; build the index again"
        )
    check_folder(store, reference.prefix, reference.files)


def _read_stated(
    store: Store,
    manifest: IndexManifest,
    reference: ModelReference | DetectorReference,
    read: Callable[[Store, ModelPrefix], tuple[T, str]],
) -> T:
    """The model.json that a build refers to, which must be the one that it was built with."""
    try:
        found, digest = read(store, reference.prefix)
    except ObjectMissing:
        raise ModelUnknown(
            f"{manifest.prefix.manifest}: its model {reference.prefix} isn't in the bucket; upload that, then commit"
        ) from None
    except DocumentMalformed as error:
        raise error.mended_by("publish that model again under a new version, and a build made with it") from None
    if digest != reference.digest:
        raise ModelUnknown(
            f"{manifest.prefix.manifest}: was built with a {reference.prefix.manifest} of digest {reference.digest}, "
            f"the bucket has {digest}; models are immutable: put the old one back, or build the index again"
        )
    return found
