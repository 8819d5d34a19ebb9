"""Connections that never block: TCP, then perhaps a proxy's CONNECT, then perhaps TLS.

TLS runs over two memory BIOs, so that one receive of the socket takes in many records; `SSLSocket` makes two system
calls for each 16 KiB.
"""

from __future__ import annotations

import base64
import errno
import os
import select
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import cast
from urllib.parse import unquote, urlsplit

from model_repository.errors import Misconfigured

READ = select.EPOLLIN
WRITE = select.EPOLLOUT
_HEAD_LIMIT = 16 * 1024
_RECORD_LIMIT = 5 + 16 * 1024 + 256
"""Bytes of the longest TLS 1.3 record (RFC 8446, 5.2)."""

Address = tuple[int, tuple[object, ...]]
"""Family and socket address."""


class Broken(OSError):
    """The other side ended the connection, or said something that isn't the protocol."""


@dataclass(frozen=True, slots=True)
class Route:
    """How the bucket's server is reached.

    host, port: the server's. tls: whether it is spoken to over TLS. authority: as in the Host header.
    proxy: host and port of an HTTP proxy, or None; proxy_authorization: its header's value, or empty.
    """

    host: str
    port: int
    tls: bool
    authority: str
    proxy: tuple[str, int] | None = None
    proxy_authorization: str = ""

    @classmethod
    def of(cls, endpoint: str, proxy: str) -> Route:
        """The route to an ``http(s)://host[:port]`` endpoint, by way of `proxy` (may be empty)."""
        parts = urlsplit(endpoint)
        tls = parts.scheme == "https"
        route = cls(parts.hostname or "", parts.port or (443 if tls else 80), tls, parts.netloc)
        if not proxy:
            return route
        via = urlsplit(proxy)
        user = unquote(via.username or "")
        secret = base64.b64encode(f"{user}:{unquote(via.password or '')}".encode()).decode()
        authorization = f"Basic {secret}" if user else ""
        return cls(route.host, route.port, tls, route.authority, (via.hostname or "", via.port or 80), authorization)

    def resolve(self) -> list[Address]:
        """The addresses to connect to, in the resolver's order; raises OSError."""
        host, port = self.proxy or (self.host, self.port)
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return list(dict.fromkeys((family, tuple(address)) for family, _, _, _, address in found))


class Trust:
    """Which authorities are trusted: those of a PEM file, or the system's.

    context: checks host name and chain. To read all of the system's authorities takes 85 ms of processor time, more
    than all else before the first request. So where the system keeps them in a folder, by hash, only those that are
    met are read, and the whole bundle when that was not enough.
    """

    def __init__(self, certificates: str) -> None:
        """certificates: a PEM file, or empty: the system's. Raises `Misconfigured`."""
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._whole = False
        folder = ssl.get_default_verify_paths().capath
        try:
            if certificates:
                self.context.load_verify_locations(cafile=certificates)
                self._whole = True
            elif folder and any(name.endswith(".0") for name in os.listdir(folder)):  # noqa: PTH208 - pathlib costs more
                self.context.load_verify_locations(capath=folder)
            else:
                self.widen()
        except OSError as error:  # SSLError, if the file holds something else, is one too
            raise Misconfigured(f"SSL_CERT_FILE {certificates!r}: {error.strerror or error}") from error

    def widen(self) -> bool:
        """Trust all of the system's authorities from now on; False if that is so already."""
        if self._whole:
            return False
        self._whole = True
        self.context.load_default_certs()
        return True


