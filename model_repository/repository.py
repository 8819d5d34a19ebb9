"""Reads and writes the contract's documents through a store."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from model_repository.bucket.store import Store, StoredObject
from model_repository.digests import sha256_digest
from model_repository.documents.commit import COMMIT_LIMIT, Commit, LiveCommit, format_commit, parse_commit
from model_repository.documents.detector_manifest import DetectorManifest, parse_detector_manifest
from model_repository.documents.index_manifest import INDEX_MANIFEST_LIMIT, Build, parse_index_manifest
from model_repository.documents.items.item_filter import (
    FILTER_LIMIT,
    LiveFilter,
    decode_hidden,
    format_item_filter,
    format_last_good_filter,
    make_filter,
    parse_item_filter,
    parse_last_good_filter,
)
from model_repository.documents.model_manifest import MODEL_MANIFEST_LIMIT, ModelManifest, parse_model_manifest
from model_repository.documents.receipts.address import ADDRESS_LIMIT, Address, format_address, parse_address
from model_repository.documents.receipts.filter_receipt import (
    FilterReceipt,
    format_filter_receipt,
    parse_filter_receipt,
)
from model_repository.documents.receipts.receipt import RECEIPT_LIMIT, Receipt, format_receipt, parse_receipt
from model_repository.documents.receipts.shadow_comparison import (
    COMPARISON_LIMIT,
    ShadowComparison,
    format_shadow_comparison,
    parse_shadow_comparison,
)
from model_repository.errors import (
    BucketUnavailable,
    DocumentMalformed,
    GenerationConflict,
    NameRefused,
    ObjectMissing,
)
from model_repository.names import IndexPrefix, ModelPrefix, Target, parse_generation

COMMITS = "commits/"
"""The folder of all commits."""
FILTERS = "filters/"
"""The folder of all filters."""


def read_commit_object(store: Store, target: Target) -> StoredObject:
    """The live commit object of `target`, unparsed: its generation counts even if its bytes make no sense."""
    return store.read(target.commit_name, limit=COMMIT_LIMIT)


@dataclass(frozen=True, slots=True)
class Live:
    """The commit object of a target as it was read.

    generation: 0 if there is none: also the precondition for whoever replaces it.
    commit: None if there is none, or it can't be understood; then `malformed` says why (without the object's name).
    """

    target: Target
    generation: int
    commit: Commit | None
    malformed: str = ""


def read_live(store: Store, target: Target) -> Live:
    """The live commit of `target`: absent, malformed or fine. Raises what the store does for what may pass."""
    try:
        stored = read_commit_object(store, target)
    except ObjectMissing:
        return Live(target, 0, None)
    except DocumentMalformed as error:  # too large to be one
        return Live(target, error.generation, None, error.what)
    try:
        return Live(target, stored.generation, parse_commit(stored.data, target))
    except DocumentMalformed as error:
        return Live(target, stored.generation, None, error.what)


def read_live_commit(store: Store, target: Target) -> LiveCommit:
    """What `target` should serve now. Raises `ObjectMissing` or `DocumentMalformed`."""
    stored = read_commit_object(store, target)
    return LiveCommit(target, stored.generation, parse_commit(stored.data, target))


def write_commit(store: Store, target: Target, commit: Commit, *, if_generation_match: int | None) -> LiveCommit:
    """Upload a commit: deploys, redeploys or rolls back.

    Raises `GenerationConflict`, and `DocumentMalformed` before anything is written that nobody could read.
    """
    data = format_commit(commit)
    parse_commit(data, target)
    info = store.write(target.commit_name, data, if_generation_match=if_generation_match)
    return LiveCommit(target, info.generation, commit)


def read_build(store: Store, prefix: IndexPrefix) -> Build:
    """A build as its index.json says, whether its files are there or not (`builds.check_build` looks at those)."""
    stored = store.read(prefix.manifest, limit=INDEX_MANIFEST_LIMIT)
    return Build(parse_index_manifest(stored.data, prefix), stored.generation, sha256_digest(stored.data))


def read_live_filter(store: Store, target: Target) -> LiveFilter:
    """What is hidden of `target` now. Raises `ObjectMissing` or `DocumentMalformed`."""
    stored = store.read(target.filter_name, limit=FILTER_LIMIT)
    return LiveFilter(target, stored.generation, parse_item_filter(stored.data, target))


def read_hidden(store: Store, live: LiveFilter) -> array[int]:
    """The hashes of hidden items, ascending. Raises `ObjectMissing` or `DocumentMalformed`."""
    return decode_hidden(store.read(live.data, limit=live.filter.size).data, live.filter, live.data)


def write_filter(store: Store, target: Target, items: Iterable[str], *, by: str = "", reason: str = "") -> LiveFilter:
    """Hide exactly these items of `target`, whatever was hidden before: the data first, then what names them.

    Data that are there are written again: what is old, and nothing names, may be about to be pruned. Raises what the
    store does, and `DocumentMalformed` before anything is written that nobody could read.
    """
    one, data = make_filter(items, by=by, reason=reason)
    document = format_item_filter(one)
    parse_item_filter(document, target)
    decode_hidden(data, one, target.filter_data(one.sha256))
    store.write(target.filter_data(one.sha256), data, if_generation_match=None)
    info = store.write(target.filter_name, document, if_generation_match=None)
    return LiveFilter(target, info.generation, one)


def keep_last_good_filter(store: Store, live: LiveFilter, *, replacing: int) -> None:
    """Note the filter that is in force on every pod; replacing: the generation of the note before, 0 for none.

    Raises `GenerationConflict` where another note came first.
    """
    document = format_last_good_filter(live)
    parse_last_good_filter(document, live.target)
    store.write(live.target.last_good_filter_name, document, if_generation_match=replacing)


def read_last_good_filter(store: Store, target: Target) -> LiveFilter:
    """The filter of `target` that was last in force on every pod. Raises `ObjectMissing` or `DocumentMalformed`."""
    return parse_last_good_filter(store.read(target.last_good_filter_name, limit=FILTER_LIMIT).data, target)


def write_filter_receipt(store: Store, receipt: FilterReceipt) -> bool:
    """Write a filter's receipt, unless it has one; True if it had none."""
    return _write_once(store, receipt.target.filter_receipt_name(receipt.generation), format_filter_receipt(receipt))


