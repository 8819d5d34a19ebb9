"""The store of verified parts: a folder being filled, and a journal of what in it is known to be good.

Every write is summed on its way and then noted: file, start, end, crc32c. A pull that was killed reads the journal,
reads those bytes back from the disk, and fetches only what is missing or doesn't sum up. Reading back is also why
nothing is flushed to the disk on the way: after a power cut, a part that never reached it is found out.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from init_container.crc32c import Buffer, combine, extend
from init_container.disk.layout import JOURNAL, disk
from init_container.disk.spans import Span
from init_container.plan import Plan, Wanted
from model_repository.documents.files import BLOCK_BYTES

_RECORD = struct.Struct("<IQQI")
_CHECK = struct.Struct("<I")
_RECORD_BYTES = _RECORD.size + _CHECK.size
_PART_BYTES = BLOCK_BYTES
"""A part that doesn't sum up is fetched again whole, so it must not be too long."""
_PREALLOCATE = 4 * 1024 * 1024


@dataclass(slots=True)
class Part:
    """Bytes ``[start, end)`` of a file, on the disk, and their crc32c."""

    start: int
    end: int
    crc32c: int


@dataclass(slots=True)
class _State:
    """What is known of one file. by_end: its parts, by where they end: there the next bytes are added."""

    descriptor: int = -1
    have: int = 0
    by_end: dict[int, Part] = field(default_factory=dict)


