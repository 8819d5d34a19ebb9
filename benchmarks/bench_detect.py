"""What a detector brings: is the product found again, with and without it, in pictures that show more than it?

    python -m benchmarks.bench_detect [--package mediapipe-objectron-....tgz] [--scenes 400] [--seed 1]

Products of the demo's catalogue whose kind the detector knows are laid into rooms: alone or with other products beside
them, on a plain or a busy background, each scaled and moved. A query is such a picture and the kind that is asked for;
the right answer is the product itself among all of its kind (precision@1), and of the same kind among all products
(precision@5 of kinds). Catalogue pictures are indexed as they are, and cut as the batch cuts them.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedding_batch.steps.publish.models import LocalModel, local_model
from image_embedder import Detector, crop_pixels, preprocess
from local_stack.demo.shop.labels import kinds
from local_stack.demo.shop.rooms import photo_of
from model_repository.documents.model_manifest import ModelInput, Resize
from tools.make_detector import make_detector

HOME_STORE = Path("local_stack/demo/home_store")
CLASSES = {
    "chair": ("Chair",),
    "desk": ("Desk",),
    "cup": ("Coffee cup", "Mug"),
    "bottle": ("Bottle",),
    "table": ("Table",),
}
"""The detector's classes of each kind of product (see `local_stack.demo.shop.labels`)."""
LEAST_SCORE = 0.3

Embed = Callable[[bytes, str], NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Product:
    """A product of the catalogue. data: its picture."""

    item: str
    kind: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Scene:
    """A picture with a product in it, and others."""

    product: Product
    data: bytes


def products() -> list[Product]:
    """The demo's products whose kind is known."""
    rows = [json.loads(line) for line in (HOME_STORE / "catalogue.jsonl").read_text().splitlines()]
    of = kinds(rows)
    return [
        Product(row["id"], of[row["id"]], (HOME_STORE / row["file"]).read_bytes()) for row in rows if row["id"] in of
    ]


def embedders(model: LocalModel, detector: Detector) -> dict[str, Embed]:
    """Without and with the detector: a picture and the kind that is asked for, to a vector."""

    def whole(data: bytes, _: str) -> NDArray[np.float32]:
        return model.embedder.embed(preprocess(data, model.takes)[np.newaxis])[0]

    def cut(data: bytes, kind: str) -> NDArray[np.float32]:
        names = CLASSES.get(kind, ())
        pixels = (
            crop_pixels(data, model.takes, detector, names, LEAST_SCORE) if names else preprocess(data, model.takes)
        )
        return model.embedder.embed(pixels[np.newaxis])[0]

    return {"whole picture": whole, "detector": cut}


def measured(scenes: Sequence[Scene], catalogue: Sequence[Product], embed: Embed) -> tuple[float, float, float]:
    """In its kind: is the product first, is it among five; of all: the share of the first five that are its kind."""
    vectors = np.stack([embed(product.data, product.kind) for product in catalogue])
    items = np.array([product.item for product in catalogue])
    of = np.array([product.kind for product in catalogue])
    first = among = kind = 0.0
    for one in scenes:
        scores = vectors @ embed(one.data, one.product.kind)
        order = np.argsort(-scores)
        in_kind = items[order[of[order] == one.product.kind][:5]]
        first += in_kind[0] == one.product.item
        among += one.product.item in in_kind
        kind += float((of[order[:5]] == one.product.kind).mean())
    return first / len(scenes), among / len(scenes), kind / len(scenes)


def rooms(catalogue: Sequence[Product], count: int, seed: int) -> Iterator[tuple[str, list[Scene]]]:
    """The kinds of scenes, each of as many pictures."""
    wanted = [product for product in catalogue if product.kind in CLASSES]
    for name, others, busy in (
        ("alone, plain", 0, False), ("alone, busy", 0, True), ("of four, plain", 3, False), ("of four, busy", 3, True)
    ):  # fmt: skip
        rng = random.Random(seed)
        made = []
        for number in range(count):
            product = wanted[number % len(wanted)]
            beside = [other for other in rng.sample(catalogue, 12) if other.kind != product.kind][:others]
            pictures = [one.data for one in (product, *beside)]
            made.append(Scene(product, photo_of(pictures, seed=rng.getrandbits(32), busy=busy)))
        yield name, made


def main(arguments: Sequence[str]) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--package", type=Path, help="what `npm pack` gave, where this machine has no npm")
    parser.add_argument("--scenes", type=int, default=400, help="of each kind (%(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="folder for a picture of each kind of scene")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        made = make_detector(Path(folder), options.package)
        detector = Detector(made.path, ModelInput(made.input_size, resize=Resize.SQUARE), made.classes)
        ways = embedders(local_model("efficientnet-lite0", Path(folder)), detector)
        catalogue = products()
        print(f"{len(catalogue)} products, {sum(product.kind in CLASSES for product in catalogue)} asked for")
        print(f"{'scenes':16}{'way':16}{'@1':>7}{'@5':>7}{'kind@5':>8}{'ms':>7}")
        for name, scenes in rooms(catalogue, options.scenes, options.seed):
            if options.keep:
                options.keep.mkdir(parents=True, exist_ok=True)
                (options.keep / f"{name.replace(', ', '-').replace(' ', '-')}.jpg").write_bytes(scenes[0].data)
            for way, embed in ways.items():
                started = time.perf_counter()
                first, among, kind = measured(scenes, catalogue, embed)
                took = (time.perf_counter() - started) * 1000 / (len(scenes) + len(catalogue))
                print(f"{name:16}{way:16}{first:7.3f}{among:7.3f}{kind:8.3f}{took:7.1f}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
