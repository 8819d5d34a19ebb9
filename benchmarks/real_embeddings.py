"""Real embeddings in numbers: the demo's catalogue pictures, varied, by the demo's real model; kept in the cache.

There are 731 pictures. Each is varied as data for training is (crops of half to all of it, mirrored, turned by up to 15
degrees, brighter and darker), so every product has a cloud of its own around it, as products have that are photographed
again and again: denser and more even than a catalogue of so many products would be.
"""

from __future__ import annotations

import os
import random
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from embedding_batch.steps.publish.models import local_model
from image_embedder import preprocess_decoded
from model_repository.resources.processors import processors

PICTURES = Path(__file__).parents[1] / "local_stack" / "demo" / "home_store" / "images"
MODEL = "efficientnet-lite0"
_AT_ONCE = 500
_BATCH = 32


def real_embeddings(count: int) -> NDArray[np.float32]:
    """float32[N,1280] of length 1, in a random order; the same for the same count. About 60 a second on a core."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "indexpush" / "real-embeddings"
    path = root / f"{count}-{MODEL}.npy"
    if not path.exists():
        root.mkdir(parents=True, exist_ok=True)
        print(f"embedding {count} pictures ...", flush=True)
        pieces = [range(start, min(start + _AT_ONCE, count)) for start in range(0, count, _AT_ONCE)]
        with ProcessPoolExecutor(processors()) as pool:
            made = list(pool.map(_embed, pieces))
        unfinished = path.with_suffix(".part")
        with unfinished.open("wb") as file:
            np.save(file, np.random.default_rng(0).permutation(np.concatenate(made)))
        unfinished.rename(path)
    return np.asarray(np.load(path), np.float32)


def _embed(numbers: range) -> NDArray[np.float32]:
    paths = sorted(PICTURES.iterdir())
    with tempfile.TemporaryDirectory() as scratch:
        model = local_model(MODEL, Path(scratch))
        embedded = []
        for start in range(numbers.start, numbers.stop, _BATCH):
            some = range(start, min(start + _BATCH, numbers.stop))
            pictures = [varied(Image.open(paths[n % len(paths)]).convert("RGB"), random.Random(n)) for n in some]
            embedded.append(model.embedder.embed(np.stack([preprocess_decoded(one, model.takes) for one in pictures])))
    return np.concatenate(embedded)


def varied(picture: Image.Image, chance: random.Random) -> Image.Image:
    """Another picture of the same thing; what comes into view at the corners is white, as the background is."""
    turned = picture.rotate(chance.uniform(-15, 15), Image.Resampling.BICUBIC, fillcolor=(255, 255, 255))
    share = chance.uniform(0.5, 1) ** 0.5
    width, height = round(turned.width * share), round(turned.height * share)
    left, top = chance.randint(0, turned.width - width), chance.randint(0, turned.height - height)
    cropped = turned.crop((left, top, left + width, top + height))
    if chance.random() < 0.5:
        cropped = cropped.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return ImageEnhance.Brightness(cropped).enhance(chance.uniform(0.7, 1.3))
