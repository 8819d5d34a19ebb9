"""One process of a bare loop: ``python -m benchmarks.batch.bare WHAT MODEL TAKES FOLDER SHARE OF``.

It reads its share of the folder's photos, says "ready", waits for a line, works, and prints the CPU seconds of that.
WHAT: embed, decode, or network, which runs over pictures that it has decoded before.
"""

from __future__ import annotations

import pickle
import sys
import time
from pathlib import Path

import numpy as np

from image_embedder import Embedder, preprocess

_DECODED = 64
"""Pictures that `network` takes in turns: 40 MB of them."""


def main(arguments: list[str]) -> None:
    """Be one of several."""
    what, model, takes, folder, share, of = arguments
    wanted = pickle.loads(bytes.fromhex(takes))  # noqa: S301 - from bench_batch
    photos = [path.read_bytes() for path in sorted(Path(folder).iterdir())[int(share) :: int(of)]]
    embedder = Embedder(Path(model))
    decoded = [preprocess(data, wanted)[np.newaxis] for data in photos[:_DECODED]]
    embedder.embed(decoded[0])
    print("ready", flush=True)
    sys.stdin.readline()
    begun = time.process_time()
    if what == "embed":
        for data in photos:
            embedder.embed(preprocess(data, wanted)[np.newaxis])
    elif what == "decode":
        for data in photos:
            preprocess(data, wanted)
    else:
        for number in range(len(photos)):
            embedder.embed(decoded[number % len(decoded)])
    print(time.process_time() - begun, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