class Connection:
    """One connection. Every method returns at once; `wants` says what to wait for."""

    def __init__(self, route: Route, address: Address, context: ssl.SSLContext | None) -> None:
        """Begin to connect; raises OSError."""
        self._route = route
        self._out = b""
        self._socket = socket.socket(address[0], socket.SOCK_STREAM)
        self._socket.setblocking(False)  # noqa: FBT003 - the socket's own signature
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._tls: ssl.SSLObject | None = None
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        if context is not None:
            self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=route.host)
        self._proxying = route.proxy is not None
        self._said = b""
        self._connecting = True
        self._wakes_at = 1
        self.opened = False
        code = self._socket.connect_ex(address[1])
        if code not in (0, errno.EINPROGRESS):
            self._socket.close()
            raise OSError(code, os.strerror(code))
        self.fileno = self._socket.fileno()

    def close(self) -> None:
        """Drop the connection, without ceremony."""
        self._socket.close()

    @property
    def wants(self) -> int:
        """What to wait for: READ, or READ | WRITE."""
        return READ | WRITE if self._connecting or self._out else READ

    def advance(self) -> bool:
        """Go on with opening; True once requests may be sent. Raises OSError."""
        if self._connecting:
            if code := self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                raise OSError(code, os.strerror(code))
            self._connecting = False
            if self._proxying:
                self._send_connect()
        if self._proxying and not self._read_connect():
            return False
        if self._tls is not None and not self._handshake(self._tls):
            return False
        self.opened = True
        return True

    def _send_connect(self) -> None:
        target = f"{self._route.host}:{self._route.port}"
        lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
        if self._route.proxy_authorization:
            lines.append(f"Proxy-Authorization: {self._route.proxy_authorization}")
        self._push("\r\n".join([*lines, "", ""]).encode())

    def _read_connect(self) -> bool:
        """Read the proxy's answer, byte by byte at its end so as to leave what follows for TLS."""
        while not self._said.endswith(b"\r\n\r\n"):
            try:
                byte = self._socket.recv(1)
            except BlockingIOError:
                return False
            if not byte or len(self._said) > _HEAD_LIMIT:
                raise Broken(errno.ECONNRESET, "the proxy ended the connection")
            self._said += byte
        status = self._said.split(b"\r\n", 1)[0].decode("latin-1")
        if not status.startswith("HTTP/1.") or status[8:12] != " 200":
            raise Broken(errno.ECONNREFUSED, f"the proxy answered {status[:80]!r}")
        self._proxying = False
        return True

    def _handshake(self, tls: ssl.SSLObject) -> bool:
        while True:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                self._push(self._outgoing.read())
                if not self._feed(_SCRATCH):
                    return False
            else:
                self._push(self._outgoing.read())
                return True

    def send(self, data: bytes) -> None:
        """Send, keeping what the socket doesn't take yet; raises OSError."""
        if self._tls is not None:
            self._tls.write(data)
            data = self._outgoing.read()
        self._push(data)

    def _push(self, data: bytes) -> None:
        self._out += data
        if self._out:
            with suppress(BlockingIOError):
                self._out = self._out[self._socket.send(self._out) :]

    def flush(self) -> None:
        """Send what was kept; raises OSError."""
        self._push(b"")

    def _feed(self, scratch: memoryview) -> bool:
        """Receive records into the BIO; False if there is nothing now."""
        try:
            count = self._socket.recv_into(scratch)
        except BlockingIOError:
            return False
        if not count:
            raise Broken(errno.ECONNRESET, "the server closed the connection")
        self._incoming.write(scratch[:count])
        return True

    def read_into(self, view: memoryview, *, sip: bool = False) -> int:
        """Receive up to ``len(view)`` bytes; 0 if there is nothing now. Raises OSError, `Broken` at the end.

        sip: in small pieces, so that TLS keeps half as much memory for this connection: for many of them.
        """
        if self._tls is None:
            try:
                count = self._socket.recv_into(view)
            except BlockingIOError:
                return 0
            if not count:
                raise Broken(errno.ECONNRESET, "the server closed the connection")
            return count
        return self._decrypt(self._tls, view, _SCRATCH[:_SIP] if sip else _SCRATCH)

    def _decrypt(self, tls: ssl.SSLObject, view: memoryview, scratch: memoryview) -> int:
        read = cast(Callable[[int, memoryview], int], tls.read)  # given a buffer, it returns a count
        filled, size = 0, len(view)
        ended: OSError | None = None
        more = True
        while filled < size:
            # A read that finds no whole record ends in an exception, which costs more than the feed that prevents it.
            if more and self._incoming.pending < _RECORD_LIMIT:
                try:
                    more = self._feed(scratch)
                except OSError as error:
                    ended, more = error, False
                continue
            try:
                count = read(size - filled, view[filled:])
            except ssl.SSLWantReadError:
                break
            except ssl.SSLZeroReturnError:
                count = 0
            if not count:
                ended = Broken(errno.ECONNRESET, "the server closed the connection")
                break
            filled += count
        if ended is not None and not filled:
            raise ended  # after bytes it is left to the next call, which meets it again: they count
        if self._outgoing.pending:
            self._push(self._outgoing.read())
        return filled

    def wake_at(self, size: int) -> None:
        """Call it readable only when `size` bytes are there, or the end. A system that can't just calls earlier."""
        if size != self._wakes_at:
            self._wakes_at = size
            with suppress(OSError):
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size)

    @property
    def buffered(self) -> bool:
        """Whether `read_into` may have more without the socket becoming readable."""
        return self._tls is not None and (self._incoming.pending > 0 or self._tls.pending() > 0)


_SCRATCH = memoryview(bytearray(128 * 1024))
"""Encrypted bytes on their way to a BIO: one for all, as there is one loop, and small enough for the cache."""
_SIP = 16 * 1024
"""A BIO keeps room for a third more than the most it ever held: 45 KiB when fed with this, and 190 with all of that."""
