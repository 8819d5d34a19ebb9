"""One run of the batch, as one frozen value: `command_line` reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from embedding_batch.method import Method
from embedding_batch.pictures.politeness import Politeness
from embedding_batch.steps.diff.gates import DEFAULT_GATES, Gates
from embedding_batch.steps.guards import DEFAULT_LIMITS, Limits
from model_repository.documents.commit import Commit
from model_repository.documents.index_manifest import Engine
from model_repository.errors import NameRefused
from model_repository.names import IndexPrefix, ModelPrefix, Target
from tools.make_model import NAMES

DEFAULT_MODEL = "efficientnet-lite0"
DEFAULT_METHOD = Method()
Model = str | ModelPrefix
"""A built-in one by its name, or one that stands in the bucket."""

DEVICES = ("cpu", "cuda")
"""By the names of `image_embedder.Device`, which costs more than a command line may."""
DECODES = ("cpu", "gpu")
FRESH_SECONDS = 24 * 3600.0
SHARD_PICTURES = 4096
"""What a step that is killed loses at most."""
PART_ITEMS = 200_000
EXACT_ITEMS = 500
"""To here exact search is as fast as trees and graph (docs/benchmarks/small.md), and categories can share files."""
LEAST_SCORE = 0.3
"""Of a region: an item's picture shows what its category says, so a weak one is more likely right than wrong."""
DEFAULT_POLITENESS = Politeness()


@dataclass(frozen=True, slots=True)
class Config:
    """What to index, where to, and when not to.

    repository: gs://bucket. catalogue, query: see `sources`. vectors: in place of that somebody's own, see
    `vectors`; ids: the file beside an array of them. target: what the commit decides about. prefix: of the new build.
    options: those of the command line that are the run's and no machine's, as JSON has them: what makes it.
    cache: folder for models, copies of embeddings, and what isn't whole yet, kept between runs.
    model: what embeds; method: how vectors are indexed; models, methods: of the categories that have one of their own.
    detector: what finds the thing of an item's category in its picture; regions: the category of each class of it that
        has one; least_score: of a region. None: all of a picture is embedded.
    workers: cores to use. device: what embeds; decode: what decodes plain JPEGs.
    fresh_seconds: how long a picture elsewhere that has no version counts as unchanged.
    shard_pictures: most of a shard. part_items: most of a partition; a category with more has several. exact_items:
        most of a category that is searched exactly, in files that it shares with others; 0: none is.
    limits, gates: beyond which it stops, before the build is published and before it is committed.
    by, reason: of the commit, for people.
    commits: False: publish the build, and leave the commit to somebody else.
    unchanged_too: False: build nothing if what serves was made of the same.
    check: say what is misconfigured, and do nothing.
    """

    repository: str
    target: Target
    prefix: IndexPrefix
    cache: Path
    options: Mapping[str, Any] = field(default_factory=dict)
    catalogue: str = ""
    query: str = ""
    vectors: str = ""
    ids: str = ""
    model: Model = DEFAULT_MODEL
    models: Mapping[str, Model] = field(default_factory=dict)
    detector: ModelPrefix | None = None
    regions: Mapping[str, str] = field(default_factory=dict)
    least_score: float = LEAST_SCORE
    method: Method = DEFAULT_METHOD
    methods: Mapping[str, Method] = field(default_factory=dict)
    workers: int = 1
    device: str = DEVICES[0]
    decode: str = DECODES[0]
    politeness: Politeness = DEFAULT_POLITENESS
    fresh_seconds: float = FRESH_SECONDS
    shard_pictures: int = SHARD_PICTURES
    part_items: int = PART_ITEMS
    exact_items: int = EXACT_ITEMS
    limits: Limits = DEFAULT_LIMITS
    gates: Gates = DEFAULT_GATES
    by: str = "embedding_batch"
    reason: str = ""
    commits: bool = True
    unchanged_too: bool = True
    check: bool = False

    @property
    def commit(self) -> Commit:
        """What puts the build live."""
        return Commit(self.prefix, self.by, self.reason)

    def model_of(self, category: str) -> Model:
        """What embeds the pictures of a category."""
        return self.models.get(category, self.model)

    def classes_of(self, category: str) -> tuple[str, ...]:
        """The detector's classes whose things are of a category."""
        return tuple(sorted(name for name, its in self.regions.items() if its == category))

    def method_of(self, category: str) -> Method:
        """How the vectors of a category are indexed."""
        return self.methods.get(category, self.method)

    def shares(self, category: str, items: int) -> bool:
        """Whether a category of so many items goes into files that it shares with others.

        Whoever names another engine for just this category wants that.
        """
        exactly = self.method_of(category).engine is Engine.EXACT
        small = category not in self.methods and items <= self.exact_items
        return items <= self.part_items and (exactly or small)

    @property
    def model_cache(self) -> Path:
        """Where model files are kept."""
        return self.cache / "models"

    @property
    def feature_cache(self) -> Path:
        """Where embeddings are kept."""
        return self.cache / "features"


def read_model(text: str) -> Model:
    """Read the name of a built-in model, or where another stands in the bucket; raises NameRefused."""
    if "/" in text:
        return ModelPrefix.parse(text)
    if text not in NAMES:
        raise NameRefused(f"{text!r}: choose from {', '.join(NAMES)}, or name models/<model>/<version>")
    return text