class Parts:
    """The folder of one plan's files while they are coming in.

    have: bytes on the disk that summed up.
    """

    def __init__(self, folder: Path, plan: Plan) -> None:
        """Open the folder, which must exist, and take up what an earlier pull of the same plan left in it."""
        self._folder = str(folder)
        self.have = 0
        self._plan = plan
        self._states = [_State() for _ in plan.files]
        self._touched: dict[tuple[int, int], Part] = {}
        self._forgotten: list[int] = []
        self._made: set[str] = set()
        self._journal = -1
        self._shared_from = 0
        with disk(folder):
            self._open_journal()

    def close(self) -> None:
        """Close what is open; what was not flushed is lost."""
        for number in range(len(self._states)):
            self.shut(number)
        if self._journal >= 0:
            os.close(self._journal)
            self._journal = -1

    def whole(self) -> set[int]:
        """The files of which all bytes are on the disk, right or not."""
        return {number for number, state in enumerate(self._states) if state.have == self._plan.files[number].size}

    def missing(self) -> list[Span]:
        """What is still to be fetched, in the plan's order."""
        return [span for number in range(len(self._plan.files)) for span in self._missing_of(number)]

    def _missing_of(self, number: int) -> Iterator[Span]:
        reached = 0
        for part in self._parts_of(number):
            if part.start > reached:
                yield Span(number, reached, part.start)
            reached = part.end
        if reached < self._plan.files[number].size:
            yield Span(number, reached, self._plan.files[number].size)

    def _parts_of(self, number: int) -> list[Part]:
        return sorted(self._states[number].by_end.values(), key=_start)

    def write(self, number: int, position: int, buffer: Buffer, start: int, end: int) -> bool:
        """Sum and write ``buffer[start:end]`` at `position` of a file; True if the file has all its bytes now."""
        file, state = self._plan.files[number], self._states[number]
        with disk(file.path):
            if state.descriptor < 0:
                self._open(file, state)
            view = buffer.view[start:end]
            written = os.pwrite(state.descriptor, view, position)
            while written < end - start:  # a disk about to be full takes a part; the next call says so
                written += os.pwrite(state.descriptor, view[written:], position + written)
        part = state.by_end.pop(position, None)
        if part is None or part.end - part.start >= _PART_BYTES:
            if part is not None:
                state.by_end[position] = part
            part = Part(position, position, 0)
        part.crc32c = extend(part.crc32c, buffer, start, end)
        part.end += end - start
        # Keyed by its end, a full part and the one that begins there never meet: the latter has grown already.
        state.by_end[part.end] = part
        state.have += end - start
        self.have += end - start
        self._touched[number, part.start] = part
        return state.have == file.size

    def shut(self, number: int) -> None:
        """Nothing is written to a file for now."""
        state = self._states[number]
        if state.descriptor >= 0:
            os.close(state.descriptor)
            state.descriptor = -1

    def crc32c(self, number: int) -> int:
        """The crc32c of a whole file, put together from its parts."""
        crc = 0
        for part in self._parts_of(number):
            crc = combine(crc, part.crc32c, part.end - part.start) if part.start else part.crc32c
        return crc

    def forget(self, number: int) -> list[Span]:
        """Drop what is wrong of a file that has all its bytes but doesn't sum up; returns what to fetch again.

        Where the manifest has sums of blocks, that is the blocks which don't sum up, otherwise the file.
        """
        good = self._good_blocks(number)
        self._hold(number, good)
        self._forgotten.append(number)
        self._touched = {key: part for key, part in self._touched.items() if key[0] != number}
        self._touched |= {(number, block.start): block for block in good}
        return list(self._missing_of(number))

    def _hold(self, number: int, parts: Iterable[Part]) -> None:
        """Know of these parts of a file and of no others."""
        state = self._states[number]
        self.have -= state.have
        state.by_end = {part.end: part for part in parts}
        state.have = sum(part.end - part.start for part in state.by_end.values())
        self.have += state.have

    def _good_blocks(self, number: int) -> list[Part]:
        file = self._plan.files[number]
        starts = range(0, file.size, BLOCK_BYTES)
        blocks = [Part(at, min(at + BLOCK_BYTES, file.size), crc) for at, crc in zip(starts, file.blocks, strict=False)]
        good = good_parts(f"{self._folder}/{file.path}", blocks)
        return good if len(good) < len(blocks) else []  # all good: the manifest contradicts itself

    def flush(self) -> None:
        """Note what was written since the last call."""
        if not self._touched and not self._forgotten:
            return
        records = [_record(number, 0, 0, 0) for number in self._forgotten]
        records += [_record(number, part.start, part.end, part.crc32c) for (number, _), part in self._touched.items()]
        self._forgotten.clear()
        self._touched.clear()
        data = b"".join(records)
        with disk(JOURNAL):
            while data:  # a disk about to be full takes a part; the next call says so
                data = data[os.write(self._journal, data) :]

    def share(self) -> None:
        """From here on forked processes write into the folder too, and note it in the same journal."""
        self.flush()
        self._shared_from = os.fstat(self._journal).st_size

    def gather(self) -> None:
        """Take up what all processes noted since `share`: no other pull left it, so it isn't read back."""
        with disk(JOURNAL):
            size = os.fstat(self._journal).st_size - self._shared_from
            data = os.pread(self._journal, size, self._shared_from)
        for number, parts in self._noted(data)[0].items():
            self._hold(number, parts)

    def allocate(self) -> None:
        """Make the files that have no bytes, which nobody asks the bucket for, and room for the large ones.

        To be done before several processes write: where a file system can't allocate, the C library writes zeros
        into the blocks that it finds empty, and they may land on bytes that have just come.
        """
        for number in range(len(self._states)):
            file, state = self._plan.files[number], self._states[number]
            if file.size and (file.size < _PREALLOCATE or state.have == file.size):
                continue
            with disk(file.path):
                self._open(file, state)
                if file.size:
                    os.posix_fallocate(state.descriptor, 0, file.size)
            self.shut(number)

    def _open(self, file: Wanted, state: _State) -> None:
        path = f"{self._folder}/{file.path}"
        parent = path.rpartition("/")[0]
        if parent not in self._made:
            os.makedirs(parent, exist_ok=True)  # noqa: PTH103 - thousands of files: Path costs more than the call
            self._made.add(parent)
        state.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)

    def _open_journal(self) -> None:
        first = f"indexpush pull 1 {self._plan.digest}\n".encode()
        self._journal = os.open(f"{self._folder}/{JOURNAL}", os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        data = os.pread(self._journal, os.fstat(self._journal).st_size, 0)
        whole = 0
        if data.startswith(first):
            whole = len(first) + self._replay(data[len(first) :])
        os.ftruncate(self._journal, whole)
        if not whole:
            os.write(self._journal, first)

    def _replay(self, data: bytes) -> int:
        """Take up the parts that are noted and still sum up; returns how many bytes of notes made sense."""
        noted, length = self._noted(data)
        for number, parts in noted.items():
            file, good, reached = self._plan.files[number], list[Part](), 0
            for part in good_parts(f"{self._folder}/{file.path}", parts):
                if reached <= part.start < part.end <= file.size:
                    good.append(part)
                    reached = part.end
            self._hold(number, good)
        return length

    def _noted(self, data: bytes) -> tuple[dict[int, list[Part]], int]:
        """What is known of each file that notes are about, in order, and how many bytes of notes made sense.

        A note says that a part is new or grew, or, if it ends at 0, that nothing is known of the file any more.
        """
        known: dict[int, dict[int, Part]] = {}
        length = 0
        for number, part, length in self._notes(data):  # noqa: B007 - the last one's
            if number not in known:
                known[number] = {held.start: held for held in self._parts_of(number)}
            if part.end:
                known[number][part.start] = part
            else:
                known[number].clear()
        return {number: sorted(parts.values(), key=_start) for number, parts in known.items()}, length

    def _notes(self, data: bytes) -> Iterator[tuple[int, Part, int]]:
        """The notes that make sense, in order: a file's number, a part, and where in `data` the note ends.

        A kill or a full disk may cut a note short, and other processes write on behind it: what is left of it is
        passed over. A power cut may leave anything: there the notes end.
        """
        offset = skipped = 0
        while offset + _RECORD_BYTES <= len(data) and skipped < _RECORD_BYTES:
            record = data[offset : offset + _RECORD.size]
            (check,) = _CHECK.unpack_from(data, offset + _RECORD.size)
            number, start, end, crc = _RECORD.unpack(record)
            if check != zlib.crc32(record) or number >= len(self._states):
                offset, skipped = offset + 1, skipped + 1
                continue
            offset, skipped = offset + _RECORD_BYTES, 0
            yield number, Part(start, end, crc), offset


def _start(part: Part) -> int:
    return part.start


def _record(number: int, start: int, end: int, crc: int) -> bytes:
    record = _RECORD.pack(number, start, end, crc)
    return record + _CHECK.pack(zlib.crc32(record))


def good_parts(path: str | Path, parts: Iterable[Part]) -> list[Part]:
    """Those parts of a file that are on the disk and sum up; none if it can't be read."""
    buffer = Buffer()
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            return [part for part in parts if _crc32c(descriptor, part, buffer) == part.crc32c]
        finally:
            os.close(descriptor)
    return []


def _crc32c(descriptor: int, part: Part, buffer: Buffer) -> int | None:
    """The crc32c of what stands where a part of an open file should; None if the file ends before."""
    crc, position = 0, part.start
    while position < part.end:
        count = os.preadv(descriptor, [buffer.view[: part.end - position]], position)
        if not count:
            return None
        crc = extend(crc, buffer, 0, count)
        position += count
    return crc
