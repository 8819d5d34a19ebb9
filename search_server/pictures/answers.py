"""What may be remembered of a photo: under which name, and whether what was kept is an answer at all. Pure."""

from __future__ import annotations

import hashlib
import json
import math
import struct
from typing import Final

from search_server.pictures.messages import (
    LONGEST_ANSWER,
    REGION,
    REGIONS,
    VECTOR,
    Answer,
    Detect,
    DetectorFile,
    Embed,
    ModelFile,
    Question,
)

MADE_BY: Final = "1/1-0.05"
"""`image_embedder`'s PREPROCESSING and CROPPING, which make another vector of the same picture when they change.

Written again, for whoever loads that package loads onnxruntime; a test holds the two together."""

_KINDS: Final = {VECTOR, REGIONS}
_SEAL = hashlib.sha256().digest_size


def name_of(question: Question, photo: bytes) -> bytes | None:
    """Return the name, 32 bytes, of the answer to a question about a photo; None: it is never remembered.

    photo: sha256 of its bytes; empty: not to be remembered. Models and detectors count by their digests and not by
    where their files stand, so all pods and builds that have them share what is remembered.
    """
    if not photo:
        return None
    match question:
        case Embed():
            asked: list[object] = ["embed", question.model.digest, question.box]
        case Detect():
            models = {category: model.digest for category, model in question.models.items()}
            whole = question.whole.digest if question.whole else None
            looked_for = dict(question.categories)
            asked = ["detect", question.detector.digest, looked_for, question.least_score, models, whole]
        case _:
            return None
    said = json.dumps([MADE_BY, asked, photo.hex()], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(said.encode()).digest()


def fits(question: Question, answer: Answer) -> bool:
    """Whether something can be the answer to a question: of its kind and length, with finite numbers, not all 0."""
    kind, said = answer
    if kind not in _KINDS or len(said) > LONGEST_ANSWER:
        return False
    match question:
        case Embed():
            return kind == VECTOR and _is_vector(question.model, said)
        case Detect() if kind == VECTOR:
            return question.whole is not None and _is_vector(question.whole, said)
        case Detect():
            return _are_regions(question, said)
    return False


def sealed(name: bytes, answer: Answer) -> bytes:
    """Return an answer as others may keep it: with a digest of itself and of its name."""
    kind, said = answer
    value = bytes([kind]) + said
    return _seal(name, value) + value


def unsealed(name: bytes, question: Question, kept: bytes) -> Answer | None:
    """Return what `sealed` made; None if it isn't whole, is another name's, or no answer to the question."""
    seal, value = kept[:_SEAL], kept[_SEAL:]
    if not value or seal != _seal(name, value):
        return None
    answer = value[0], value[1:]
    return answer if fits(question, answer) else None


def _seal(name: bytes, value: bytes) -> bytes:
    return hashlib.sha256(name + value).digest()


def _is_vector(model: ModelFile, said: bytes) -> bool:
    if len(said) != 4 * model.dimensions:
        return False
    numbers = struct.unpack(f"<{model.dimensions}f", said)
    return all(map(math.isfinite, numbers)) and any(numbers)


def _are_regions(question: Detect, said: bytes) -> bool:
    at = 0
    while at < len(said):
        if at + REGION.size > len(said):
            return False
        number, *shares = REGION.unpack_from(said, at)
        at += REGION.size
        model = _model(question, question.detector, number)
        if model is None or not all(0 <= share <= 1 for share in shares):
            return False
        end = at + 4 * model.dimensions
        if not _is_vector(model, said[at:end]):
            return False
        at = end
    return True


def _model(question: Detect, detector: DetectorFile, number: int) -> ModelFile | None:
    """What embeds things of the class with this number; None if it isn't looked for."""
    name = detector.classes[number] if number < len(detector.classes) else ""
    return question.models.get(question.categories.get(name, ""))
