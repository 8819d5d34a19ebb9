"""What the gates of a diff stop and let pass, and how long a diff takes: `python -m benchmarks.bench_diff`.

Builds a synthetic catalogue (see tests/catalogues.py), then 50 hours as shops have them, one after another, and on top
of an hour what else shops do, and every planted fault; all with the default gates, but items that are gone are left to
those, too. Then one diff of two builds of --large items: seconds for the questions, and for all of it, files fetched
included, beside how long fetching these files alone takes. With --demo, instead of all that, as many hours of the
demo's products, with their pictures, the real model and its golden pictures: searched exactly, and by --engine.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from embedding_batch.batch import run
from embedding_batch.config import EXACT_ITEMS, Config
from embedding_batch.errors import ChangeUnexpected, ItemsDropped
from embedding_batch.events import Event, StepEnded
from embedding_batch.method import Method
from embedding_batch.steps.diff.gates import DEFAULT_GATES, Gates
from embedding_batch.steps.guards import Limits
from local_stack.demo.shop.products import catalogue_lines
from model_repository.documents.build_diff import Gate, diff_name, parse_build_diff
from model_repository.documents.index_manifest import Engine
from model_repository.names import IndexPrefix, Target
from tests.catalogues import HONEST, PLANTED, Catalogue, an_hour_later, make_catalogue
from tests.conftest import HOME_STORE
from tests.memory_store import MemoryStore

_NOW = datetime(2026, 11, 27, tzinfo=UTC)
_TARGET = Target("production", "shop")
_LENIENT = Limits(most_dropped=0.2, least_recall=0.0)


class _Shop:
    """A bucket, and the batch that fills it; seconds: of the steps of the last run."""

    def __init__(self, folder: Path, engine: Engine, workers: int) -> None:
        self.store = MemoryStore()
        self.folder = folder
        self.seconds: dict[str, float] = {}
        self.config = Config(
            "gs://memory", _TARGET, IndexPrefix("shop", "b0"), folder, method=Method(engine), workers=workers
        )

    def batch(self, name: str, catalogue: Catalogue, gates: Gates = DEFAULT_GATES) -> str:
        """How the run ends: `committed`, or what stops it."""
        file = catalogue.write(self.folder / "vectors.parquet")
        return self.run(name, vectors=file, limits=_LENIENT, gates=gates)

    def run(self, name: str, **settings: Any) -> str:  # noqa: ANN401 - of `Config`
        """As `batch`."""
        config = replace(self.config, prefix=IndexPrefix("shop", name), **settings)

        def listen(event: Event) -> None:
            if isinstance(event, StepEnded):
                self.seconds[event.step] = event.seconds

        try:
            run(config, self.store, _NOW, listen)
        except ItemsDropped as error:  # before anything is built
            return error.code
        except ChangeUnexpected:
            data = self.store.read(diff_name(config.prefix), limit=2**26).data
            return ", ".join(stop.gate for stop in parse_build_diff(data, config.prefix).unexpected)
        return "committed"

    def forget(self, name: str) -> None:
        """Delete a build that serves no more: dozens of 300,000 items don't fit into memory."""
        for info in self.store.listing(f"indexes/shop/{name}/"):
            self.store.delete(info.name)


def main() -> None:
    """Print what was found, as JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=5_000)
    parser.add_argument("--hours", type=int, default=50)
    parser.add_argument("--large", type=int, default=1_000_000)
    parser.add_argument("--dimensions", type=int, default=64)
    parser.add_argument("--engine", type=Engine, choices=list(Engine), default=Engine.FAISS_HNSW)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--demo", action="store_true")
    options = parser.parse_args()
    if options.demo:
        _demo(options)
        return
    with tempfile.TemporaryDirectory() as folder:
        shop = _Shop(Path(folder), options.engine, options.workers)
        now = make_catalogue(options.items, options.dimensions, 12)
        shop.batch("b0", now)
        ended, served = [], f"h{options.hours}"
        for hour in range(1, options.hours + 1):
            now = an_hour_later(now, hour)
            ended.append(shop.batch(f"h{hour}", now))
            shop.forget(f"h{hour - 2}")
        print(json.dumps({"honest": len(ended), "stopped": [each for each in ended if each != "committed"]}))
        for kind, plants in (("also honest", HONEST), ("planted", PLANTED)):
            ended_as = {}
            for number, (what, plant) in enumerate(plants.items()):
                other = plant(an_hour_later(now, 1000 + number), np.random.default_rng(number))
                ended_as[what] = shop.batch(f"{kind[0]}{number}", other)
                if ended_as[what] == "committed":
                    shop.batch(f"{kind[0]}{number}b", now, Gates(expects=frozenset(Gate)))
                    shop.forget(served)
                    served = f"{kind[0]}{number}b"
                shop.forget(f"{kind[0]}{number}")
            print(json.dumps({kind: ended_as}, indent=1), flush=True)
    if options.large:
        _large(options)


def _demo(options: argparse.Namespace) -> None:
    products = [
        {"id": one["id"], "category": one["category"], "picture": str(HOME_STORE / one["file"])}
        for one in catalogue_lines(HOME_STORE)
    ]
    for exact_items in (EXACT_ITEMS, 0):
        chance = random.Random(exact_items)
        with tempfile.TemporaryDirectory() as folder:
            shop = _Shop(Path(folder), options.engine, options.workers)
            chance.shuffle(products)
            sold, others = products[:-50], products[-50:]
            ended = []
            for hour in range(options.hours + 1):
                path = Path(folder) / "catalogue.jsonl"
                path.write_text("".join(json.dumps(one) + "\n" for one in sold))
                ended.append(shop.run(f"h{hour}", catalogue=str(path), exact_items=exact_items))
                changed = len(sold) // 100
                chance.shuffle(sold)
                sold, others = others[:changed] + sold[changed:], others[changed:] + sold[:changed]
            stopped = [each for each in ended if each != "committed"]
            print(json.dumps({"demo": len(ended) - 1, "exact_items": exact_items, "stopped": stopped}), flush=True)


def _large(options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        shop = _Shop(Path(folder), options.engine, options.workers)
        now = make_catalogue(options.large, options.dimensions, 12)
        shop.batch("b0", now)
        shop.batch("b1", an_hour_later(now, 1))
        began = time.perf_counter()
        for build in ("b0", "b1"):
            for info in shop.store.listing(f"indexes/shop/{build}/"):
                shop.store.download(info.name, Path(folder) / "fetched")
        fetch = time.perf_counter() - began
        document = json.loads(shop.store.read("diffs/shop/b1.json", limit=2**26).data)
        said = {
            "items": options.large,
            "asked": document["items"]["asked"],
            "overlap": document["items"]["overlap"],
            "seconds_diff": round(shop.seconds["diff"], 2),
            "seconds_to_fetch_both_builds": round(fetch, 2),
            "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        }
        print(json.dumps(said))


if __name__ == "__main__":
    main()
