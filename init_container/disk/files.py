"""The files of a plan as jobs: spans are given out, written as they come, and summed up at the end."""

from __future__ import annotations

from collections import Counter

from init_container.crc32c import Buffer
from init_container.disk.parts import Parts
from init_container.disk.spans import Span, Spans, span_bytes, steal
from init_container.network.answers import Head, ObjectReplaced, check_range, check_status
from init_container.network.jobs import Job, Source
from init_container.plan import Plan, Wanted
from init_container.processes.ledger import Ledger
from model_repository.digests import format_crc32c
from model_repository.errors import BuildIncomplete, ObjectMissing

_REREADS = 2
"""A file whose bytes came but don't sum up is fetched this often again before it is given up."""


class FileJob:
    """A span of a file of the plan."""

    ranged = True

    def __init__(self, files: Files, span: Span) -> None:
        """Ask for what is left of the span."""
        self._files = files
        self.span = span
        self._asked = span.start, span.end  # `split` may cut the span before its answer begins
        self.file: Wanted = files.plan.files[span.file]
        self.name = self.file.name

    @property
    def generation(self) -> int | None:
        """See `Job`."""
        return self._files.ledger.pinned(self.span.file)

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
        start, end = self._asked
        check_range(self.name, head, self.file.size, start, end)
        promised = format_crc32c(self.file.crc32c)
        if head.crc32c not in (None, promised):
            raise BuildIncomplete(self.name, f"crc32c {promised}", f"crc32c {head.crc32c}")
        if found is not None and pinned is None:
            first = self._files.ledger.pin(self.span.file, found)
            if first != found:  # another process was told so meanwhile
                raise ObjectReplaced(self.name, first)
        return end - start

    def receive(self, buffer: Buffer, start: int, end: int) -> None:
        """See `Job`."""
        position = self.span.start
        self.span.start += end - start
        whole = self._files.parts.write(self.span.file, position, buffer, start, end)
        self._files.received(self, whole=whole)


class Files(Source):
    """All files of a plan that aren't whole yet, as far as this process fetches them."""

    def __init__(self, plan: Plan, parts: Parts, ledger: Ledger, *, range_bytes: int) -> None:
        """range_bytes: how much to ask for at once, or 0."""
        self.plan = plan
        self.parts = parts
        self.ledger = ledger
        self._range_bytes = range_bytes
        self._rereads: dict[int, int] = {}
        self._open = set(range(len(plan.files)))
        self.begin(processes=1)

    def begin(self, *, processes: int) -> None:
        """Fetch what is missing. processes: how many share the ledger. Raises `BuildIncomplete`."""
        self._processes = processes
        self._fetching: Counter[int] = Counter()
        for number in self._open & self.parts.whole():
            self._settle(number)
        self.ledger.rewind()
        self._spans = Spans(self.parts.missing(), self.ledger)

    @property
    def finished(self) -> bool:
        """See `Source`: whether this process has no more to do; `whole` says whether that was all."""
        return not self._fetching and not self._spans.left

    @property
    def whole(self) -> bool:
        """Whether this process knows every file to be there and right."""
        return not self._open

    @property
    def waiting(self) -> int:
        """See `Source`."""
        return self._spans.left

    def waiting_spans(self) -> int:
        """See `Source`."""
        return self._spans.count

    def next_bytes(self) -> int:
        """See `Source`."""
        return self._spans.peek()

    def take(self, rate: float, connections: int) -> Job | None:
        """See `Source`."""
        size = span_bytes(rate, self._spans.left, self._processes * connections, self._range_bytes)
        return self._job(self._spans.take(size))

    def split(self, job: Job) -> Job | None:
        """See `Source`."""
        return self._job(steal(job.span)) if isinstance(job, FileJob) else None

    def _job(self, span: Span | None) -> Job | None:
        if span is None:
            return None
        self._fetching[span.file] += 1
        return FileJob(self, span)

    def give_back(self, job: Job) -> None:
        """See `Source`."""
        if isinstance(job, FileJob):
            self._ended(job)
            self._spans.give_back(job.span)

    def _ended(self, job: FileJob) -> None:
        number = job.span.file
        self._fetching[number] -= 1
        if not self._fetching[number]:
            del self._fetching[number]
            self.parts.shut(number)

    def flush(self) -> None:
        """See `Source`."""
        self.parts.flush()

    def received(self, job: FileJob, *, whole: bool) -> None:
        """Bytes of a job were written. whole: all of its file are there now, as far as this process knows."""
        if not job.span.left:
            self._ended(job)
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
        if self._rereads.get(number, 0) >= _REREADS or not file.size:
            raise BuildIncomplete(file.name, f"crc32c {format_crc32c(file.crc32c)}", f"crc32c {format_crc32c(crc)}")
        self._rereads[number] = self._rereads.get(number, 0) + 1
        return self.parts.forget(number)
