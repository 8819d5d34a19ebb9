"""The Kubernetes client against a small API server: conflicts, refusals, watches that break, expire and resume."""

from __future__ import annotations

import io
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import urllib3
from kubernetes import client

from cd_webhook.cluster import ClusterForbids, ClusterRefused, ClusterUnavailable, Conflict
from cd_webhook.cluster.api import Expired, KubernetesApi, Missing, error_of
from cd_webhook.cluster.kubernetes import KubernetesCluster
from manifests import metadata as marks
from model_repository.log import Log

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
        self.status = 200
        server = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def answer(self, status: int, body: Any) -> None:
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def event(self, kind: str, version: str, **more: Any) -> None:
                metadata = {"resourceVersion": version, "labels": {marks.INSTANCE: "shop"}}
                value = {"type": kind, "object": {"metadata": metadata, **more}}
                self.wfile.write(json.dumps(value).encode() + b"\n")
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
        handler.end_headers()
        handler.wfile.flush()
        if path != DEPLOYMENTS:
            time.sleep(0.2)
            return
        self.watches.append(query)
        if self.scripts:
            self.scripts.pop(0)(handler)
        else:
            time.sleep(0.2)

    def cluster(self) -> KubernetesCluster:
        return KubernetesCluster(self.api(), "search", Log(stream=io.StringIO()))

    def api(self) -> KubernetesApi:
        configuration = client.Configuration()
        configuration.host = f"http://127.0.0.1:{self.http.server_address[1]}"
        return KubernetesApi(configuration)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiServer]:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    server = ApiServer()
    yield server
    server.http.shutdown()


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def manifest() -> dict[str, Any]:
    return {"kind": "Deployment", "metadata": {"name": "shop"}, "spec": {}}


def test_an_apply_names_the_version_its_decision_was_made_on(server: ApiServer) -> None:
    server.cluster().apply(manifest(), resource_version="7")
    kind, query, body = server.patches[-1]
    assert kind == "application/apply-patch+yaml"
    assert (query["fieldManager"], query["force"]) == (["indexpush"], ["true"])
    assert body["metadata"]["resourceVersion"] == "7"
    with pytest.raises(Conflict):
        server.cluster().apply(manifest(), resource_version="7")


def test_what_others_wrote_into_the_pod_template_is_taken_over_first_under_the_same_guard(server: ApiServer) -> None:
    theirs = {"manager": "kubectl", "operation": "Update", "fieldsV1": {"f:spec": {"f:template": {"f:x": {}}}}}
    server.live["metadata"]["managedFields"] = [theirs]
    server.cluster().apply(manifest(), resource_version="7")
    (first, _, patch), (second, _, applied) = server.patches
    assert (first, second) == ("application/json-patch+json", "application/apply-patch+yaml")
    assert patch[1] == {"op": "replace", "path": "/metadata/resourceVersion", "value": "7"}
    assert applied["metadata"]["resourceVersion"] == "8"


def test_an_unguarded_apply_names_no_version(server: ApiServer) -> None:
    server.cluster().apply({"kind": "Service", "metadata": {"name": "shop"}}, resource_version=None)
    assert "resourceVersion" not in server.patches[-1][2]["metadata"]


def test_nothing_but_deployments_and_services_is_applied(server: ApiServer) -> None:
    with pytest.raises(ClusterRefused):
        server.cluster().apply({"kind": "Secret", "metadata": {"name": "x"}}, resource_version=None)


def test_a_list_is_read_to_its_last_page(server: ApiServer) -> None:
    found = server.cluster().deployments()
    assert len(found) == 2
    assert found[0]["kind"] == "Deployment"


def test_an_unknown_deployment_is_none(server: ApiServer) -> None:
    assert server.cluster().deployment("other") is None


@pytest.mark.parametrize(
    ("status", "family"),
    [
        (409, Conflict),
        (404, Missing),
        (410, Expired),
        (401, ClusterForbids),
        (403, ClusterForbids),
        (422, ClusterRefused),
        (400, ClusterRefused),
        (408, ClusterUnavailable),
        (429, ClusterUnavailable),
        (500, ClusterUnavailable),
        (503, ClusterUnavailable),
    ],
)
def test_each_answer_belongs_to_a_family(status: int, family: type[Exception]) -> None:
    error = error_of(status, "GET /x", b'{"message": "the reason"}')
    assert isinstance(error, family)
    assert "the reason" in str(error)


