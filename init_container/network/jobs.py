"""What a connection is asked for, and where that comes from; and the simplest of it, a small document."""

from __future__ import annotations

from typing import Protocol

import google_crc32c

from init_container.crc32c import Buffer
from init_container.network.answers import Head, check_status
from model_repository.digests import format_crc32c
from model_repository.errors import BucketUnavailable, DocumentMalformed


class Job(Protocol):
    """One request and what becomes of its answer.

    name: the object's. attempts: tries in a row that brought nothing. left: bytes still to come.
    """

    name: str
    attempts: int

    @property
    def left(self) -> int: ...  # noqa: D102 - see above

    @property
    def generation(self) -> int | None:
        """The generation to ask for, once it is known."""
        ...

    @property
    def range(self) -> tuple[int, int] | None:
        """The bytes ``[start, end)`` to ask for, or None for all."""
        ...

    def begin(self, head: Head) -> int:
        """Check the head of the answer; returns the bytes of the body, or raises."""
        ...

    def receive(self, buffer: Buffer, start: int, end: int) -> None:
        """Take the next bytes."""
        ...


class Source(Protocol):
    """Where jobs come from and go back to."""

    @property
    def finished(self) -> bool:
        """Whether everything has come."""
        ...

    @property
    def waiting(self) -> int:
        """Bytes that nobody fetches yet."""
        ...

    @property
    def waiting_spans(self) -> int:
        """How many spans, of a file each, nobody fetches yet."""
        ...

    def next_bytes(self) -> int:
        """Bytes of what `take` would begin with; 0 if there is nothing."""
        ...

    def take(self, rate: float, connections: int) -> Job | None:
        """A job for a connection that gave `rate` bytes/s so far."""
        ...

    def give_back(self, job: Job) -> None:
        """Take back what is left of a job."""
        ...

    def split(self, job: Job) -> Job | None:
        """Half of a job that is being done too slowly, or None."""
        ...

    def flush(self) -> None:
        """Make what came so far last."""
        ...


class SmallObject:
    """An object of unknown but limited size, kept in memory; a source of this one job."""

    def __init__(self, name: str, limit: int) -> None:
        """limit: the most bytes it may have."""
        self.name = name
        self.attempts = 0
        self.data = bytearray()
        self.finished = False
        self._limit = limit
        self._length = 0
        self._taken = False
        self._crc32c: str | None = None

    @property
    def left(self) -> int:
        """See `Job`."""
        return self._length - len(self.data)

    generation: int | None = None
    range: tuple[int, int] | None = None

    def begin(self, head: Head) -> int:
        """See `Job`."""
        check_status(self.name, head)
        if head.length is None:
            raise BucketUnavailable(f"{self.name}: answered without a length: something on the way rewrites it")
        if head.length > self._limit:
            raise DocumentMalformed(self.name, f"{head.length} bytes, more than the {self._limit} allowed")
        self._length = head.length
        self._crc32c = head.crc32c
        self.data.clear()
        self._check()
        return self._length

    def receive(self, buffer: Buffer, start: int, end: int) -> None:
        """See `Job`."""
        self.data += buffer.view[start:end]
        self._check()

    def _check(self) -> None:
        if self.left:
            return
        found = format_crc32c(google_crc32c.value(bytes(self.data)))
        if self._crc32c not in (None, found):
            self.data.clear()
            raise BucketUnavailable(f"{self.name}: the bytes that came don't have the object's crc32c; it may pass")
        self.finished = True

    @property
    def waiting(self) -> int:
        """See `Source`."""
        return 0 if self._taken else 1

    @property
    def waiting_spans(self) -> int:
        """See `Source`."""
        return self.waiting

    def next_bytes(self) -> int:
        """See `Source`."""
        return self.waiting

    def take(self, rate: float, connections: int) -> Job | None:  # noqa: ARG002 - one job, whatever the connection
        """See `Source`."""
        if self._taken:
            return None
        self._taken = True
        return self

    def give_back(self, job: Job) -> None:  # noqa: ARG002
        """See `Source`."""
        self.data.clear()
        self._length = 0
        self._taken = False

    def split(self, job: Job) -> Job | None:  # noqa: ARG002
        """See `Source`."""
        return None

    def flush(self) -> None:
        """See `Source`."""
