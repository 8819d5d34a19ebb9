"""What a connection is asked for, and where that comes from; and the simplest of it, a small document."""

from __future__ import annotations

from typing import Protocol

import google_crc32c

from init_container.crc32c import Buffer
from init_container.disk.spans import Span
from init_container.network.answers import Head, check_status
from model_repository.digests import format_crc32c
from model_repository.errors import BucketUnavailable, DocumentMalformed


class Job(Protocol):
    """One request and what becomes of its answer.

    name: the object's. span: the bytes still to come. ranged: whether just these are asked for, or all there are.
    """

    name: str
    span: Span
    ranged: bool

    @property
    def generation(self) -> int | None:
        """The generation to ask for, once it is known."""
        ...

    def begin(self, head: Head) -> int:
        """Check the head of the answer; returns the bytes of the body, or raises."""
        ...

    def receive(self, buffer: Buffer, start: int, end: int) -> None:
        """Take the next bytes."""
        ...


class Source(Protocol):
    """Where jobs come from and go back to. What isn't said here is right for a source of a single job."""

    @property
    def finished(self) -> bool:
        """Whether everything has come."""
        ...

    @property
    def waiting(self) -> int:
        """Bytes that nobody fetches yet."""
        ...

    def waiting_spans(self) -> int:
        """How many spans, of a file each, nobody fetches yet."""
        return self.waiting

    def next_bytes(self) -> int:
        """Bytes of what `take` would begin with; 0 if there is nothing."""
        return self.waiting

    def take(self, rate: float, connections: int) -> Job | None:
        """A job for a connection that gave `rate` bytes/s so far."""
        ...

    def give_back(self, job: Job) -> None:
        """Take back what is left of a job."""
        ...

    def split(self, job: Job) -> Job | None:  # noqa: ARG002
        """Half of a job that is being done too slowly, or None."""
        return None

    def flush(self) -> None:
        """Make what came so far last."""
        return


class SmallObject(Source):
    """An object of unknown but limited size, kept in memory; a source of this one job.

    answered: the generation that came, if the answer says it.
    """

    generation: int | None = None
    answered: int | None = None
    ranged = False
    finished = False
    waiting = 1

    def __init__(self, name: str, limit: int) -> None:
        """limit: the most bytes it may have."""
        self.name = name
        self.span = Span(0, 0, 0)
        self.data = bytearray()
        self._limit = limit
        self._crc32c: str | None = None

    def begin(self, head: Head) -> int:
        """See `Job`."""
        check_status(self.name, head)
        if head.length is None:
            raise BucketUnavailable(f"{self.name}: answered without a length: something on the way rewrites it")
        if head.length > self._limit:
            raise DocumentMalformed(self.name, f"{head.length} bytes, more than the {self._limit} allowed")
        self.span.end = head.length
        self._crc32c = head.crc32c
        self.answered = head.generation
        self._check()
        return head.length

    def receive(self, buffer: Buffer, start: int, end: int) -> None:
        """See `Job`."""
        self.data += buffer.view[start:end]
        self.span.start = len(self.data)
        self._check()

    def _check(self) -> None:
        if self.span.left:
            return
        found = format_crc32c(google_crc32c.value(bytes(self.data)))
        if self._crc32c not in (None, found):
            raise BucketUnavailable(f"{self.name}: the bytes that came don't have the object's crc32c; it may pass")
        self.finished = True

    def take(self, rate: float, connections: int) -> Job | None:  # noqa: ARG002 - one job, whatever the connection
        """See `Source`."""
        taken, self.waiting = self.waiting, 0
        return self if taken else None

    def give_back(self, job: Job) -> None:
        """See `Source`."""
        self.data.clear()
        self.waiting, job.span.start, job.span.end = 1, 0, 0
