"""What a process that decodes strangers' pictures may take, held by the kernel: no code within has to keep to it."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager

from image_embedder.decoding import PictureUnreadable, too_much_memory
from model_repository.resources.pictures import PROCESSOR_SECONDS_LIMIT, picture_process_bytes


def confine(model_bytes: int) -> None:
    """Let this process have the memory of one that embeds with models of so many bytes: an allocation above fails.

    It leaves no core.
    """
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (picture_process_bytes(model_bytes), most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


@contextmanager
def one_picture() -> Iterator[None]:
    """Give what is done within PROCESSOR_SECONDS_LIMIT of a processor, as a picture has; then SIGXCPU ends the process.

    Raises PictureUnreadable where the memory that it is confined to isn't enough.
    """
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(used.ru_utime + used.ru_stime) + 1 + PROCESSOR_SECONDS_LIMIT
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, most))
    try:
        yield
    except MemoryError:
        raise PictureUnreadable(too_much_memory("more than what is left of that")) from None
