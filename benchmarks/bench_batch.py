"""Pictures through a model: the batch's processes against the same work with nothing around it.

    python -m benchmarks.bench_batch [--device cpu|cuda|stand-in] [--decode cpu|gpu] [--photos 800] [--workers N]
                                     [--rounds 9]

Photos of 400 x 534 are tiled from the demo's catalogue. In rounds that alternate, these go through them, each with as
many processes:

    ours       embed_pictures: encoded pictures handed out, vectors got back
    bare       decode and run the network in a loop on one core; each process has its share of the pictures beforehand
    decoding   the same, and no network
    network    the same, over pictures that were decoded beforehand (cuda: one process, whole batches)
    threads    what the batch did before: one process, as many threads, one session
    codec      --decode gpu: the device's decoder alone, whole batches (stand-in: its part on the CPU)
    squares    the same, and resized into the network's batches

Starting processes is no part of it: bare ones say when they are ready; ours are timed once they all work, over as many
photos, to the last vector. Ratios are by round, then the median of them and their range. CPU is that of all processes
together: it doesn't see who waits for whom, but hardly minds what else the machine does.

On a device it is decoding that bounds ours. `stand-in` is a device that isn't there: a network that takes as long for a
batch as an H100 did, and gives nothing; so what it costs to feed one can be measured on any machine.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import pickle
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from embedding_batch.embedding import Device, embed_pictures
from embedding_batch.embedding.batches import BATCH, BATCHES, embed_in_batches
from embedding_batch.embedding.on_device import DeviceDecoder, embed_decoded_there
from embedding_batch.embedding.processes import TASKS_A_WORKER
from embedding_batch.steps.publish.models import LocalModel, local_model
from image_embedder import Embedder, preprocess
from model_repository.resources.processors import processors

_HOME_STORE = Path(__file__).parents[1] / "local_stack" / "demo" / "home_store"
_PHOTO = (400, 534)
_H100_SECONDS = BATCH / 8960
"""An H100's for a batch, EfficientNet-Lite0 in fp32."""

_TICKS = os.sysconf("SC_CLK_TCK")

Seconds = tuple[float, float]
"""Of the clock, and of CPU."""