@pytest.mark.usefixtures("server")
def test_a_server_that_is_not_there_may_pass() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        configuration = client.Configuration()
        configuration.host = f"http://127.0.0.1:{probe.getsockname()[1]}"
    with pytest.raises(ClusterUnavailable):
        KubernetesApi(configuration).get("/x")


@pytest.mark.parametrize("trusted", [True, False])
def test_an_authority_may_lack_extensions_but_must_be_trusted(
    server: ApiServer, authority: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, *, trusted: bool
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority[1])
    server.http.socket = context.wrap_socket(server.http.socket, server_side=True)
    configuration = client.Configuration()
    configuration.host = f"https://localhost:{server.http.server_address[1]}"
    configuration.ssl_ca_cert = str(authority[0]) if trusted else None
    create = urllib3.util.ssl_.create_urllib3_context

    def strict(*arguments: Any, **named: Any) -> ssl.SSLContext:
        """What Python 3.13 and later make of it."""
        made = create(*arguments, **named)
        made.verify_flags |= ssl.VERIFY_X509_STRICT
        return made

    monkeypatch.setattr(urllib3.util.ssl_, "create_urllib3_context", strict)
    monkeypatch.setattr(urllib3.connection, "create_urllib3_context", strict)
    api = KubernetesApi(configuration)
    if trusted:
        assert api.get(f"{DEPLOYMENTS}/shop")["metadata"]["name"] == "shop"
    else:
        with pytest.raises(ClusterUnavailable, match=r"certificate verify failed.*check .* KUBECONFIG"):
            api.get(f"{DEPLOYMENTS}/shop")


def test_a_wait_ends_with_the_change(server: ApiServer) -> None:
    def script(handler: Any) -> None:
        time.sleep(0.5)
        handler.event("MODIFIED", "101")
        time.sleep(2)

    server.scripts = [script]
    cluster = server.cluster()
    cluster.wait("shop", "", 10)  # the first list: look
    begun = time.monotonic()
    cluster.wait("shop", "", 0.05)
    cluster.wait("shop", "", 10)
    assert time.monotonic() - begun < 5


def test_a_watch_that_ends_or_breaks_is_taken_up_where_it_was(server: ApiServer) -> None:
    def ends(handler: Any) -> None:
        handler.event("MODIFIED", "101")
        handler.event("BOOKMARK", "150")

    def breaks(handler: Any) -> None:
        handler.event("MODIFIED", "160")
        handler.wfile.write(b'{"type": "MODI')
        handler.wfile.flush()
        handler.connection.shutdown(socket.SHUT_RDWR)

    server.scripts = [ends, breaks]
    server.cluster().wait("shop", "", 0.1)
    until(lambda: len(server.watches) >= 3)
    assert [query["resourceVersion"] for query in server.watches[:3]] == ["100", "150", "160"]
    assert all(query["allowWatchBookmarks"] == "true" for query in server.watches)


def test_a_watch_whose_version_is_too_old_lists_anew(server: ApiServer) -> None:
    def gone(handler: Any) -> None:
        body = {"type": "ERROR", "object": {"code": 410, "message": "too old resource version"}}
        handler.wfile.write(json.dumps(body).encode() + b"\n")

    server.scripts = [gone]
    server.cluster().wait("shop", "", 0.1)
    until(lambda: len(server.watches) >= 2)
    assert [query["resourceVersion"] for query in server.watches[:2]] == ["100", "100"]
    assert server.lists >= 3  # two for the two kinds, one anew


def test_while_the_server_fails_waiting_ends_in_time_and_the_watch_comes_back(server: ApiServer) -> None:
    server.status = 503
    cluster = server.cluster()
    begun = time.monotonic()
    cluster.wait("shop", "", 0.3)
    cluster.wait("shop", "", 0.3)
    assert time.monotonic() - begun < 2
    server.status = 200
    until(lambda: bool(server.watches))


def test_a_watch_that_always_breaks_at_once_is_not_tried_without_pause(server: ApiServer) -> None:
    server.scripts = [lambda handler: handler.connection.shutdown(socket.SHUT_RDWR)] * 1000
    server.cluster().wait("shop", "", 0.05)
    time.sleep(2)
    assert 2 <= len(server.watches) <= 6


def test_a_server_that_is_down_is_not_asked_without_pause(server: ApiServer) -> None:
    lines = io.StringIO()
    cluster = KubernetesCluster(server.api(), "search", Log(stream=lines))
    server.http.shutdown()
    server.http.server_close()
    cluster.wait("shop", "", 2)
    assert len(lines.getvalue().splitlines()) <= 12
