"""A process that detects and embeds: ``python child.py``; at the other end of its pipes is `processes.py`.

It gets a question and a picture at a time, and answers with numbers or with words. It is told everything by value, so
what a picture might make of it has no more than its own pipes; its parent takes nothing but numbers and text from it.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

from image_embedder import (
    Detector,
    Embedder,
    PictureUnreadable,
    Pixels,
    crop,
    finite,
    missed,
    open_picture,
    preprocess,
    preprocess_decoded,
)
from image_embedder.confinement import confine, one_picture
from model_repository.resources.pictures import PROCESSOR_SECONDS_LIMIT
from search_server.pictures.messages import (
    ANSWER,
    FAILED,
    MISSED,
    PIXEL_REGIONS,
    PIXELS,
    QUESTION,
    REGION,
    REGIONS,
    UNREADABLE,
    VECTOR,
    Answer,
    Detect,
    DetectorFile,
    Embed,
    ModelFile,
    Prove,
    Question,
)

_PR_SET_PDEATHSIG = 1
_LESS_URGENT = 10
"""Where processors are few, searches go first."""

_REGIONS_SECONDS = PROCESSOR_SECONDS_LIMIT / 2
"""Of a processor, after which no further region is embedded: those that are surest come first."""


class Opened:
    """The files that are open."""

    def __init__(self) -> None:
        self._embedders: dict[str, Embedder] = {}
        self._detectors: dict[str, Detector] = {}

    def open(self, file: ModelFile | DetectorFile) -> None:
        """Open a file, unless it is. Raises what onnxruntime does, and InputRefused for what is no detector."""
        opened = {*self._embedders, *self._detectors}
        if file.path in opened:
            return
        confine(sum(Path(path).stat().st_size for path in (*opened, file.path)))
        if isinstance(file, ModelFile):
            self._embedders[file.path] = Embedder(Path(file.path), normalised=file.normalised)
        else:
            detector = Detector(Path(file.path), file.takes, file.classes)
            detector.probe()
            self._detectors[file.path] = detector

    def detector(self, file: DetectorFile) -> Detector:
        """What detects by this file, which is open."""
        return self._detectors[file.path]

    def whole(self, file: ModelFile, data: bytes) -> bytes:
        """The vector of an encoded picture; what the model takes, if that is elsewhere."""
        if file.elsewhere:
            return _little_endian(preprocess(data, file.takes))
        return self._embedders[file.path].embed_picture(data, file.takes).astype("<f4").tobytes()

    def part(self, file: ModelFile, picture: Image.Image) -> bytes:
        """The same of a part that was cut out."""
        if file.elsewhere:
            return _little_endian(preprocess_decoded(picture, file.takes))
        embedder = self._embedders[file.path]
        return finite(embedder.embed(preprocess_decoded(picture, file.takes)[np.newaxis])[0]).astype("<f4").tobytes()


def _little_endian(pixels: Pixels) -> bytes:
    return pixels.astype(pixels.dtype.newbyteorder("<"), copy=False).tobytes()


def main() -> None:
    """Answer until the parent is gone, whatever it is at then."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    os.nice(_LESS_URGENT)
    confine(0)
    questions = sys.stdin.buffer
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a library that prints would answer for us
    opened = Opened()
    while len(head := questions.read(QUESTION.size)) == QUESTION.size:
        question, picture = (questions.read(length) for length in QUESTION.unpack(head))
        kind, answer = answer_to(pickle.loads(question), opened, picture)  # noqa: S301 - from the parent
        try:
            answers.write(ANSWER.pack(kind, len(answer)))
            answers.write(answer)
            answers.flush()
        except BrokenPipeError:  # the parent was gone before the kernel was asked to tell
            os._exit(0)


def answer_to(question: Question, opened: Opened, picture: bytes) -> Answer:
    """Return what is asked of an encoded picture, or words."""
    path = ""
    try:
        for file in question.files:
            path = file.path
            opened.open(file)
    except Exception as error:  # noqa: BLE001 - onnxruntime has a dozen exceptions of its own, none with a common base
        return FAILED, f"{path}: onnxruntime can't load it: {error}".encode(errors="replace")
    try:
        with one_picture():
            match question:
                case Embed():
                    return _embed(question, opened, picture)
                case Detect():
                    return _detect(question, opened, picture)
                case Prove():
                    return _prove(question, opened, picture)
    except PictureUnreadable as error:
        return UNREADABLE, str(error).encode(errors="replace")
    except Exception as error:  # noqa: BLE001 - said where the picture came from
        return FAILED, f"{path}: {error!r}".encode(errors="replace")


def _embed(question: Embed, opened: Opened, data: bytes) -> Answer:
    kind = PIXELS if question.model.elsewhere else VECTOR
    if question.box is None:
        return kind, opened.whole(question.model, data)
    return kind, opened.part(question.model, crop(open_picture(data), question.box))


def _detect(question: Detect, opened: Opened, data: bytes) -> Answer:
    begun = time.process_time()
    picture = open_picture(data)
    found = opened.detector(question.detector).detect(picture, question.categories, question.least_score)
    if not found and question.whole:
        del picture  # as the batch does with a picture of nothing: it is decoded for that model, and alone in memory
        return _embed(Embed(question.whole), opened, data)
    elsewhere = any(model.elsewhere for model in question.models.values())
    answer = bytearray()
    for region in found:
        try:
            vector = opened.part(question.models[region.category], crop(picture, region.box))
        except PictureUnreadable:  # nothing is like it; the others are found
            continue
        number = question.detector.classes.index(region.name)
        answer += REGION.pack(number, region.score, *region.box) + vector
        full = len(answer) + REGION.size + len(vector) > question.longest
        if full or time.process_time() - begun > _REGIONS_SECONDS:
            break
    return (PIXEL_REGIONS if elsewhere else REGIONS), bytes(answer)


def _prove(question: Prove, opened: Opened, data: bytes) -> Answer:
    lost = missed(opened.detector(question.detector), data, question.golden, question.least_overlap)
    return MISSED, ", ".join(f"{region.name!r} at {list(region.box)}" for region in lost).encode(errors="replace")


if __name__ == "__main__":
    main()
