"""What stands between uvicorn and a connection: how it is closed, and when it is read.

It is closed as RFC 9112, section 9.6, asks: we end our side, then read on until the client has ended its own. To close
at once with bytes unread would make the kernel send a reset, which can destroy an answer on its way.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Protocol

from uvicorn.protocols.http.flow_control import FlowControl

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_UNSENT_BYTES = 16 * 1024
"""An answer of which more is left to send blocks its connection: no further one is begun, and it counts as held."""


class Time(Protocol):
    """now: seconds that only grow, as of the last tick: exact enough for patience, and free."""

    now: float


class HalfClosing:
    """A transport whose `close` ends our side alone; `closing_since` tells since when.

    An answer's head waits for its body, which uvicorn writes right after it: one system call and one segment.
    """

    def __init__(self, transport: asyncio.Transport, time: Time) -> None:
        self._transport = transport
        self._time = time
        self.closing_since: float | None = None
        self._head = b""
        self.abort = transport.abort
        self.pause_reading, self.resume_reading = transport.pause_reading, transport.resume_reading
        self.get_extra_info = transport.get_extra_info
        self.unsent = transport.get_write_buffer_size
        transport.set_write_buffer_limits(_UNSENT_BYTES)

    def write(self, data: bytes) -> None:
        """Send this; an answer's head goes with what comes next."""
        if not self._head and data.startswith(b"HTTP/1.1 ") and not data.startswith(CONTINUE):
            self._head = data
        else:
            self._transport.write(self._head + data)
            self._head = b""

    def flush(self) -> None:
        """Send a head that nothing follows."""
        if self._head:  # an answer to HEAD, or one without a body
            self._transport.write(self._head)
            self._head = b""

    def is_closing(self) -> bool:
        """Whether our side has ended."""
        return self.closing_since is not None or self._transport.is_closing()

    def close(self) -> None:
        """End our side, and read on."""
        if not self.is_closing():
            self.flush()
            self.closing_since = self._time.now
            self._transport.resume_reading()
            self._transport.write_eof()


class Flow(FlowControl):
    """A connection's, which reads nothing while requests wait that came before: whoever sends many at once sent them.

    uvicorn would read on whenever one of them is answered, or asks for its body, and that has come if another has.
    """

    def __init__(self, transport: asyncio.Transport, waiting: deque[Any]) -> None:
        """waiting: requests that came before their time."""
        super().__init__(transport)
        self._waiting = waiting

    def resume_reading(self) -> None:
        """Read on, unless requests wait."""
        if self.read_paused and not self._waiting:
            super().resume_reading()
