"""A process that embeds: ``python child.py``; at the other end of its pipes is `processes.py`.

It gets a model and a picture at a time, and answers with a vector or with words. It is told everything by value, so
what a picture might make of it has no more than its own pipes; its parent takes nothing but numbers and text from it.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
import sys
from pathlib import Path

from image_embedder import Embedder, PictureUnreadable
from image_embedder.confinement import confine, one_picture
from model_repository.documents.model_manifest import ModelInput
from search_server.pictures.messages import ANSWER, FAILED, QUESTION, UNREADABLE, VECTOR

_PR_SET_PDEATHSIG = 1
_LESS_URGENT = 10
"""Where processors are few, searches go first."""

Opened = dict[str, Embedder]


def main() -> None:
    """Embed until the parent is gone, whatever it is at then."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    os.nice(_LESS_URGENT)
    confine(0)
    questions = sys.stdin.buffer
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a library that prints would answer for us
    opened: Opened = {}
    while len(head := questions.read(QUESTION.size)) == QUESTION.size:
        question, picture = (questions.read(length) for length in QUESTION.unpack(head))
        path, takes, normalised = pickle.loads(question)  # noqa: S301 - from the parent
        kind, answer = embed(opened, path, takes, picture, normalised=normalised)
        try:
            answers.write(ANSWER.pack(kind, len(answer)) + answer)
            answers.flush()
        except BrokenPipeError:  # the parent was gone before the kernel was asked to tell
            os._exit(0)


def embed(opened: Opened, path: str, takes: ModelInput, picture: bytes, *, normalised: bool) -> tuple[int, bytes]:
    """Return the kind of the answer, and that: float32 little-endian, or UTF-8."""
    try:
        if path not in opened:
            confine(sum(Path(each).stat().st_size for each in (*opened, path)))
            opened[path] = Embedder(Path(path), threads=1, normalised=normalised)
    except Exception as error:  # noqa: BLE001 - onnxruntime has a dozen exceptions of its own, none with a common base
        return FAILED, f"{path}: onnxruntime can't load it: {error}".encode()
    try:
        with one_picture():
            return VECTOR, opened[path].embed_picture(picture, takes).astype("<f4").tobytes()
    except PictureUnreadable as error:
        return UNREADABLE, str(error).encode(errors="replace")
    except Exception as error:  # noqa: BLE001 - said where the picture came from
        return FAILED, f"{path}: {error!r}".encode(errors="replace")


if __name__ == "__main__":
    main()
