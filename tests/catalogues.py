"""A catalogue as vectors, its honest hours, and the ways in which a build goes wrong; for tests and benchmarks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

KINDS = 40
"""Of products in each category, around which its items lie."""


@dataclass(frozen=True)
class Catalogue:
    """Items by row: id, number of the category, and the vector that a model makes of the picture."""

    ids: NDArray[np.int64]
    categories: NDArray[np.int64]
    vectors: NDArray[np.float32]
    next_id: int

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, chosen: NDArray[np.intp] | NDArray[np.bool_]) -> Catalogue:
        """Some of the items."""
        return replace(self, ids=self.ids[chosen], categories=self.categories[chosen], vectors=self.vectors[chosen])

    def write(self, path: Path) -> str:
        """As a file of somebody's own vectors."""
        flat = pa.array(self.vectors.reshape(-1))
        columns = {
            "id": pa.array([f"p{number}" for number in self.ids]),
            "category": pa.array([f"c{number}" for number in self.categories]),
            "vector": pa.FixedSizeListArray.from_arrays(flat, self.vectors.shape[1]),
        }
        pq.write_table(pa.table(columns), path)
        return str(path)


def make_catalogue(items: int, dimensions: int, categories: int, seed: int = 1) -> Catalogue:
    """Items that look like kinds of products, each category of another size."""
    random = np.random.default_rng(seed)
    weights = np.arange(1, categories + 1) / np.arange(1, categories + 1).sum()
    of = np.sort(random.choice(categories, items, p=weights))
    return Catalogue(np.arange(items), of, _pictures(of, dimensions, random), items)


def _pictures(of: NDArray[np.int64], dimensions: int, random: np.random.Generator) -> NDArray[np.float32]:
    kinds = np.random.default_rng(7).normal(size=(int(of.max()) + 1, KINDS, dimensions)).astype(np.float32)
    noise = random.normal(size=(len(of), dimensions), scale=0.7).astype(np.float32)
    return np.asarray(kinds[of, random.integers(KINDS, size=len(of))] + noise)


def an_hour_later(before: Catalogue, seed: int, share: float = 0.01) -> Catalogue:
    """As shops change: some items go, as many come, some have a new picture, and a few are sorted elsewhere."""
    random = np.random.default_rng(seed)
    stays = before.rows(random.random(len(before)) >= share)
    vectors, categories = stays.vectors.copy(), stays.categories.copy()
    redone = random.random(len(stays)) < share
    vectors[redone] += random.normal(size=(int(redone.sum()), vectors.shape[1]), scale=0.5).astype(np.float32)
    sorted_anew = random.random(len(stays)) < share / 20
    categories[sorted_anew] = random.integers(categories.max() + 1, size=int(sorted_anew.sum()))
    count = len(before) - len(stays) + int(random.integers(-2, 3))
    of = random.choice(before.categories, max(1, count))
    return Catalogue(
        np.concatenate([stays.ids, before.next_id + np.arange(len(of))]),
        np.concatenate([categories, of]),
        np.concatenate([vectors, _pictures(of, vectors.shape[1], random)]),
        before.next_id + len(of),
    )