def read_filter_receipt(store: Store, target: Target, generation: int) -> FilterReceipt:
    """What became of a filter. Raises `ObjectMissing` or `DocumentMalformed`."""
    stored = store.read(target.filter_receipt_name(generation), limit=RECEIPT_LIMIT)
    return parse_filter_receipt(stored.data, target, generation)


def read_model_manifest(store: Store, prefix: ModelPrefix) -> tuple[ModelManifest, str]:
    """A model's manifest, and its digest."""
    stored = store.read(prefix.manifest, limit=MODEL_MANIFEST_LIMIT)
    return parse_model_manifest(stored.data, prefix), sha256_digest(stored.data)


def read_detector_manifest(store: Store, prefix: ModelPrefix) -> tuple[DetectorManifest, str]:
    """A detector's manifest, and its digest."""
    stored = store.read(prefix.manifest, limit=MODEL_MANIFEST_LIMIT)
    return parse_detector_manifest(stored.data, prefix), sha256_digest(stored.data)


def write_receipt(store: Store, receipt: Receipt) -> bool:
    """Write a receipt unless there is one: True if this call wrote it. The first one stands."""
    data = format_receipt(receipt)
    parse_receipt(data, receipt.target, receipt.generation)
    return _write_once(store, receipt.target.receipt_name(receipt.generation), data)


def _write_once(store: Store, name: str, data: bytes) -> bool:
    try:
        store.write(name, data, if_generation_match=0)
    except GenerationConflict as error:
        if store.stat(name) is None:  # whoever answered 412 meant something else
            raise BucketUnavailable(f"{name}: wasn't written, and none is there; it may pass") from error
        return False
    return True


def read_receipt(store: Store, target: Target, generation: int) -> Receipt:
    """The receipt of one commit; raises `ObjectMissing` while there is none."""
    stored = store.read(target.receipt_name(generation), limit=RECEIPT_LIMIT)
    return parse_receipt(stored.data, target, generation)


def write_address(store: Store, address: Address) -> None:
    """Write where a commit's build answers, unless that stands there."""
    data = format_address(address)
    parse_address(data, address.target, address.generation)
    _write_once(store, address.target.address_name(address.generation), data)


def read_address(store: Store, target: Target, generation: int) -> Address:
    """Where the build of a commit answers. Raises `ObjectMissing` (nobody said it) or `DocumentMalformed`."""
    stored = store.read(target.address_name(generation), limit=ADDRESS_LIMIT)
    return parse_address(stored.data, target, generation)


def write_shadow_comparison(store: Store, comparison: ShadowComparison) -> None:
    """Write how a shadow answered beside its index, in place of what stood there.

    Raises `DocumentMalformed` before anything is written that nobody could read.
    """
    target, generation = comparison.target, comparison.generation
    data = format_shadow_comparison(comparison)
    parse_shadow_comparison(data, target, generation)
    store.write(target.comparison_name(generation), data, if_generation_match=None)


def read_shadow_comparison(store: Store, target: Target, generation: int) -> ShadowComparison:
    """How the shadow of one commit answered. Raises `ObjectMissing` (nobody compared it) or `DocumentMalformed`."""
    stored = store.read(target.comparison_name(generation), limit=COMPARISON_LIMIT)
    return parse_shadow_comparison(stored.data, target, generation)


def list_receipts(store: Store, target: Target) -> list[int]:
    """The generations that have a receipt, those written last first: a receipt is written once, when all was known.

    A generation is the name of an upload; how large it is says nothing of when that was.
    """
    prefix = target.receipts_prefix
    found: list[tuple[datetime, int]] = []
    for info in store.listing(prefix):
        name, _, extension = info.name.removeprefix(prefix).rpartition(".")
        generation = _generation(name)
        if generation is not None and extension == "json":
            found.append((info.updated, generation))
    return [generation for _, generation in sorted(found, reverse=True)]


def _generation(text: str) -> int | None:
    try:
        return parse_generation(text)
    except NameRefused:
        return None


@dataclass(frozen=True, slots=True)
class CommitObject:
    """An object in commits/. target: None if its name is no commit's, so that nobody will ever act on it.

    updated: when it was uploaded, in UTC.
    """

    name: str
    generation: int
    target: Target | None
    updated: datetime


def list_commits(store: Store) -> list[CommitObject]:
    """The objects in commits/, by name; the "folders" that browsers of buckets make are passed over."""
    found = (info for info in store.listing(COMMITS) if not info.name.endswith("/"))
    return [CommitObject(info.name, info.generation, _target(info.name), info.updated) for info in found]


def _target(name: str) -> Target | None:
    try:
        return Target.from_commit_name(name)
    except NameRefused:
        return None
