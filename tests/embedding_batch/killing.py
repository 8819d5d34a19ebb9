"""Work for the engine's tests: pictures whose bytes say what they do to the process that decodes them."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedding_batch.embedding.work import DecodeWork, EmbedWork

KILLED = b"as the kernel kills when memory runs out"
CRASHES = b"as a decoder crashes"
FAILS = b"as a defect fails"
DRAGS = b"as the kernel ends what takes too long"


def _suffer(data: bytes) -> None:
    if data == KILLED:
        os.kill(os.getpid(), signal.SIGKILL)
    if data == DRAGS:
        os.kill(os.getpid(), signal.SIGXCPU)
    if data == CRASHES:
        ctypes.string_at(0)
    if data == FAILS:
        raise ZeroDivisionError("the defect")


@dataclass(frozen=True, slots=True)
class KillingEmbedWork(EmbedWork):
    def open(self) -> Callable[[bytes], NDArray[np.float32] | str]:
        embed = EmbedWork.open(self)

        def suffer(data: bytes) -> NDArray[np.float32] | str:
            _suffer(data)
            return embed(data)

        return suffer


@dataclass(frozen=True, slots=True)
class KillingDecodeWork(DecodeWork):
    def open(self) -> Callable[[tuple[int, bytes]], str | None]:
        decode = DecodeWork.open(self)

        def suffer(task: tuple[int, bytes]) -> str | None:
            _suffer(task[1])
            return decode(task)

        return suffer


@dataclass(frozen=True, slots=True)
class StillbornWork(EmbedWork):
    def open(self) -> Callable[[bytes], NDArray[np.float32] | str]:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError
