"""One connection at work: requests go out, answers come in, in order; HTTP/1.1 and nothing else."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from http import HTTPStatus

from init_container.crc32c import Buffer
from init_container.network.answers import REASON_LIMIT, AnswerMalformed, Head, parse_head, reason
from init_container.network.jobs import Job
from init_container.network.transport import Connection

_HEAD_LIMIT = 64 * 1024
_BLOCK = 512 * 1024
"""Writes end at multiples of this: the page cache then takes each into one folio, where one that begins or ends inside
of a page makes a dozen, and that page is begun twice."""
_SOON = 0.05
"""Seconds that a connection's bytes may wait in the kernel until a block of them is there."""


class Pipeline:
    """A connection and the jobs that it was asked for, the oldest first.

    sent_at: when it was last asked. received: bytes of bodies so far. speed: bytes/s of late, 0 if unknown.
    token: the authorisation that the last request carried. doomed: to be closed: it would bring what nobody wants.
    """

    def __init__(self, connection: Connection, now: float) -> None:
        """Work with a connection that may still be opening."""
        self.connection = connection
        self.jobs: deque[Job] = deque()
        self.sent_at = now
        self.received = 0
        self.speed = 0.0
        self.token = ""
        self.doomed = False
        self.progress = 0
        self._body = 0
        self._in_body = False
        self._rest = b""
        self._measured_at, self._measured = now, 0
        self._alive_at, self._alive = now, 0

    def ask(self, jobs: list[Job], requests: bytes, token: str, now: float) -> None:
        """Send the requests of some jobs; raises OSError."""
        if not self.jobs:
            self._alive_at, self._alive = now, self.received
            self._measured_at, self._measured = now, self.received
            self.progress = self.received
        self.jobs.extend(jobs)
        self.sent_at, self.token = now, token
        self.connection.send(requests)

    def pump(self, buffer: Buffer, answered: Callable[[], None]) -> None:
        """Take in what has come. Raises OSError and whatever the jobs make of it."""
        while True:
            offset = len(self._rest)
            if offset:
                buffer.view[:offset] = self._rest
                self._rest = b""
            room = buffer.view[offset : self._room(len(buffer.view))]
            count = self.connection.read_into(room, sip=len(self.jobs) > 1)
            end = offset + count
            position = self._consume(buffer, end, answered)
            if position < end and not self.doomed:
                self._rest = bytes(buffer.view[position:end])
            if not count or self.doomed or not self.connection.buffered:
                self._set_alarm()
                return

    def _room(self, size: int) -> int:
        """How far to fill a buffer of `size`: so that what is written of it ends with a block of the file."""
        if not self._in_body:
            return size
        room = _BLOCK - self.jobs[0].span.start % _BLOCK
        return room + _BLOCK if room + _BLOCK <= size else room

    def _set_alarm(self) -> None:
        """Wake for whole blocks where they come soon: a turn for a few bytes costs as much as one for many."""
        soon = self.speed * _SOON >= _BLOCK
        self.connection.wake_at(_BLOCK if soon and self._in_body and self._body >= 2 * _BLOCK else 1)

    def _consume(self, buffer: Buffer, end: int, answered: Callable[[], None]) -> int:
        position = 0
        while position < end and not self.doomed:
            if not self._in_body:
                stop = buffer.find(b"\r\n\r\n", position, end)
                if stop < 0:
                    if end - position > _HEAD_LIMIT:
                        raise AnswerMalformed("an answer's head is longer than 64 KiB")
                    return position
                head = parse_head(bytes(buffer.view[position:stop]))
                if head.status >= HTTPStatus.BAD_REQUEST:
                    body = bytes(buffer.view[stop + 4 : min(end, stop + 4 + REASON_LIMIT)])
                    if len(body) < min(head.length or 0, REASON_LIMIT):
                        return position  # its reason is still to come
                    head = replace(head, reason=reason(head, body))
                self._begin(head, answered)
                position = stop + 4
            job = self.jobs[0]
            take = min(end - position, self._body, job.span.left)
            if take:
                job.receive(buffer, position, position + take)
                position += take
                self._body -= take
                self.received += take
            if not job.span.left:
                self._end()
        return position

    def _begin(self, head: Head, answered: Callable[[], None]) -> None:
        if not self.jobs:
            raise AnswerMalformed("an answer came that nobody asked for")
        self._body = self.jobs[0].begin(head)
        self._in_body = True
        self.closing = head.closes
        answered()

    closing = False
    """The server said that it closes the connection after this answer."""

    def _end(self) -> None:
        self.jobs.popleft()
        self._in_body = False
        self.progress = self.received
        # What follows a span that was cut short is fetched by another connection.
        self.doomed = self._body > 0 or self.closing

    def measure(self, now: float) -> None:
        """Bring `speed` up to date; called a few times a second."""
        seconds = now - self._measured_at
        if seconds <= 0 or not self.jobs:
            return
        speed = (self.received - self._measured) / seconds
        self.speed = speed if not self.speed else (self.speed + speed) / 2
        self._measured_at, self._measured = now, self.received
        self._set_alarm()

    def stalled(self, now: float, patience: float, slowest: float) -> bool:
        """Whether in `patience` seconds less came than `slowest` bytes/s make; a drip counts as a stall."""
        if now - self._alive_at < patience or not (self.jobs or not self.connection.opened):
            return False
        dead = self.received - self._alive < slowest * patience
        self._alive_at, self._alive = now, self.received
        return dead
