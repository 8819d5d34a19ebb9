"""Pictures through a model: the batch's processes against the same work with nothing around it.

    python -m benchmarks.bench_batch [--device cpu|cuda|stand-in] [--photos 600] [--workers 2] [--rounds 7]

Photos of 400 x 534 are tiled from the demo's catalogue. In rounds that alternate, each of these has all of them, in
memory as encoded bytes, to do with as many processes; what a process costs to start counts everywhere.

    ours       embed_pictures: hands pictures out, gets vectors back
    bare       decode and run the network in a loop, on one core; each process has its share of the photos beforehand
    decoding   the same, and no network
    network    the same, over arrays that are decoded before the clock starts (on a device: one process, whole batches)
    threads    what the batch did before: one process, as many threads, a session for all of them

On a device what bounds ours is decoding. `stand-in` is a device that isn't there: a network that takes as long for a
batch as an H100 did, and gives nothing; so what feeding one costs can be measured on any machine.

Ratios are by round, then the median of them. CPU is seconds of all processes together: it doesn't see who waits, but
hardly minds what else the machine does.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from embedding_batch.embedding import Device, embed_pictures
from embedding_batch.embedding.batches import BATCH, embed_in_batches
from embedding_batch.embedding.work import EmbedWork
from embedding_batch.steps.models import local_model
from image_embedder import Embedder, preprocess
from model_repository.documents.model_manifest import ModelInput
from model_repository.processors import processors

_HOME_STORE = Path(__file__).parents[1] / "local_stack" / "demo" / "home_store"
_PHOTO = (400, 534)
_H100_SECONDS = BATCH / 8960
"""An H100's for a batch, EfficientNet-Lite0 in fp32."""


