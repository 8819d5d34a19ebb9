"""A small API server of Kubernetes for the tests of its client."""

from __future__ import annotations

import contextlib
import io
import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from kubernetes import client

from cd_webhook.cluster.api import KubernetesApi
from cd_webhook.cluster.kubernetes import KubernetesCluster
from manifests import metadata as marks
from model_repository.telemetry.log import Log

DEPLOYMENTS = "/apis/apps/v1/namespaces/search/deployments"
PODS = "/api/v1/namespaces/search/pods"


class ApiServer:
    """Enough of an API server: one Deployment by its version, and watches that the test feeds."""

    def __init__(self) -> None:  # noqa: C901 - a server in one piece
        self.live: dict[str, Any] = {
            "metadata": {"name": "shop", "resourceVersion": "7", "managedFields": [], "labels": {}}
        }
        self.patches: list[tuple[str, dict[str, list[str]], Any]] = []
        self.watches: list[dict[str, str]] = []
        self.scripts: list[Callable[[Any], None]] = []
        self.lists = 0
        self.watched: set[str] = set()
        self.status = 200
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def answer(self, status: int, body: Any) -> None:
                data = json.dumps(body if status < 400 else {"kind": "Status", **body}).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def event(self, kind: str, version: str, **more: Any) -> None:
                metadata = {"resourceVersion": version, "labels": {marks.INSTANCE: "shop"}}
                value = {"type": kind, "object": {"metadata": metadata, **more}}
                self.chunk(json.dumps(value).encode() + b"\n")

            def chunk(self, data: bytes) -> None:
                self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
                self.wfile.flush()

            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                query = {key: values[0] for key, values in parse_qs(parts.query).items()}
                if server.status != 200:
                    self.answer(server.status, {"message": "not now"})
                elif query.get("watch"):
                    server.watch(self, parts.path, query)
                elif parts.path.endswith("/shop"):
                    self.answer(200, server.live)
                elif parts.path in (DEPLOYMENTS, PODS):
                    server.lists += 1
                    more = {"resourceVersion": "100"} | ({"continue": "more"} if "continue" not in query else {})
                    self.answer(200, {"metadata": more, "items": [server.live]})
                else:
                    self.answer(404, {"message": "no such thing"})

            def do_PATCH(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                query = parse_qs(urlsplit(self.path).query)
                server.patches.append((self.headers["Content-Type"], query, body))
                stated = body["metadata"].get("resourceVersion") if isinstance(body, dict) else body[-1]["value"]
                if stated not in (None, server.live["metadata"]["resourceVersion"]):
                    self.answer(409, {"message": "the object has been modified"})
                    return
                server.live["metadata"]["resourceVersion"] = str(int(server.live["metadata"]["resourceVersion"]) + 1)
                self.answer(200, server.live)

            def do_POST(self) -> None:
                self.do_PATCH()

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def watch(self, handler: Any, path: str, query: dict[str, str]) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.wfile.flush()
        self.watched.add(path)
        if path == DEPLOYMENTS:
            self.watches.append(query)
        if path == DEPLOYMENTS and self.scripts:
            self.scripts.pop(0)(handler)
        else:
            time.sleep(0.2)
        with contextlib.suppress(OSError):
            handler.chunk(b"")

    def cluster(self) -> KubernetesCluster:
        return KubernetesCluster(self.api(), "search", Log(stream=io.StringIO()))

    def api(self) -> KubernetesApi:
        configuration = client.Configuration()
        configuration.host = f"http://127.0.0.1:{self.http.server_address[1]}"
        return KubernetesApi(configuration)
