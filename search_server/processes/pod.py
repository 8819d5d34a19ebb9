"""What the processes of a pod know of each other: numbers, and last words, in memory that all of them map.

Each process writes to its own part alone, so nothing is locked; numbers of 8 bytes are never read half. So whoever is
asked (the probes' port, or any worker on the callers' port) answers for the pod without asking anybody.
"""

from __future__ import annotations

import mmap
import os
import struct
import time

from search_server.processes.counters import Counters

_WORDS = 4096
"""Bytes of last words that are kept: as many as Kubernetes keeps."""
_OWN, _SHARED = 11, 17
"""How many numbers a process has, besides what it counts, and how many are the pod's."""
_SIZE = 8 * (_OWN + Counters.SIZE) + 4 + _WORDS
_PART = -(-_SIZE // mmap.PAGESIZE) * mmap.PAGESIZE


def microseconds() -> int:
    """Since 1970."""
    return time.time_ns() // 1000


class _Number:
    """An attribute that is kept in the shared memory."""

    def __init__(self, at: int) -> None:
        self._at = at

    def __get__(self, part: ProcessState | PodState, owner: type) -> int:
        return int(part.numbers[self._at])

    def __set__(self, part: ProcessState | PodState, value: int) -> None:
        part.numbers[self._at] = value


class ProcessState:
    """One process: what it counted, and how it is.

    beats: grows by one each second in which its event loop turns. ready: 1, it has proved the build and answers.
    connections, answering, pictures: open, with a request under way, waiting for the model. items: of the index.
    filter: the number of the masks that it maps.
    began, opened, proved: when it began to open the build, had it and its models open, and had proved them, in
    microseconds since 1970; 0: not yet.
    """

    beats, ready, connections, answering = _Number(0), _Number(1), _Number(2), _Number(3)
    pictures, items, pid, filter = _Number(4), _Number(5), _Number(6), _Number(7)
    began, opened, proved = _Number(8), _Number(9), _Number(10)

    def __init__(self, part: memoryview) -> None:
        end = 8 * (_OWN + Counters.SIZE)
        self.numbers = part[:end].cast("d")
        self.counters = Counters(self.numbers[_OWN:])
        self._words = part[end : end + 4 + _WORDS]

    def begin(self) -> None:
        """A new process takes over; what its predecessors counted stays counted."""
        for at in range(_OWN):
            self.numbers[at] = 0
        self._words[:4] = bytes(4)

    def say_last(self, code: str, message: str, exit_code: int) -> None:
        """Leave word why this process ends."""
        said = f"{exit_code} {code} {message}".encode(errors="replace")[:_WORDS]
        self._words[4 : 4 + len(said)] = said
        self._words[:4] = struct.pack("=i", len(said))

    def last_words(self) -> tuple[str, str, int] | None:
        """Code, message and exit status; None if it said nothing."""
        (length,) = struct.unpack("=i", self._words[:4])
        if not length:
            return None
        exit_code, code, message = bytes(self._words[4 : 4 + length]).decode(errors="ignore").split(" ", 2)
        return code, message, int(exit_code)


class PodState:
    """All processes: the workers, and the supervisor.

    was_ready: 1 from the first moment on in which all workers were ready. draining: 1, the pod is leaving.
    read_in: 1, the build's files have been read into memory. deaths: workers that died and were replaced.
    filter_read: 1, the live filter was read, or there is to be none. filter: how often masks were made, which numbers
    the newest; 0: everything may be found.
    remembered_here, unknown_here: photos that the pod remembered, and that it didn't; remembered_there, unknown_there,
    shared_failures, garbled: what the shared cache said of the latter, how often it didn't answer, and what was none.
    remembered_bytes: of what the pod remembers. shared_well: 1, there is a shared cache and it answers.
    remote_proved: 1, whoever embeds elsewhere proved itself. remote_failures, remote_refusals: photos that failed
    there, and that were refused here.
    """

    was_ready, draining, read_in, deaths = _Number(0), _Number(1), _Number(2), _Number(3)
    filter_read, filter = _Number(4), _Number(5)
    remembered_here, unknown_here, remembered_there, unknown_there = _Number(6), _Number(7), _Number(8), _Number(9)
    shared_failures, garbled, remembered_bytes, shared_well = _Number(10), _Number(11), _Number(12), _Number(13)
    remote_proved, remote_failures, remote_refusals = _Number(14), _Number(15), _Number(16)

    def __init__(self, file: int, workers: int) -> None:
        """Map the memory behind the descriptor `file`; use `create` for a new one."""
        self.file = file
        memory = memoryview(mmap.mmap(file, _PART * (workers + 2)))
        self.numbers = memory[: 8 * _SHARED].cast("d")
        parts = [ProcessState(memory[_PART * n : _PART * (n + 1)]) for n in range(1, workers + 2)]
        self.workers, self.supervisor = tuple(parts[:-1]), parts[-1]

    @classmethod
    def create(cls, workers: int) -> PodState:
        """Memory for a pod of so many workers."""
        file = os.memfd_create("pod")
        os.ftruncate(file, _PART * (workers + 2))
        return cls(file, workers)

    @property
    def all_ready(self) -> bool:
        """Whether every worker has proved itself, the build is in memory, and the filter in force."""
        return bool(self.read_in and self.filter_read) and all(worker.ready for worker in self.workers)

    @property
    def closed_because(self) -> str | None:
        """Why nothing new should be sent to the pod; None: it is ready."""
        if self.draining:
            return "the server is leaving"
        if not self.was_ready:
            proved = all(worker.ready for worker in self.workers)
            waits = proved and not self.filter_read
            return "the live filter is being read" if waits else "the index is being opened and proved"
        return None if self.all_ready else "a worker is being replaced"
