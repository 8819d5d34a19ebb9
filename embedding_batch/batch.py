"""The plain order of the steps: list -> diff -> embed -> build -> check -> publish -> commit."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from embedding_batch.config import Config, Model
from embedding_batch.events import Listener, StepEnded, Warned
from embedding_batch.steps.building import Built, Vectors, build, group
from embedding_batch.steps.catalogue import Broken, Listed, Listing, list_pictures, read_catalogue
from embedding_batch.steps.checking import Checked, check, describe
from embedding_batch.steps.embedding import embed, read_picture
from embedding_batch.steps.features import FeatureCache, diff, unit_vectors
from embedding_batch.steps.guards import guard_broken, guard_items, guard_recall
from embedding_batch.steps.models import (
    LocalModel,
    NewModel,
    fetched_model,
    local_model,
    new_model,
    publish_model,
    published_model,
)
from embedding_batch.steps.publishing import Serving, commit, describe_commit, look, new_build, publish_build
from embedding_batch.steps.tuning import spread
from embedding_batch.steps.vectors import OpenBucket, read_vectors
from model_repository.documents.commit import LiveCommit
from model_repository.documents.index_manifest import IndexManifest, ModelReference
from model_repository.gcs_store import GcsStore
from model_repository.names import ModelPrefix
from model_repository.store import Store

GOLDEN_IMAGES = 3


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run did.

    live: the commit that stands now, which may be another's on hold; None: the run was not to commit.
    embedded: pictures that were new. reused: pictures that had an embedding. seconds: by step, in order.
    """

    manifest: IndexManifest
    live: LiveCommit | None
    embedded: int
    reused: int
    broken: tuple[Broken, ...]
    seconds: dict[str, float]


def run(
    config: Config, store: Store, now: datetime, listener: Listener, *, open_bucket: OpenBucket = GcsStore
) -> Summary:
    """Index the catalogue's pictures, or somebody's own vectors, publish the build, and commit it.

    now: when the build counts as made. open_bucket: where vectors are read from. Raises what `errors` lists, and what
    the store does. Nothing is committed then, and a build that was not uploaded whole has no index.json.
    """
    return _Run(config, store, now, listener, open_bucket).run()


