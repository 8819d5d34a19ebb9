"""The files of a plan as jobs: spans are given out, written as they come, and summed up at the end."""

from __future__ import annotations

from init_container.answers import Head, ObjectReplaced, check_range, check_status
from init_container.crc32c import Buffer
from init_container.jobs import Job
from init_container.parts import Parts
from init_container.plan import Plan, Wanted, check_whole
from init_container.spans import Cursor, Span, Spans, span_bytes, steal
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
        whole = self._files.parts.write(self.span.file, position, buffer, start, end)
        self._files.received(self, whole=whole)


class Files:
    """All files of a plan that aren't whole yet, as far as this process fetches them."""

    def __init__(self, plan: Plan, parts: Parts, cursor: Cursor, *, range_bytes: int, processes: int = 1) -> None:
        """range_bytes: how much to ask for at once, or 0. processes: how many share the cursor."""
        self.plan = plan
        self.parts = parts
        self.generations: dict[int, int] = {}
        self.rereads: dict[int, int] = {}
        self._range_bytes = range_bytes
        self._processes = processes
        self._open = set(range(len(plan.files)))
        self.begin(cursor)

    def begin(self, cursor: Cursor) -> None:
        """Fetch what is missing, as far as the cursor gives it; raises `BuildIncomplete`."""
        self._fetching = 0
        for number in self._open & self.parts.whole():
            self._settle(number)
        self._spans = Spans(self.parts.missing(), cursor)

    @property
    def finished(self) -> bool:
        """See `Source`."""
        return not self._fetching and not self._spans.left

    @property
    def waiting(self) -> int:
        """See `Source`."""
        return self._spans.left

    def next_bytes(self) -> int:
        """See `Source`."""
        return self._spans.peek()

    def take(self, rate: float, connections: int) -> Job | None:
        """See `Source`."""
        size = span_bytes(rate, self._spans.left, self._processes * connections, self._range_bytes)
        return self._job(self._spans.take(size))

    def give_back(self, job: Job) -> None:
        """See `Source`."""
        if isinstance(job, FileJob):
            self._fetching -= 1
            self._spans.give_back(job.span)

    def split(self, job: Job) -> Job | None:
        """See `Source`."""
        return self._job(steal(job.span)) if isinstance(job, FileJob) else None

    def _job(self, span: Span | None) -> Job | None:
        if span is None:
            return None
        self._fetching += 1
        return FileJob(self, span)

    def flush(self) -> None:
        """See `Source`."""
        self.parts.flush()

    def received(self, job: FileJob, *, whole: bool) -> None:
        """Bytes of a job were written. whole: all of its file are there now, written by this process."""
        if not job.left:
            self._fetching -= 1
        if whole:
            for span in self._settle(job.span.file):
                self._spans.add(span)

    def _settle(self, number: int) -> list[Span]:
        """A file has all its bytes: they are right, or are to come once more, or are given up (`BuildIncomplete`)."""
        file = self.plan.files[number]
        crc = self.parts.crc32c(number)
        if crc == file.crc32c:
            self._open.discard(number)
            return []
        if self.rereads.get(number, 0) >= _REREADS or not file.size:
            check_whole(file, crc)
        self.rereads[number] = self.rereads.get(number, 0) + 1
        return self.parts.forget(number)
