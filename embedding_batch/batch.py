"""The plain order of the steps: list -> diff -> embed -> build -> check -> publish -> commit."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from embedding_batch.config import Config
from embedding_batch.events import Listener, StepEnded, Warned
from embedding_batch.steps.building import Built, Vectors, build, group
from embedding_batch.steps.catalogue import Broken, Listed, Listing, list_pictures, read_catalogue
from embedding_batch.steps.checking import Checked, check, describe, spread
from embedding_batch.steps.embedding import embed, read_picture
from embedding_batch.steps.features import FeatureCache, Features, diff, rows_of, unit_vectors
from embedding_batch.steps.guards import guard_broken, guard_items, guard_recall
from embedding_batch.steps.models import LocalModel, local_model, new_model, publish_model, published_model
from embedding_batch.steps.publishing import CommitOutcome, NotAsked, commit, describe_outcome, look, new_build
from embedding_batch.steps.uploading import upload
from image_embedder import Embedder
from model_repository.documents.index_manifest import IndexManifest, ModelReference
from model_repository.store import Store

GOLDEN_IMAGES = 3


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run did.

    embedded: pictures that were new. reused: pictures that had an embedding. seconds: by step, in order.
    """

    manifest: IndexManifest
    outcome: CommitOutcome
    embedded: int
    reused: int
    broken: tuple[Broken, ...]
    seconds: dict[str, float]


@dataclass(slots=True)
class _Steps:
    """Times the steps, and tells when each ends."""

    listener: Listener
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[list[str]]:
        """Time a step; what it puts into the list is told with it."""
        started = time.perf_counter()
        details: list[str] = []
        yield details
        self.seconds[name] = time.perf_counter() - started
        self.listener(StepEnded(name, self.seconds[name], "; ".join(details)))


@dataclass(frozen=True, slots=True)
class _Embedded:
    """What the embed step gives: the items to index, and the others."""

    good: tuple[Listed, ...]
    broken: tuple[Broken, ...]
    features: Features
    new: int


def run(config: Config, store: Store, now: datetime, listener: Listener) -> Summary:
    """Index the catalogue's pictures, publish the build, and commit it.

    now: when the build counts as made. Raises what `errors` lists, and what the store does. Nothing is committed then,
    and a build that was not uploaded whole has no index.json.
    """
    steps = _Steps(listener)
    with steps.step("model") as details:
        model = local_model(config.model, config.model_cache)
        details.append(str(model.prefix))
    with steps.step("list") as details:
        listing = list_pictures(read_catalogue(config.catalogue))
        serving = look(store, config.target, listener)
        published = published_model(store, model)
        details.append(f"{listing.items} items")
    with steps.step("diff") as details:
        cache = FeatureCache(config.feature_cache, model.features_key, model.embedder.dimensions)
        missing = _missing(listing, cache, listener)
        details.append(f"{len(missing)} new pictures")
    with steps.step("embed") as details:
        embedded = _embed(config, listing, missing, model.embedder, cache=cache, listener=listener)
        details.append(f"{embedded.new} embedded, {len(embedded.broken)} items skipped")
        guard_items(len(embedded.good), serving.items, config.limits)
    with tempfile.TemporaryDirectory(prefix="indexpush-build-") as folder:
        with steps.step("build") as details:
            built = _build(config, Path(folder), embedded, listener)
            details.append(f"{built.items} items in {len(built.partitions)} categories")
        with steps.step("check") as details:
            checked = check(built, listener=listener)
            details.append(describe(checked))
            guard_recall(checked.recall, config.limits)
        with steps.step("publish") as details:
            manifest = _publish(config, store, now, _Made(model, published, built, checked, embedded.good))
            details.append(f"{manifest.prefix}, {manifest.bytes_to_pull} bytes to pull")
    with steps.step("commit") as details:
        outcome: CommitOutcome = NotAsked()
        if config.commits:
            outcome = commit(store, config.target, config.commit, serving)
        details.append(describe_outcome(outcome))
    reused = len(embedded.features.digests) - embedded.new
    return Summary(manifest, outcome, embedded.new, reused, embedded.broken, steps.seconds)


def _missing(listing: Listing, cache: FeatureCache, listener: Listener) -> tuple[Listed, ...]:
    known = cache.known()
    for name in known.damaged:
        listener(Warned(f"the cached embeddings in {name} can't be read and are made anew; delete that file"))
    return diff(listing.listed, known.digests)


def _embed(
    config: Config,
    listing: Listing,
    missing: Sequence[Listed],
    embedder: Embedder,
    *,
    cache: FeatureCache,
    listener: Listener,
) -> _Embedded:
    unreadable = embed(missing, embedder, cache.write, workers=config.workers, listener=listener)
    reasons = {
        entry.sha256: broken.reason for broken in unreadable for entry in missing if entry.item.id == broken.item.id
    }
    broken = [*listing.broken]
    broken += [Broken(entry.item, reasons[entry.sha256]) for entry in listing.listed if entry.sha256 in reasons]
    broken.sort(key=lambda one: one.item.id)
    for one in broken:
        listener(Warned(f"{one.item.id}: skipped, {one.reason} ({str(one.item.picture)!r})"))
    guard_broken(broken, listing.items, config.limits)
    good = tuple(entry for entry in listing.listed if entry.sha256 not in reasons)
    features = cache.read({entry.sha256 for entry in good})
    return _Embedded(good, tuple(broken), features, len(missing) - len(unreadable))


def _build(config: Config, folder: Path, embedded: _Embedded, listener: Listener) -> Built:
    rows = rows_of(embedded.features, [entry.sha256 for entry in embedded.good])
    categories = {entry.item.id: entry.item.category for entry in embedded.good}
    contents: tuple[Vectors, ...] = group(categories, list(categories), unit_vectors(embedded.features.vectors[rows]))
    return build(folder, contents, trees=config.trees, seed=config.seed, workers=config.workers, listener=listener)


@dataclass(frozen=True, slots=True)
class _Made:
    """What is there to publish. published: the model as it is in the bucket already."""

    model: LocalModel
    published: ModelReference | None
    built: Built
    checked: Checked
    items: Sequence[Listed]


def _publish(config: Config, store: Store, now: datetime, made: _Made) -> IndexManifest:
    reference = made.published
    if reference is None:
        golden = [read_picture(made.items[position]) for position in spread(len(made.items), GOLDEN_IMAGES)]
        new = new_model(made.model, golden, now)
        new_build(
            config.prefix, made.built, made.checked, new.reference, now
        )  # every document is read before any upload
        reference = publish_model(store, made.model, new)
    manifest, data = new_build(config.prefix, made.built, made.checked, reference, now)
    upload(store, config.prefix, made.built.contents, manifest.files, data)
    return manifest