class StandIn(Embedder):
    """A device that isn't there."""

    def __init__(self) -> None:
        """Open nothing."""

    def embed(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        """Wait as one does for a device."""
        time.sleep(_H100_SECONDS)
        return np.zeros((len(batch), 1280), np.float32)


@dataclass
class Contestant:
    """A way to have it done. seconds, cpu: by round."""

    name: str
    run: Callable[[], int]
    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def round(self, photos: int) -> None:
        """One round; every photo must have been done."""
        begun, cpu = time.perf_counter(), _cpu_seconds()
        done = self.run()
        self.seconds.append(time.perf_counter() - begun)
        self.cpu.append(_cpu_seconds() - cpu)
        if done != photos:
            raise RuntimeError(f"{self.name}: {done} of {photos}")


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda", "stand-in"), default="cpu")
    parser.add_argument("--photos", type=int, default=600)
    parser.add_argument("--workers", type=int, default=processors())
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--model", default="efficientnet-lite0")
    options = parser.parse_args()
    photos = list(_photos(options.photos))
    with tempfile.TemporaryDirectory(prefix="bench-batch-") as folder:
        contestants = _contestants(options.device, photos, options.model, Path(folder), options.workers)
        for _ in range(options.rounds):
            for contestant in contestants:
                contestant.round(len(photos))
    size = statistics.mean(len(data) for _, data in photos)
    print(
        f"{len(photos)} photos of {_PHOTO[0]} x {_PHOTO[1]}, {size / 1000:.0f} kB; {options.workers} workers;", end=" "
    )
    print(f"{options.rounds} rounds; {options.model} on {options.device}\n")
    print("| | photos/s | CPU ms a photo | ours, of its photos/s | ours, of its photos/CPU s |")
    print("|---|---|---|---|---|")
    ours = contestants[0]
    for one in contestants:
        rate = len(photos) / statistics.median(one.seconds)
        cpu = 1000 * statistics.median(one.cpu) / len(photos)
        print(f"| {one.name} | {rate:,.0f} | {cpu:.2f} ", end="")
        print(f"| {_ratio(one.seconds, ours.seconds)} | {_ratio(one.cpu, ours.cpu)} |")


def _ratio(theirs: Sequence[float], ours: Sequence[float]) -> str:
    ratios = [their / our for their, our in zip(theirs, ours, strict=True)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def _contestants(
    device: str, photos: list[tuple[str, bytes]], model_name: str, folder: Path, workers: int
) -> list[Contestant]:
    model = local_model(model_name, folder)
    takes, path = model.takes, model.path
    encoded = [data for _, data in photos]
    shares = [encoded[start::workers] for start in range(workers)]

    def threads() -> int:
        with ThreadPoolExecutor(workers) as pool:
            return sum(1 for _ in pool.map(model.embed, encoded))

    def bare(loop: Callable[..., None]) -> Callable[[], int]:
        return lambda: _in_processes(loop, shares, takes, path)

    decoding = Contestant("decoding", bare(_decode))
    if device == "stand-in":
        ours = Contestant("ours", lambda: _count(embed_in_batches(photos, takes, StandIn(), workers=workers)))
        return [ours, decoding]
    ours = Contestant("ours", lambda: _count(embed_pictures(photos, model, workers=workers, device=Device(device))))
    pixels = [preprocess(data, takes) for data in encoded[: 4 * BATCH]]
    if device == "cuda":
        batches = [np.stack(pixels[start : start + BATCH]) for start in range(0, len(pixels), BATCH)]
        embedder = Embedder(path, threads=1, device=Device.CUDA)
        embedder.embed(batches[0])
        network = Contestant("network", lambda: _embed_batches(embedder, batches, len(photos)))
        return [ours, decoding, network, Contestant("threads", threads)]
    np.save(folder / "pixels.npy", np.stack(pixels[:64]))
    network = Contestant("network", lambda: _in_processes(_run_network, shares, folder / "pixels.npy", path))
    return [ours, Contestant("bare", bare(_embed)), decoding, network, Contestant("threads", threads)]


def _count(results: Iterable[tuple[str, NDArray[np.float32] | str]]) -> int:
    return sum(1 for _, vector in results if not isinstance(vector, str))


def _in_processes(loop: Callable[..., None], shares: Sequence[Sequence[bytes]], *arguments: object) -> int:
    context = multiprocessing.get_context("spawn")
    running = [context.Process(target=loop, args=(share, *arguments)) for share in shares]
    for process in running:
        process.start()
    for process in running:
        process.join()
    return sum(len(share) for share, process in zip(shares, running, strict=True) if process.exitcode == 0)


def _embed(share: Sequence[bytes], takes: ModelInput, path: Path) -> None:
    embed = EmbedWork(path, takes, normalised=True).open()
    for data in share:
        embed(data)


def _decode(share: Sequence[bytes], takes: ModelInput, _: Path) -> None:
    for data in share:
        preprocess(data, takes)


def _run_network(share: Sequence[bytes], pixels: Path, path: Path) -> None:
    embedder, decoded = Embedder(path, threads=1), np.load(pixels)
    for number in range(len(share)):
        embedder.embed(decoded[number % len(decoded)][np.newaxis])


def _embed_batches(embedder: Embedder, batches: Sequence[NDArray[Any]], photos: int) -> int:
    done = 0
    while done < photos:
        done += len(embedder.embed(batches[done // BATCH % len(batches)]))
    return photos


def _photos(count: int) -> Iterator[tuple[str, bytes]]:
    """Tile photos from the catalogue, each from another product on."""
    lines = [json.loads(line) for line in (_HOME_STORE / "catalogue.jsonl").open(encoding="utf-8")]
    products = [Image.open(_HOME_STORE / line["file"]).convert("RGB") for line in lines]
    for number in range(count):
        photo, place = Image.new("RGB", _PHOTO, "white"), number * 7
        for top in range(0, _PHOTO[1], 128):
            for left in range(0, _PHOTO[0], 128):
                photo.paste(products[place % len(products)], (left, top))
                place += 1
        file = io.BytesIO()
        photo.save(file, "JPEG", quality=75)
        yield f"photo-{number}", file.getvalue()


def _cpu_seconds() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


if __name__ == "__main__":
    main()
