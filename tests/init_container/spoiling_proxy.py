"""fake-gcs-server behind a proxy that misbehaves on purpose: what is spoiled are a real server's answers."""

from __future__ import annotations

import json
import socket
import ssl
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPResponse
from urllib.parse import quote, urlsplit

import pytest

from tests.init_container.faulty_bucket import FaultyBucket, Reply, Request, Stored

FAKE_GCS = "fake-gcs-server"
_SERVERS = ["made-up", FAKE_GCS]
on_both_servers = pytest.mark.parametrize("bucket", _SERVERS, indirect=True)
on_both_servers_over_tls = pytest.mark.parametrize("tls_bucket", _SERVERS, indirect=True)
"""Run a test against the made-up bucket and against fake-gcs-server behind the proxy.

Not so run are the tests of what fake-gcs-server has no part in: settings, a refused connection, tokens (it knows none),
and the kills, whose point is the disk.
"""

_HOPS = ("connection", "keep-alive", "date", "transfer-encoding")
"""Headers that are about the way, not about the object."""


@dataclass
class Forwarded(Reply):
    """An answer of fake-gcs-server on its way to the client."""

    answer: HTTPResponse
    content: bytes

    def right_head(self) -> tuple[str, dict[str, str]]:
        """What fake-gcs-server said."""
        headers = {name.lower(): value for name, value in self.answer.getheaders() if name.lower() not in _HOPS}
        return f"{self.answer.status} {self.answer.reason}", {**headers, "content-length": str(len(self.content))}

    @property
    def body(self) -> bytes:
        """The bytes that fake-gcs-server sent."""
        return self.content

    def whole(self) -> None:
        """Pass the answer on as it is."""
        self.head()
        self.body_part(self.content)


class SpoilingProxy(FaultyBucket):
    """Speaks like `FaultyBucket`, but every answer comes from a bucket of its own in fake-gcs-server."""

    def __init__(self, upstream: str, bucket: str, context: ssl.SSLContext | None = None) -> None:
        """upstream: fake-gcs-server's URL; bucket: the name of an empty bucket in it."""
        self._upstream = urlsplit(upstream).netloc
        self._bucket = bucket
        super().__init__(context)

    def put(self, name: str, data: bytes) -> None:
        """Upload an object; fake-gcs-server gives it its generation and sums it up."""
        server = HTTPConnection(self._upstream, timeout=10)
        path = f"/upload/storage/v1/b/{self._bucket}/o?uploadType=media&name={quote(name, safe='')}"
        server.request("POST", path, data)
        made = json.loads(server.getresponse().read())
        server.close()
        self.objects[name] = Stored(data, int(made["generation"]), made["crc32c"])

    def reply(self, request: Request, connection: socket.socket) -> Reply:
        """The right answer, asked from fake-gcs-server with the client's own headers."""
        server = HTTPConnection(self._upstream, timeout=10)
        kept = {name: value for name, value in request.headers.items() if name not in ("host", *_HOPS)}
        server.request("GET", request.path.replace("/b/a-bucket/", f"/b/{self._bucket}/", 1), headers=kept)
        answer = server.getresponse()
        content = answer.read()
        server.close()
        return Forwarded(request, self.objects.get(request.name), self, connection, answer, content)
