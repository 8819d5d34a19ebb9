"""The self-proof: a server answers nobody before it has answered what the batch recorded.

Sizes and counts can all be right while ids and vectors have been mixed up, or while this machine computes something
else than the one that built the index. Only asking shows that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from model_repository.comparing.golden import same_distance
from model_repository.documents.index_manifest import GoldenQuery
from model_repository.documents.model_manifest import GoldenImage
from model_repository.errors import PermanentError
from search_server.build.index import MappedIndex
from search_server.build.model import Model
from search_server.errors import ItemUnknown


class ProofFailed(PermanentError, code="proof-failed"):
    """This build, on this machine, doesn't answer what the batch recorded."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What was shown."""

    golden_queries: int
    golden_images: int
    lowest_cosine: float | None


Embed = Callable[[Model, bytes], Sequence[float]]
"""What a model makes of an encoded picture."""


def prove(index: MappedIndex, models: Sequence[Model], embed: Embed | None) -> Proof:
    """Ask all golden questions; raises `ProofFailed` for the first that is answered differently.

    embed: as pictures of callers are embedded; None: elsewhere, and whoever does it is proved by itself.
    """
    manifest = index.manifest
    for model, reference in zip(models, manifest.models, strict=True):
        if model.manifest.dimensions != reference.dimensions:
            raise ProofFailed(
                f"{model.manifest.prefix} embeds to {model.manifest.dimensions} dimensions, "
                f"{manifest.prefix} was built with {reference.dimensions}"
            )
    if not manifest.golden_queries or not all(model.manifest.golden_images for model in models):
        raise ProofFailed(
            f"{manifest.prefix}: without a golden query, and a golden image of each model, nothing can be proved"
        )
    for query in manifest.golden_queries:
        prove_query(index, query)
    images = [(model, image) for model in models for image in model.manifest.golden_images] if embed else []
    cosines = [_prove_image(model, image, embed) for model, image in images if embed]
    return Proof(len(manifest.golden_queries), len(cosines), min(cosines, default=None))


def prove_query(index: MappedIndex, query: GoldenQuery) -> None:
    """Ask one golden query; raises `ProofFailed`."""
    name = f"golden query {query.item[:200]!r} of {query.category!r}"
    try:
        partition, position = index.place(query.item)
    except ItemUnknown:
        raise ProofFailed(f"{name}: the index has no such item") from None
    if partition.category != query.category:
        raise ProofFailed(f"{name}: the item stands in {partition.category!r}")
    width = partition.promise.width_for(len(query.neighbors))
    positions, distances = partition.vectors.nearest_to(position, len(query.neighbors), width)
    fault = difference(query, [partition.ids[position] for position in positions], distances)
    if fault:
        raise ProofFailed(f"{name}: {fault}; the item ids or the vectors aren't those that the batch had")


def difference(query: GoldenQuery, neighbors: Sequence[str], distances: Sequence[float]) -> str | None:
    """What is wrong with an answer to `query`, or None.

    Neighbours at the same distance may change places, and at the end one may stand for another.
    """
    if len(neighbors) != len(query.neighbors):
        return f"answered {len(neighbors)} neighbours, the batch recorded {len(query.neighbors)}"
    for place, (found, recorded) in enumerate(zip(distances, query.distances, strict=True)):
        if not same_distance(found, recorded):
            return f"neighbour {place} has distance {found:.6f}, the batch recorded {recorded:.6f}"
    recorded_of = dict(zip(query.neighbors, query.distances, strict=True))
    farthest = query.distances[-1]
    for place, (item, found) in enumerate(zip(neighbors, distances, strict=True)):
        if not same_distance(found, recorded_of.get(item, farthest)):
            return f"neighbour {place} is {item[:200]!r}, the batch recorded {query.neighbors[place][:200]!r}"
    return None


def _prove_image(model: Model, golden: GoldenImage, embed: Embed) -> float:
    recorded = np.fromfile(model.folder / golden.embedding, dtype="<f4")
    if recorded.shape != (model.manifest.dimensions,) or not np.isfinite(recorded).all():
        raise ProofFailed(
            f"golden image {golden.image!r}: {golden.embedding!r} isn't a vector of {model.manifest.dimensions} numbers"
        )
    try:
        embedded = np.asarray(embed(model, (model.folder / golden.image).read_bytes()), np.float32)
    except Exception as error:  # whatever a model or a picture does wrong: it can't be embedded here
        raise ProofFailed(f"golden image {golden.image!r}: can't be embedded: {error}") from error
    if embedded.shape != recorded.shape:
        raise ProofFailed(f"golden image {golden.image!r}: embedded to {embedded.size} numbers, not {recorded.size}")
    cosine = float(embedded @ recorded / (np.linalg.norm(embedded) * np.linalg.norm(recorded)))
    least = model.manifest.least_cosine
    if not cosine >= least:
        raise ProofFailed(
            f"golden image {golden.image!r}: embedded to cosine {cosine:.6f} with the recorded vector, "
            f"at least {least} is needed; the model or its runtime isn't the batch's"
        )
    return cosine