class StandIn(Embedder):
    """A device that isn't there."""

    def __init__(self) -> None:
        """Open nothing."""

    def embed(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        """Wait as one does for a device."""
        time.sleep(_H100_SECONDS)
        return np.ones((len(batch), 1280), np.float32)

    def embed_there(self, batch: Any, count: int) -> NDArray[np.float32]:  # noqa: ANN401 - onnxruntime's
        """Likewise."""
        del batch
        return self.embed(np.empty(count))


@dataclass
class Contestant:
    """A way to have all photos done. seconds: by round."""

    name: str
    run: Callable[[], Seconds]
    seconds: list[Seconds] = field(default_factory=list)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda", "stand-in"), default="cpu")
    parser.add_argument("--decode", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--photos", type=int, default=800)
    parser.add_argument("--workers", type=int, default=processors())
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--model", default="efficientnet-lite0")
    options = parser.parse_args()
    if options.decode == "gpu" and options.device == "cpu":
        parser.error("--decode gpu: needs --device cuda, or stand-in")
    photos = list(_photos(options.photos))
    with tempfile.TemporaryDirectory(prefix="bench-batch-") as folder:
        model = local_model(options.model, Path(folder))
        folder_of_photos = Path(folder) / "photos"
        if options.decode == "gpu":
            contestants = _decoded_there(options.device, photos, model, options.workers)
        else:
            contestants = _contestants(options.device, photos, model, folder_of_photos, options.workers)
        for _ in range(options.rounds):
            for contestant in contestants:
                contestant.seconds.append(contestant.run())
    size = statistics.mean(map(len, photos)) / 1000
    print(f"{len(photos)} photos of {_PHOTO[0]} x {_PHOTO[1]}, {size:.0f} kB each; {options.workers} workers;", end=" ")
    print(f"{options.rounds} rounds; {options.model} on {options.device}; decoded on {options.decode}\n")
    print("| | photos/s | CPU ms a photo | ours, of its photos/s | ours, of its photos/CPU s |")
    print("|---|---|---|---|---|")
    for one in contestants:
        clock, cpu = (statistics.median(kind) / len(photos) for kind in zip(*one.seconds, strict=True))
        ratios = [_ratios(one.seconds, contestants[0].seconds, kind) for kind in (0, 1)]
        print(f"| {one.name} | {1 / clock:,.0f} | {1000 * cpu:.2f} | {ratios[0]} | {ratios[1]} |")


def _ratios(theirs: Sequence[Seconds], ours: Sequence[Seconds], kind: int) -> str:
    ratios = [their[kind] / our[kind] for their, our in zip(theirs, ours, strict=True)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def _contestants(device: str, photos: list[bytes], model: LocalModel, folder: Path, workers: int) -> list[Contestant]:
    folder.mkdir()
    for number, data in enumerate(photos):
        (folder / f"{number:06}").write_bytes(data)

    def bare(what: str) -> Callable[[], Seconds]:
        return lambda: _bare(what, model, folder, workers)

    def ours() -> Seconds:
        # Until all work, and on a device until the batches that were begun before then are through.
        warm = 2 * TASKS_A_WORKER * workers + (0 if device == "cpu" else BATCHES * BATCH)
        source = islice(enumerate(cycle(photos)), warm + len(photos))
        if device == "stand-in":
            return _steady(embed_in_batches(source, model.takes, StandIn(), workers=workers), warm)
        return _steady(embed_pictures(source, model, workers=workers, device=Device(device)), warm)

    decoding = Contestant("decoding", bare("decode"))
    if device == "stand-in":
        return [Contestant("ours", ours), decoding]
    if device == "cuda":
        pixels = [preprocess(data, model.takes) for data in photos[: 4 * BATCH]]
        batches = [np.stack(pixels[start : start + BATCH]) for start in range(0, len(pixels), BATCH)]
        embedder = Embedder(model.path, device=Device.CUDA)
        embedder.embed(batches[0])
        network = Contestant("network", lambda: _timed(lambda: _embed_batches(embedder, batches, len(photos))))
        return [Contestant("ours", ours), decoding, network]
    network = Contestant("network", bare("network"))
    threads = Contestant("threads", lambda: _timed(lambda: _threads(model, photos, workers)))
    return [Contestant("ours", ours), Contestant("bare", bare("embed")), decoding, network, threads]


def _decoded_there(device: str, photos: list[bytes], model: LocalModel, workers: int) -> list[Contestant]:
    there = Device.CUDA if device == "cuda" else Device.CPU
    embedder = StandIn() if device == "stand-in" else Embedder(model.path, device=there)
    decoder = DeviceDecoder(model.takes, there, threads=workers)
    memory, _ = decoder.decode(photos[:BATCH])
    embedder.embed_there(memory, BATCH)

    def ours() -> Seconds:
        source = islice(enumerate(cycle(photos)), len(photos))
        found = embed_decoded_there(source, model.takes, embedder, decoder, workers=workers)
        return _timed(lambda: deque(found, maxlen=0))

    batches = [photos[start : start + BATCH] for start in range(0, len(photos), BATCH)]
    codec = Contestant("codec", lambda: _timed(lambda: deque(map(decoder.images, batches), maxlen=0)))
    squares = Contestant("squares", lambda: _timed(lambda: deque(map(decoder.decode, batches), maxlen=0)))
    network = Contestant("network", lambda: _timed(lambda: [embedder.embed_there(memory, BATCH) for _ in batches]))
    return [Contestant("ours", ours), codec, squares, network]


def _steady(results: Iterable[tuple[int, NDArray[np.float32] | str]], warm: int) -> Seconds:
    clock = cpu = 0.0
    for number, (_, vector) in enumerate(results, 1):
        if isinstance(vector, str):
            raise TypeError(vector)
        if number == warm:
            clock, cpu = time.perf_counter(), _cpu_seconds()
        last = time.perf_counter()
    return last - clock, _cpu_seconds() - cpu  # the processes have ended; what they used stays counted


def _bare(what: str, model: LocalModel, folder: Path, workers: int) -> Seconds:
    arguments = [what, str(model.path), pickle.dumps(model.takes).hex(), str(folder)]
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.batch.bare", *arguments, str(share), str(workers)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for share in range(workers)
    ]
    for process in running:
        _line(process)
    begun = time.perf_counter()
    for process in running:
        stdin = cast("IO[str]", process.stdin)
        stdin.write("go\n")
        stdin.flush()
    cpu = sum(float(_line(process)) for process in running)
    clock = time.perf_counter() - begun
    for process in running:
        process.communicate()
    return clock, cpu


def _line(process: subprocess.Popen[str]) -> str:
    line = cast("IO[str]", process.stdout).readline()
    if not line:
        raise RuntimeError("a bare loop failed")
    return line


def _timed(work: Callable[[], object]) -> Seconds:
    clock, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - clock, time.process_time() - cpu


def _threads(model: LocalModel, photos: list[bytes], workers: int) -> None:
    with ThreadPoolExecutor(workers) as pool:
        for _ in pool.map(model.embed, photos):
            pass


def _embed_batches(embedder: Embedder, batches: Sequence[NDArray[Any]], photos: int) -> None:
    for number in range(-(-photos // BATCH)):
        embedder.embed(batches[number % len(batches)])


def _photos(count: int) -> Iterator[bytes]:
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
        yield file.getvalue()


def _cpu_seconds() -> float:
    """CPU seconds of this process and those that it started, also of those that still run."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages) + _running_cpu_seconds()


def _running_cpu_seconds() -> float:
    ticks = 0
    for tasks in Path("/proc/self/task").glob("*/children"):
        for pid in tasks.read_text().split():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / _TICKS


if __name__ == "__main__":
    main()