def _a_night_of_sale(now: Catalogue, random: np.random.Generator) -> Catalogue:
    """A sixth more items, all in one category."""
    of = np.full(len(now) // 6, random.integers(now.categories.max() + 1))
    return _with_new(now, of, random)


def _another_season(now: Catalogue, random: np.random.Generator) -> Catalogue:
    """A sixth of the items go, and as many come."""
    kept = now.rows(random.random(len(now)) >= 1 / 6)
    return _with_new(kept, random.choice(kept.categories, len(now) - len(kept)), random)


def _one_more_category(now: Catalogue, random: np.random.Generator) -> Catalogue:
    return _with_new(now, np.full(len(now) // 12, now.categories.max() + 1), random)


def _with_new(now: Catalogue, of: NDArray[np.int64], random: np.random.Generator) -> Catalogue:
    return Catalogue(
        np.concatenate([now.ids, now.next_id + np.arange(len(of))]),
        np.concatenate([now.categories, of]),
        np.concatenate([now.vectors, _pictures(of, now.vectors.shape[1], random)]),
        now.next_id + len(of),
    )


def _half_precision(now: Catalogue, random: np.random.Generator) -> Catalogue:
    noise = random.normal(size=now.vectors.shape, scale=2e-3).astype(np.float32)
    return replace(now, vectors=now.vectors.astype(np.float16).astype(np.float32) + noise)


def _of_any_length(now: Catalogue, random: np.random.Generator) -> Catalogue:
    return replace(now, vectors=now.vectors * random.uniform(0.1, 10, size=(len(now), 1)).astype(np.float32))


def _photographed_anew(now: Catalogue, random: np.random.Generator) -> Catalogue:
    vectors, redone = now.vectors.copy(), random.random(len(now)) < 0.06
    vectors[redone] += random.normal(size=(int(redone.sum()), vectors.shape[1]), scale=0.5).astype(np.float32)
    return replace(now, vectors=vectors)


def _a_few_pictures_to_come(now: Catalogue, random: np.random.Generator) -> Catalogue:
    vectors = now.vectors.copy()
    vectors[random.choice(len(now), len(now) // 50, replace=False)] = 1.0
    return replace(now, vectors=vectors)


HONEST: Mapping[str, Callable[[Catalogue, np.random.Generator], Catalogue]] = {
    "a night of sale": _a_night_of_sale,
    "another season": _another_season,
    "one more category": _one_more_category,
    "half precision": _half_precision,
    "vectors of any length": _of_any_length,
    "photographed anew": _photographed_anew,
    "a few pictures to come": _a_few_pictures_to_come,
}
"""What a good catalogue may become within an hour, besides what `an_hour_later` does."""


def _another_model(now: Catalogue, random: np.random.Generator) -> Catalogue:
    size = now.vectors.shape[1]
    turned = now.vectors @ random.normal(size=(size, size)).astype(np.float32)
    return replace(now, vectors=np.tanh(turned))


def _ids_shuffled(now: Catalogue, random: np.random.Generator) -> Catalogue:
    rows = random.choice(len(now), max(12, len(now) // 100), replace=False)
    ids = now.ids.copy()
    ids[rows] = np.roll(ids[rows], 1)
    return replace(now, ids=ids)


def _ids_shuffled_within_a_category(now: Catalogue, random: np.random.Generator) -> Catalogue:
    largest = np.flatnonzero(now.categories == now.categories.max())
    rows = random.choice(largest, max(12, len(now) // 100), replace=False)
    ids = now.ids.copy()
    ids[rows] = np.roll(ids[rows], 1)
    return replace(now, ids=ids)


def _pictures_of_other_items(now: Catalogue, random: np.random.Generator) -> Catalogue:
    """1 % of the items have each other's pictures, of whatever category."""
    rows = random.choice(len(now), max(12, len(now) // 100), replace=False)
    vectors = now.vectors.copy()
    vectors[rows] = np.roll(vectors[rows], 1, axis=0)
    return replace(now, vectors=vectors)


def _a_category_lost(now: Catalogue, _random: np.random.Generator) -> Catalogue:
    return now.rows(now.categories != 0)


def _half_of_it_twice(now: Catalogue, random: np.random.Generator) -> Catalogue:
    return _twice(now, now.rows(random.random(len(now)) < 0.5))


def _twice(now: Catalogue, again: Catalogue) -> Catalogue:
    return Catalogue(
        np.concatenate([now.ids, 10**9 + again.ids]),
        np.concatenate([now.categories, again.categories]),
        np.concatenate([now.vectors, again.vectors]),
        now.next_id,
    )


def _a_tenth_of_it_twice(now: Catalogue, random: np.random.Generator) -> Catalogue:
    return _twice(now, now.rows(random.random(len(now)) < 0.1))


def _a_broken_crop(now: Catalogue, random: np.random.Generator) -> Catalogue:
    """Every picture is mostly the same corner of a room."""
    corner = random.normal(size=now.vectors.shape[1], scale=3).astype(np.float32)
    return replace(now, vectors=0.2 * now.vectors + corner + 0.3 * np.roll(now.vectors, 1, axis=1))


def _hardly_any_numbers(now: Catalogue, random: np.random.Generator) -> Catalogue:
    """What a model gives that was fed black pictures: all the same, but for rounding."""
    noise = random.normal(size=now.vectors.shape, scale=1e-6).astype(np.float32)
    return replace(now, vectors=np.ones_like(now.vectors) + noise)


def _a_fifth_without_a_picture(now: Catalogue, random: np.random.Generator) -> Catalogue:
    vectors = now.vectors.copy()
    vectors[random.random(len(now)) < 0.2] = 1.0
    return replace(now, vectors=vectors)


def _a_tenth_has_a_picture_that_says_none(now: Catalogue, random: np.random.Generator) -> Catalogue:
    vectors = now.vectors.copy()
    vectors[random.choice(len(now), len(now) // 10, replace=False)] = 1.0
    return replace(now, vectors=vectors)


def _pictures_of_yesterday(now: Catalogue, random: np.random.Generator) -> Catalogue:
    """A third of the pictures are those that stood under their names before: of other things of the same category."""
    vectors, old = now.vectors.copy(), random.random(len(now)) < 0.33
    vectors[old] = _pictures(now.categories[old], vectors.shape[1], random)
    return replace(now, vectors=vectors)


def _one_category_of_noise(now: Catalogue, random: np.random.Generator) -> Catalogue:
    vectors, chosen = now.vectors.copy(), now.categories == 1
    vectors[chosen] = random.normal(size=(int(chosen.sum()), vectors.shape[1]))
    return replace(now, vectors=vectors)


def _one_small_category_of_another_model(now: Catalogue, random: np.random.Generator) -> Catalogue:
    """Its items are as alike as before, so that their neighbours hardly say it."""
    vectors, chosen = now.vectors.copy(), now.categories == 0
    turn, _ = np.linalg.qr(random.normal(size=(vectors.shape[1], vectors.shape[1])))
    vectors[chosen] = vectors[chosen] @ turn.astype(np.float32)
    return replace(now, vectors=vectors)


def _a_list_that_was_cut_short(now: Catalogue, random: np.random.Generator) -> Catalogue:
    return now.rows(random.random(len(now)) < 0.85)


def _a_smaller_catalogue(now: Catalogue, random: np.random.Generator) -> Catalogue:
    return now.rows(random.random(len(now)) < 0.7)


def _sorted_at_random(now: Catalogue, random: np.random.Generator) -> Catalogue:
    categories, chosen = now.categories.copy(), random.random(len(now)) < 0.05
    categories[chosen] = random.integers(categories.max() + 1, size=int(chosen.sum()))
    return replace(now, categories=categories)


PLANTED: Mapping[str, Callable[[Catalogue, np.random.Generator], Catalogue]] = {
    "another model": _another_model,
    "ids shuffled": _ids_shuffled,
    "ids shuffled within a category": _ids_shuffled_within_a_category,
    "pictures of other items": _pictures_of_other_items,
    "a category lost": _a_category_lost,
    "half of it twice": _half_of_it_twice,
    "a tenth of it twice": _a_tenth_of_it_twice,
    "a broken crop": _a_broken_crop,
    "black pictures": _hardly_any_numbers,
    "a fifth without a picture": _a_fifth_without_a_picture,
    "a tenth has a picture that says none": _a_tenth_has_a_picture_that_says_none,
    "pictures of yesterday": _pictures_of_yesterday,
    "one category of noise": _one_category_of_noise,
    "one small category of another model": _one_small_category_of_another_model,
    "a list that was cut short": _a_list_that_was_cut_short,
    "a smaller catalogue": _a_smaller_catalogue,
    "sorted at random": _sorted_at_random,
}
"""What a batch has made of a good catalogue, by what went wrong."""
