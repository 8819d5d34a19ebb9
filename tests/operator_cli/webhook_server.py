"""A CD webhook's answers to who asks how rollouts go: a real server, whose answer a test sets."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "s3cret"


def rollout(index: str, generation: int, *, ready: int = 1, wanted: int = 3, **more: Any) -> dict[str, Any]:
    """A rollout as the webhook tells it."""
    pods = {"ready": ready, "wanted": wanted}
    said = {"canary": False, "seconds": 42.0, "detail": "2 of 3 pods are new"}
    return {"index": index, "generation": str(generation), "pods": pods} | said | more


@dataclass
class Answers:
    """url: of the webhook. status, body: of its answers. open: cleared, it takes requests and doesn't answer."""

    url: str = ""
    environment: str = "production"
    status: int = 200
    body: Any = None
    rollouts: list[dict[str, Any]] = field(default_factory=list)
    open: threading.Event = field(default_factory=threading.Event)
    asked: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.open.set()

    def answer(self) -> bytes:
        said = {"environment": self.environment, "rollouts": self.rollouts, "new": "in a later release"}
        return json.dumps(said if self.body is None else self.body).encode()


@contextmanager
def answering() -> Iterator[Answers]:
    """Serve until the block ends."""
    it = Answers()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            it.asked.set()
            it.open.wait()
            known = self.headers.get("authorization") == f"Bearer {TOKEN}" and self.path == "/v1/rollouts"
            body = it.answer()
            self.send_response(it.status if known else 401)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    it.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield it
    finally:
        it.open.set()
        server.shutdown()
        thread.join()
        server.server_close()
