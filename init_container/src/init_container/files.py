"""The files of a plan as jobs: spans are given out, written as they come, and summed up at the end."""

from __future__ import annotations

from init_container.answers import Head, ObjectReplaced, check_range, check_status
from init_container.crc32c import Buffer
from init_container.jobs import Job
from init_container.parts import Parts
from init_container.plan import Plan, Wanted, check_whole
from init_container.spans import Span, Spans, span_bytes, steal
from model_repository.digests import format_crc32c
from model_repository.errors import BuildIncomplete, ObjectMissing

_REREADS = 2
"""A file whose bytes came but don't sum up is fetched this often again before it is given up."""


class FileJob:
    """A span of a file of the plan."""

    def __init__(self, files: Files, span: Span) -> None:
        """Ask for what is left of the span."""
        self._files = files
        self.span = span
        self.file: Wanted = files.plan.files[span.file]
        self.name = self.file.name

    @property
    def attempts(self) -> int:
        """See `Job`."""
        return self.span.attempts

    @attempts.setter
    def attempts(self, value: int) -> None:
        self.span.attempts = value

    @property
    def left(self) -> int:
        """See `Job`."""
        return self.span.left

    @property
    def generation(self) -> int | None:
        """See `Job`."""
        return self._files.generations.get(self.span.file)

    @property
    def range(self) -> tuple[int, int]:
        """See `Job`."""
        return self.span.start, self.span.end

    def begin(self, head: Head) -> int:
        """See `Job`."""
        pinned = self.generation
        try:
            check_status(self.name, head)
        except ObjectMissing:
            if pinned is not None:
                raise ObjectReplaced(self.name, pinned) from None
            raise
        found = head.generation
        if pinned is not None and found not in (None, pinned):
            raise ObjectReplaced(self.name, pinned)
        check_range(self.name, head, self.file.size, self.span.start, self.span.end)
        promised = format_crc32c(self.file.crc32c)
        if head.crc32c not in (None, promised):
            raise BuildIncomplete(self.name, f"crc32c {promised}", f"crc32c {head.crc32c}")
        if found is not None:
            self._files.generations[self.span.file] = found
        return self.span.left

    def receive(self, buffer: Buffer, start: int, end: int) -> None:
        """See `Job`."""
        position = self.span.start
        self.span.start += end - start
        if self._files.parts.write(self.span.file, position, buffer, start, end):
            self._files.complete(self.span.file)


class Files:
    """All files of a plan that aren't whole yet."""

    def __init__(self, plan: Plan, parts: Parts, *, range_bytes: int) -> None:
        """range_bytes: how much to ask for at once, or 0."""
        self.plan = plan
        self.parts = parts
        self.generations: dict[int, int] = {}
        self.rereads: dict[int, int] = {}
        self._range_bytes = range_bytes
        missing = parts.missing()
        self._spans = Spans(missing)
        self._open = {span.file for span in missing}
        for number in range(len(plan.files)):
            if number not in self._open:
                self._open.add(number)
                self.complete(number)

    @property
    def finished(self) -> bool:
        """See `Source`."""
        return not self._open

    @property
    def waiting(self) -> int:
        """See `Source`."""
        return self._spans.left

    def next_bytes(self) -> int:
        """See `Source`."""
        return self._spans.peek()

    def take(self, rate: float, connections: int) -> Job | None:
        """See `Source`."""
        span = self._spans.take(span_bytes(rate, self._spans.left, connections, self._range_bytes))
        return None if span is None else FileJob(self, span)

    def give_back(self, job: Job) -> None:
        """See `Source`."""
        if isinstance(job, FileJob):
            self._spans.give_back(job.span)

    def split(self, job: Job) -> Job | None:
        """See `Source`."""
        half = steal(job.span) if isinstance(job, FileJob) else None
        return None if half is None else FileJob(self, half)

    def flush(self) -> None:
        """See `Source`."""
        self.parts.flush()

    def complete(self, number: int) -> None:
        """A file has all its bytes: they are right, or come once more, or are given up (`BuildIncomplete`)."""
        file = self.plan.files[number]
        crc = self.parts.crc32c(number)
        if crc == file.crc32c:
            self._open.discard(number)
            return
        if self.rereads.get(number, 0) >= _REREADS or not file.size:
            check_whole(file, crc)
        self.rereads[number] = self.rereads.get(number, 0) + 1
        for span in self.parts.forget(number):
            self._spans.add(span)
