"""What all steps of a run share: what was asked, the bucket, and this machine's disk."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedding_batch.config import DECODES, Config, read_model
from embedding_batch.events import Listener, Progress, StepEnded
from embedding_batch.state.folder import RunFolder
from model_repository.bucket.store import Store
from model_repository.documents.model_manifest import BY_PILLOW
from model_repository.documents.references import ModelReference

if TYPE_CHECKING:
    from embedding_batch.state.features import FeatureStore
    from embedding_batch.steps.publish.detectors import LocalDetector
    from embedding_batch.steps.publish.models import LocalModel

PRECISION = "fp32"
"""Of the network's numbers, on every device."""

BY_NVJPEG = "nvjpeg"

OpenBucket = Callable[[str], Store]
"""By the bucket's name."""


@dataclass(slots=True)
class Run:
    """One run, or one of its steps in a process of its own.

    scratch: an empty folder on the disk of the cache. now: when it began. spans: of a step whose shards are done one
    after another, what was done before this one, and what all of them have.
    """

    config: Config
    store: Store
    open_bucket: OpenBucket
    scratch: Path
    now: datetime
    listener: Listener
    spans: dict[str, tuple[int, int]] = field(default_factory=dict)
    _features: dict[str, FeatureStore] = field(default_factory=dict)
    _detector: LocalDetector | None = None
    _models: dict[str, tuple[LocalModel, ModelReference | None]] = field(default_factory=dict)

    @property
    def folder(self) -> RunFolder:
        """Where it keeps its state."""
        return RunFolder(self.store, self.config.prefix)

    @contextmanager
    def timed(self, step: str) -> Iterator[list[str]]:
        """Time a step; what it puts into the list is told with it."""
        started = time.perf_counter()
        details: list[str] = []
        yield details
        self.listener(StepEnded(step, time.perf_counter() - started, "; ".join(details)))

    @property
    def decode(self) -> str:
        """What decodes plain JPEGs, as documents name it."""
        return BY_PILLOW if self.config.decode == DECODES[0] else BY_NVJPEG

    def bucket(self, name: str) -> Store:
        """A bucket by its name, which may be the model repository."""
        return self.store if name == self.store.bucket else self.open_bucket(name)

    def progress(self, step: str, done: int, total: int) -> None:
        """Tell how far a step is; where its shards are done one after another, of all of them."""
        before, of_all = self.spans.get(step, (0, total))
        self.listener(Progress(step, before + done, of_all))

    def model(self, name: str) -> tuple[LocalModel, ModelReference | None]:
        """A model on this machine, and what index.json says of it; None: it isn't in the bucket yet.

        name: as `read_model` takes it.
        """
        from embedding_batch.steps.publish.models import (  # noqa: PLC0415 - a commit needs none: docs/benchmarks/start-up.md
            fetched_model,
            local_model,
            published_model,
        )

        if name not in self._models:
            model, cache = read_model(name), self.config.model_cache
            if isinstance(model, str):
                local = local_model(model, cache)
                self._models[name] = local, published_model(self.store, local)
            else:
                self._models[name] = fetched_model(self.store, model, cache)
        return self._models[name]

    def detector(self) -> LocalDetector | None:
        """The detector on this machine; None: all of a picture is embedded."""
        config = self.config
        if self._detector is None and config.detector is not None:
            from embedding_batch.steps.publish.detectors import fetched_detector  # noqa: PLC0415 - likewise

            self._detector = fetched_detector(
                self.store, config.detector, config.model_cache, config.regions, config.least_score
            )
        return self._detector

    def features(self, how: Mapping[str, Any]) -> FeatureStore:
        """The embeddings that were made so, as the record of `list` says it.

        `name`: of the model. `classes`: of what was cut out for it; none: whole pictures.
        """
        from embedding_batch.state.features import FeatureStore  # noqa: PLC0415 - likewise

        model, _ = self.model(how["name"])
        key = f"{model.features_key}-{self.config.device}-{PRECISION}"
        if self.decode != BY_PILLOW:
            key += f"-{self.decode}"
        if how["classes"] and (detector := self.detector()) is not None:
            key += f"-cut-{detector.features_key(how['classes'])}"
        if key not in self._features:
            where = {"cache": self.config.feature_cache, "scratch": self.scratch}
            self._features[key] = FeatureStore(self.store, key, model.dimensions, **where, listener=self.listener)
        return self._features[key]
