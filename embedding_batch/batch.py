"""The plain order of the steps: list -> diff -> embed -> build -> check -> publish -> commit."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from embedding_batch.config import Config
from embedding_batch.events import Listener, StepEnded, Warned
from embedding_batch.steps.building import Built, Vectors, build, group
from embedding_batch.steps.catalogue import Broken, Listed, Listing, list_pictures, read_catalogue
from embedding_batch.steps.checking import Checked, check, describe
from embedding_batch.steps.embedding import embed, read_picture
from embedding_batch.steps.features import FeatureCache, diff, unit_vectors
from embedding_batch.steps.guards import guard_broken, guard_items, guard_recall
from embedding_batch.steps.models import LocalModel, local_model, new_model, publish_model, published_model
from embedding_batch.steps.publishing import Serving, commit, describe_commit, look, new_build, publish_build
from embedding_batch.steps.tuning import spread
from embedding_batch.steps.vectors import OpenBucket, read_vectors
from model_repository.documents.commit import LiveCommit
from model_repository.documents.index_manifest import IndexManifest, ModelReference
from model_repository.gcs_store import GcsStore
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
        with self._step("model") as details:
            model = local_model(config.model, config.model_cache)
            details.append(str(model.prefix))
        with self._step("list") as details:
            listing = list_pictures(read_catalogue(config.catalogue))
            serving = look(self.store, config.target, self.listener)
            published = published_model(self.store, model)
            details.append(f"{listing.items} items")
        cache = FeatureCache(config.feature_cache, model.features_key, model.embedder.dimensions)
        listing, embedded = self._embed(listing, model, cache)
        listed = listing.listed
        guard_items(len(listed), serving.items, config.limits)
        vectors = unit_vectors(cache.read([entry.sha256 for entry in listed]))
        contents = group([entry.item.id for entry in listed], [entry.item.category for entry in listed], vectors)
        reused = len({entry.sha256 for entry in listed}) - embedded

        def models(built: Built, checked: Checked) -> Sequence[ModelReference]:
            return [published or self._publish_model(model, built, checked, listed)]

        manifest, live = self._index(contents, serving, models, model=0)
        return Summary(manifest, live, embedded, reused, listing.broken, self.seconds)

    def _of_vectors(self) -> Summary:
        config = self.config
        with self._step("read") as details:
            contents = read_vectors(config.vectors, config.ids, self.open_bucket)
            serving = look(self.store, config.target, self.listener)
            items = sum(len(content.ids) for content in contents)
            details.append(f"{items} vectors of {contents[0].dimensions} numbers")
        guard_items(items, serving.items, config.limits)
        manifest, live = self._index(contents, serving, lambda *_: [], model=None)
        return Summary(manifest, live, 0, 0, (), self.seconds)

    def _index(
        self,
        contents: Sequence[Vectors],
        serving: Serving,
        models: Callable[[Built, Checked], Sequence[ModelReference]],
        *,
        model: int | None,
    ) -> tuple[IndexManifest, LiveCommit | None]:
        """Build, check, publish and commit. models: publishes those that made the vectors. model: which of them."""
        config = self.config
        with tempfile.TemporaryDirectory(prefix="indexpush-build-") as folder:
            with self._step("build") as details:
                built = build(Path(folder), contents, config.method_of, workers=config.workers, listener=self.listener)
                details.append(f"{built.items} items in {len(built.partitions)} categories")
            with self._step("check") as details:
                checked = check(built, recall=config.limits.least_recall, model=model, listener=self.listener)
                details.append(describe(checked))
                guard_recall(checked.weakest, config.limits)
            with self._step("publish") as details:
                manifest, data = new_build(config.prefix, built, checked, models(built, checked), self.now)
                manifest = publish_build(self.store, built, manifest, data)
                details.append(f"{manifest.prefix}, {manifest.bytes_to_pull} bytes to pull")
        with self._step("commit") as details:
            live = commit(self.store, config.target, config.commit, serving) if config.commits else None
            details.append(describe_commit(live))
        return manifest, live

    def _embed(self, listing: Listing, model: LocalModel, cache: FeatureCache) -> tuple[Listing, int]:
        """Return what can be indexed, all of it in the cache now, and how many pictures were embedded for that."""
        with self._step("diff") as details:
            known, damaged = cache.known()
            for name in damaged:
                self.listener(Warned(f"the cached embeddings in {name} are damaged, and made anew; delete that file"))
            missing = diff(listing.listed, known)
            details.append(f"{len(missing)} new pictures")
        with self._step("embed") as details:
            faults = embed(missing, model.embedder, cache.write, workers=self.config.workers, listener=self.listener)
            listing = listing.without(faults)
            embedded = len(missing) - len(faults)
            details.append(f"{embedded} embedded, {len(listing.broken)} items skipped")
            for one in listing.broken:
                self.listener(Warned(f"{one.item.id}: skipped, {one.reason} ({str(one.item.picture)!r})"))
            guard_broken(listing.broken, listing.items, self.config.limits)
        return listing, embedded

    def _publish_model(
        self, model: LocalModel, built: Built, checked: Checked, items: Sequence[Listed]
    ) -> ModelReference:
        golden = [read_picture(items[position]) for position in spread(len(items), GOLDEN_IMAGES)]
        new = new_model(model, golden, self.now)
        new_build(self.config.prefix, built, checked, [new.reference], self.now)  # read, too, before the first upload
        return publish_model(self.store, model, new)
