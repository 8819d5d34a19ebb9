"""A build on this pod's disk: opened with its model, and made to prove itself before anybody is answered."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from model_repository.names import IndexPrefix
from model_repository.telemetry.log import Log
from search_server.build.detector import BuildDetector, Missed, open_detector, prove_detector
from search_server.build.index import MappedIndex, open_index
from search_server.build.model import Model, open_model
from search_server.build.prove import Embed, prove


def open_and_prove(
    data: Path,
    prefix: IndexPrefix,
    digest: str,
    embed: Embed | None,
    log: Log,
    *,
    on_opened: Callable[[], None] = lambda: None,
) -> tuple[MappedIndex, tuple[Model, ...]]:
    """Open the build and its models in `data`, as the puller published them, and let them prove themselves.

    digest: sha256 of its index.json. embed: as pictures of callers are embedded; None: elsewhere.
    on_opened: called between the two. Raises `PermanentError` if they aren't what was asked for, or can't be proved.
    """
    begun = time.monotonic()
    index = open_index(data / "index", prefix, digest)
    models = tuple(open_model(data / str(model.prefix), model) for model in index.manifest.models)
    opened = time.monotonic()
    on_opened()
    proof = prove(index, models, embed)
    log.info(
        f"{prefix} proved itself",
        items=index.manifest.items,
        golden_queries=proof.golden_queries,
        golden_images=proof.golden_images,
        **({} if proof.lowest_cosine is None else {"lowest_cosine": round(proof.lowest_cosine, 6)}),
        open_seconds=round(opened - begun, 3),
        proof_seconds=round(time.monotonic() - opened, 3),
    )
    return index, models


def open_and_prove_detector(data: Path, index: MappedIndex, missed: Missed, log: Log) -> BuildDetector | None:
    """Open the detector of a build in `data`, if it has one of use to a server, and let it prove itself.

    missed: as pictures of callers are looked at. Raises as `open_and_prove` does.
    """
    begun = time.monotonic()
    detector = open_detector(data, index)
    if detector is not None:
        prove_detector(detector, missed)
        images = len(detector.manifest.golden_images)
        seconds = round(time.monotonic() - begun, 3)
        log.info(f"{detector.manifest.prefix} proved itself", golden_images=images, proof_seconds=seconds)
    return detector