@dataclass(slots=True)
class _Run:
    config: Config
    store: Store
    now: datetime
    listener: Listener
    open_bucket: OpenBucket
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def _step(self, name: str) -> Iterator[list[str]]:
        """Time a step; what it puts into the list is told with it."""
        started = time.perf_counter()
        details: list[str] = []
        yield details
        self.seconds[name] = time.perf_counter() - started
        self.listener(StepEnded(name, self.seconds[name], "; ".join(details)))

    def run(self) -> Summary:
        return self._of_vectors() if self.config.vectors else self._of_pictures()

    def _of_pictures(self) -> Summary:
        config = self.config
        with self._step("list") as details:
            listing = list_pictures(read_catalogue(config.catalogue))
            serving = look(self.store, config.target, self.listener)
            details.append(f"{listing.items} items")
        with self._step("model") as details:
            models = self._models(listing)
            details.append(", ".join(str(model.local.prefix) for model in models))
        listing, embedded = self._embed(listing, models)
        guard_items(len(listing.listed), serving.items, config.limits)
        models = [model for model in models if model.listed(listing)]
        contents = sorted((one for model in models for one in model.contents(listing)), key=lambda one: one.category)
        reused = sum(len({entry.sha256 for entry in model.listed(listing)}) for model in models) - embedded
        places = {category: place for place, model in enumerate(models) for category in model.categories}

        def publish(built: Built, checked: Checked) -> Sequence[ModelReference]:
            return self._publish_models(models, listing, built, checked)

        manifest, live = self._index(contents, serving, publish, places.get)
        return Summary(manifest, live, embedded, reused, listing.broken, self.seconds)

    def _models(self, listing: Listing) -> list[_Model]:
        """The models of today's categories, and whether they stand in the bucket."""
        config = self.config
        categories: dict[Model, list[str]] = {}
        for category in sorted({item.category for item in listing.catalogue}):
            categories.setdefault(config.model_of(category), []).append(category)
        found: dict[ModelPrefix, _Model] = {}
        for name, its in categories.items():
            if isinstance(name, str):
                local = local_model(name, config.model_cache)
                reference = published_model(self.store, local)
            else:
                local, reference = fetched_model(self.store, name, config.model_cache)
            cache = FeatureCache(config.feature_cache, local.features_key, local.dimensions)
            same = found.get(local.prefix)  # a built-in model may be named by its prefix, too
            of_same = same.categories if same else frozenset()
            found[local.prefix] = _Model(local, reference, of_same | set(its), cache)
        return list(found.values())

    def _of_vectors(self) -> Summary:
        config = self.config
        with self._step("read") as details:
            contents = read_vectors(config.vectors, config.ids, self.open_bucket)
            serving = look(self.store, config.target, self.listener)
            items = sum(len(content.ids) for content in contents)
            details.append(f"{items} vectors of {contents[0].dimensions} numbers")
        guard_items(items, serving.items, config.limits)
        manifest, live = self._index(contents, serving, lambda *_: [], lambda _: None)
        return Summary(manifest, live, 0, 0, (), self.seconds)

    def _index(
        self,
        contents: Sequence[Vectors],
        serving: Serving,
        publish_models: Callable[[Built, Checked], Sequence[ModelReference]],
        model_of: Callable[[str], int | None],
    ) -> tuple[IndexManifest, LiveCommit | None]:
        """Build, check, publish and commit. model_of: which of the published models made a category's vectors."""
        config = self.config
        with tempfile.TemporaryDirectory(prefix="indexpush-build-") as folder:
            with self._step("build") as details:
                built = build(Path(folder), contents, config.method_of, workers=config.workers, listener=self.listener)
                details.append(f"{built.items} items in {len(built.partitions)} categories")
            with self._step("check") as details:
                checked = check(built, model_of, recall=config.limits.least_recall, listener=self.listener)
                details.append(describe(checked))
                guard_recall(checked.weakest, config.limits)
            with self._step("publish") as details:
                manifest, data = new_build(config.prefix, built, checked, publish_models(built, checked), self.now)
                manifest = publish_build(self.store, built, manifest, data)
                details.append(f"{manifest.prefix}, {manifest.bytes_to_pull} bytes to pull")
        with self._step("commit") as details:
            live = commit(self.store, config.target, config.commit, serving) if config.commits else None
            details.append(describe_commit(live))
        return manifest, live

    def _embed(self, listing: Listing, models: Sequence[_Model]) -> tuple[Listing, int]:
        """Return what can be indexed, all of it in the caches now, and how many pictures were embedded for that."""
        missing: list[tuple[Listed, ...]] = []
        with self._step("diff") as details:
            for model in models:
                known, damaged = model.cache.known()
                for name in damaged:
                    self.listener(
                        Warned(f"the cached embeddings in {name} are damaged, and made anew; delete that file")
                    )
                missing.append(diff(model.listed(listing), known))
            details.append(f"{sum(map(len, missing))} new pictures")
        with self._step("embed") as details:
            embedded = 0
            for model, new in zip(models, missing, strict=True):
                faults = embed(
                    new, model.local.embed, model.cache.write, workers=self.config.workers, listener=self.listener
                )
                listing = listing.without(faults, model.categories)
                embedded += len(new) - len(faults)
            details.append(f"{embedded} embedded, {len(listing.broken)} items skipped")
            for one in listing.broken:
                self.listener(Warned(f"{one.item.id}: skipped, {one.reason} ({str(one.item.picture)!r})"))
            guard_broken(listing.broken, listing.items, self.config.limits)
        return listing, embedded

    def _publish_models(
        self, models: Sequence[_Model], listing: Listing, built: Built, checked: Checked
    ) -> Sequence[ModelReference]:
        """Publish those that don't stand in the bucket; returns what index.json says of each."""
        new: dict[ModelPrefix, NewModel] = {}
        for model in models:
            if model.reference is None:
                items = model.listed(listing)
                golden = [read_picture(items[position]) for position in spread(len(items), GOLDEN_IMAGES)]
                new[model.local.prefix] = new_model(model.local, golden, self.now)
        references = [model.reference or new[model.local.prefix].reference for model in models]
        new_build(self.config.prefix, built, checked, references, self.now)  # read, too, before the first upload
        return [model.reference or publish_model(self.store, model.local, new[model.local.prefix]) for model in models]


@dataclass(frozen=True, slots=True)
class _Model:
    """A model of a run.

    reference: to the one in the bucket; None: it isn't there. categories: whose pictures it embeds.
    """

    local: LocalModel
    reference: ModelReference | None
    categories: frozenset[str]
    cache: FeatureCache

    def listed(self, listing: Listing) -> tuple[Listed, ...]:
        """The items that it embeds."""
        return tuple(entry for entry in listing.listed if entry.item.category in self.categories)

    def contents(self, listing: Listing) -> tuple[Vectors, ...]:
        """Their vectors by category, from the cache."""
        listed = self.listed(listing)
        vectors = unit_vectors(self.cache.read([entry.sha256 for entry in listed]))
        return group([entry.item.id for entry in listed], [entry.item.category for entry in listed], vectors)
