"""A server of the shape of Slack's Web API: channels with messages and threads, and the errors that Slack answers."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

TOKEN = "xoxb-a-token"
CHANNEL = "C0123ABCD"


@dataclass
class Message:
    """A message or a line in a thread, with all that was said in it."""

    channel: str
    ts: str
    text: str
    thread: str | None
    broadcast: bool
    metadata: dict[str, Any]
    edits: list[str] = field(default_factory=list)


@dataclass
class SlackServer:
    """The server's state, and what it shall do.

    answer: asked before each call, by its method; what it returns, a status, headers and a body, is answered instead.
    lost: methods that are done, and whose answers are lost. broken: bytes that answer a call, which is not done.
    channels: that the app is in, with the error that each answers, if any. now: the time by Slack's clock.
    """

    url: str = ""
    messages: list[Message] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    answer: Callable[[str], tuple[int, dict[str, str], dict[str, Any]] | None] = lambda _: None
    lost: set[str] = field(default_factory=set)
    broken: bytes = b""
    channels: dict[str, str] = field(default_factory=lambda: {CHANNEL: ""})
    now: Callable[[], float] = time.time
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def refuse(self, error: str, *methods: str) -> None:
        """Answer with an error from now on; methods: these alone."""
        self.answer = lambda method: (
            (200, {}, {"ok": False, "error": error}) if not methods or method in methods else None
        )

    @property
    def posted(self) -> list[Message]:
        """The messages that are no line of a thread."""
        return [message for message in self.messages if message.thread is None]

    @property
    def replies(self) -> list[Message]:
        """The lines of threads."""
        return [message for message in self.messages if message.thread is not None]

    def call(self, method: str, token: str, said: dict[str, Any]) -> tuple[int, dict[str, str], dict[str, Any]]:
        with self._lock:
            self.calls.append(method)
            if (instead := self.answer(method)) is not None:
                return instead
            if token != TOKEN:
                return 200, {}, {"ok": False, "error": "invalid_auth"}
            known = getattr(self, "_" + method.replace(".", "_"), None)
            error = "unknown_method" if known is None else ""
            if not error and method != "auth.test":
                error = self.channels.get(said.get("channel", ""), "channel_not_found")
            body = {"ok": False, "error": error} if error else known(said)
            return 200, {}, body

    def _auth_test(self, _said: dict[str, Any]) -> dict[str, Any]:
        return {"ok": True, "user": "indexpush", "team": "Acme"}

    def _chat_postMessage(self, said: dict[str, Any]) -> dict[str, Any]:  # noqa: N802 - Slack's name
        ts = f"{self.now() + len(self.messages) * 1e-6:.6f}"
        thread, broadcast = said.get("thread_ts"), bool(said.get("reply_broadcast"))
        if thread and not any(message.ts == thread for message in self.messages):
            return {"ok": False, "error": "thread_not_found"}
        metadata = said.get("metadata") or {}
        self.messages.append(Message(said["channel"], ts, said["text"], thread, broadcast, metadata))
        return {"ok": True, "channel": said["channel"], "ts": ts}

    def _chat_update(self, said: dict[str, Any]) -> dict[str, Any]:
        for message in self.messages:
            if message.ts == said["ts"]:
                message.edits.append(said["text"])
                message.text = said["text"]
                return {"ok": True, "channel": said["channel"], "ts": said["ts"]}
        return {"ok": False, "error": "message_not_found"}

    def _conversations_history(self, said: dict[str, Any]) -> dict[str, Any]:
        return self._page([each for each in self.messages if each.thread is None or each.broadcast], said)

    def _conversations_replies(self, said: dict[str, Any]) -> dict[str, Any]:
        return self._page([each for each in self.messages if said["ts"] in {each.ts, each.thread}], said)

    def _page(self, found: list[Message], said: dict[str, Any]) -> dict[str, Any]:
        """Two messages a page, so that whoever reads one page alone misses some."""
        newest = [each for each in reversed(found) if float(each.ts) > float(said.get("oldest") or 0)]
        start = int(said.get("cursor") or 0)
        page = [
            {
                "ts": each.ts,
                "text": each.text,
                **({"metadata": each.metadata} if said.get("include_all_metadata") else {}),
            }
            for each in newest[start : start + 2]
        ]
        rest = str(start + 2) if start + 2 < len(newest) else ""
        return {"ok": True, "messages": page, "has_more": bool(rest), "response_metadata": {"next_cursor": rest}}


@contextmanager
def serve_slack() -> Iterator[SlackServer]:
    """Serve it on this machine; url: of its API."""
    slack = SlackServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            path = urlsplit(self.path)
            if self.headers.get("Content-Type", "").startswith("application/json"):
                said = json.loads(body or "{}")
            else:
                said = {name: values[0] for name, values in parse_qs(body or path.query).items()}
            method = path.path.removeprefix("/api/")
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            if slack.broken:
                self.close_connection = True
                self.wfile.write(slack.broken)
                return
            status, headers, answer = slack.call(method, token, said)
            if method in slack.lost:
                self.close_connection = True
                self.connection.close()
                return
            data = json.dumps(answer).encode()
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST  # noqa: N815 - the library's name

        def log_message(self, *_args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    slack.url = f"http://127.0.0.1:{server.server_address[1]}/api/"
    try:
        yield slack
    finally:
        server.shutdown()
        server.server_close()
