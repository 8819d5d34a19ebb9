"""Step `embed`: a shard's pictures become vectors, one part of the feature store."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import closing
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedding_batch.embedding import Device, embed_pictures
from embedding_batch.errors import DecodeDiffers, StepMissing
from embedding_batch.pictures import Picture, fetch
from embedding_batch.run import Run
from embedding_batch.state.features import Features, FeatureStore
from embedding_batch.state.items import WEB
from embedding_batch.state.tables import read_table
from embedding_batch.steps.fetching import kept
from embedding_batch.steps.publish.models import LocalModel
from model_repository.documents.model_manifest import BY_PILLOW
from model_repository.errors import ObjectMissing

_CHANGED = "the picture was changed while the batch ran"
_PROOFS = 8
"""Pictures of a shard that are embedded both ways where the device decodes."""
_LEAST_COSINE = 0.997
"""Decoded by nvJPEG, to the same by Pillow: of 440 photos of 400 x 534 the least was 0.9971 (EfficientNet-Lite0)."""


def embed_shard(run: Run, number: int) -> dict[str, Any]:
    """Embed the pictures of a shard that was fetched; returns the step's record.

    Raises StepMissing, Misconfigured where the device can't be had, DecodeDiffers, WorkersDied, what the store does.
    """
    folder = run.folder
    listed = folder.recorded("list")
    how = listed["models"][listed["shard_models"][number]]
    model, _ = run.model(how["name"])
    features, detector = run.features(how), run.detector()
    cutting = detector.cutting(how["classes"]) if detector is not None and how["classes"] else None
    wanted, parts, of_shard = _wanted(run, number, features)
    faults: dict[str, str] = {}
    vectors: dict[bytes, NDArray[np.float16]] = {}
    with run.timed("embed") as details:
        known = of_shard - len(wanted)  # or they can't be had
        run.progress("embed", known, of_shard)
        pictures = read_pictures(run, wanted, faults)
        decodes = run.decode != BY_PILLOW
        proofs: dict[bytes, bytes] = {}
        embedding = embed_pictures(
            _with_proofs(pictures, proofs) if decodes else pictures,
            model,
            workers=run.config.workers,
            device=Device(run.config.device),
            decodes=decodes,
            cutting=cutting,
        )
        with closing(pictures), closing(embedding):  # type: ignore[type-var] # a generator, too
            for digest, result in embedding:
                if isinstance(result, str):
                    faults[digest.hex()] = result
                else:
                    vectors[digest] = result.astype(np.float16)
                run.progress("embed", known + len(vectors) + len(faults), of_shard)
        run.progress("embed", of_shard, of_shard)
        _prove(model, proofs, vectors)
        if vectors:
            # in the shard's order, whichever was ready first: the same shard gives the same part, and those of a
            # category stand together for whoever builds it
            digests = tuple(digest for digest in wanted if digest in vectors)
            parts.add(features.write(Features(digests, np.stack([vectors[digest] for digest in digests]))))
        details.append(f"{len(vectors)} embedded, {len(faults)} can't be")
    return {"embedded": len(vectors), "faults": faults, "features": sorted(parts)}


def _with_proofs(pictures: Iterable[tuple[bytes, bytes]], proofs: dict[bytes, bytes]) -> Iterator[tuple[bytes, bytes]]:
    """The pictures; the first that a device decodes are kept."""
    from embedding_batch.embedding.on_device import decoded_there  # noqa: PLC0415 - only where a device decodes

    for digest, data in pictures:
        if len(proofs) < _PROOFS and decoded_there(data):
            proofs[digest] = data
        yield digest, data


def _prove(model: LocalModel, proofs: dict[bytes, bytes], vectors: Mapping[bytes, NDArray[np.float16]]) -> None:
    """Embed some pictures as the search server does; raises DecodeDiffers where it finds something else."""
    for digest, expected in embed_pictures(proofs.items(), model, workers=1):
        if isinstance(expected, str):
            raise DecodeDiffers(f"--decode gpu: the device embeds picture {digest.hex()}, and here {expected}")
        found = vectors.get(digest)
        if found is None:  # it is left out: what nobody finds is nothing wrong
            continue
        alike = float(expected @ found.astype(np.float32))
        if not alike >= _LEAST_COSINE:
            raise DecodeDiffers(
                f"--decode gpu: the embedding of picture {digest.hex()} has a cosine of {alike:.4f} to that of the "
                f"same picture decoded here, {_LEAST_COSINE} is asked; nothing was kept: leave out --decode gpu"
            )


def _wanted(run: Run, number: int, features: FeatureStore) -> tuple[dict[bytes, str], set[str], int]:
    """The URIs of pictures that have no embedding yet, by sha256; the parts that have the others'; the shard's size."""
    name = run.folder.table("fetched", number)
    try:
        fetched = read_table(run.store, name, run.scratch, ("picture", "sha256"))
    except ObjectMissing as error:
        raise StepMissing(f"{name}: isn't there; run the step 'fetch' of this shard first") from error
    rows = [row for row in fetched.to_pylist() if row["sha256"] is not None]
    parts: set[str] = set()
    if features.is_loaded:  # another shard, or another picture with the same bytes, may have them
        digests = np.array([row["sha256"] for row in rows], "S32")
        known, parts = features.has(digests), features.parts_of(digests)
        rows = [row for row, is_known in zip(rows, known, strict=True) if not is_known]
    return {row["sha256"]: row["picture"] for row in rows}, parts, fetched.num_rows


def read_pictures(run: Run, wanted: dict[bytes, str], faults: dict[str, str]) -> Generator[tuple[bytes, bytes]]:
    """The bytes of pictures by their sha256; why others can't be had goes to `faults`, by the same in hex.

    Those from the web are read in the bucket; their hosts are asked for what was deleted there since it was kept.
    """
    reasons: dict[bytes, str] = {}
    yield from _read(run, {_place(run, uri, digest): digest for digest, uri in wanted.items()}, reasons)
    deleted = {wanted[digest]: digest for digest in reasons if wanted[digest].startswith(WEB)}
    for digest in deleted.values():
        del reasons[digest]
    yield from _read(run, deleted, reasons)
    faults.update({digest.hex(): reason for digest, reason in reasons.items()})


def _read(run: Run, places: dict[str, bytes], reasons: dict[bytes, str]) -> Generator[tuple[bytes, bytes]]:
    if not places:
        return
    asked = (Picture(place, None) for place in places)
    fetching = fetch(asked, politeness=run.config.politeness, open_bucket=run.bucket)
    with closing(fetching):
        for fetched in fetching:
            digest = places[fetched.picture.uri]
            if fetched.data is not None and fetched.sha256 == digest:
                yield digest, fetched.data
            else:
                reasons[digest] = fetched.reason or _CHANGED


def _place(run: Run, uri: str, digest: bytes) -> str:
    """Where the bytes are: those of a picture from the web in the bucket."""
    return f"gs://{run.store.bucket}/{kept(digest)}" if uri.startswith(WEB) else uri
