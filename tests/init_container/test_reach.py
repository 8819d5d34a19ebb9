"""TLS, proxies, credentials, and the bucket server that Google's own clients are tested with."""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from init_container.network.credentials import Tokens, metadata_server
from model_repository.errors import AccessDenied, BucketUnavailable, TransientError
from tests.init_container.faulty_bucket import FaultyBucket, close_early, closing, reset, stall, status
from tests.init_container.pull_scene import MIB, PREFIX, Build, Puller, make_build
from tests.init_container.spoiling_proxy import on_both_servers_over_tls


@pytest.fixture
def tls_puller(tls_bucket: FaultyBucket, authority: tuple[Path, Path], build: Build, puller: Puller) -> Puller:
    """A puller of `build` over TLS, from a bucket that wants the token ``fresh``."""
    for name, data in build.objects.items():
        tls_bucket.put(name, data)
    settings = {name: value for name, value in puller.settings.items() if name != "STORAGE_EMULATOR_HOST"}
    return Puller(puller.folder, {**settings, "STORAGE_ENDPOINT": tls_bucket.url, "SSL_CERT_FILE": str(authority[0])})


@pytest.mark.parametrize("known", [True, False], ids=["it is in the bundle", "it is nowhere"])
def test_an_authority_that_the_system_s_folder_lacks_is_looked_for_in_its_bundle(
    known: bool, tls_puller: Puller, authority: tuple[Path, Path], tmp_path: Path
) -> None:
    (tmp_path / "certs").mkdir()
    (tmp_path / "certs" / "00000000.0").write_bytes(b"")  # as update-ca-certificates names them, by hash
    bundle = authority[0] if known else tmp_path / "certs" / "00000000.0"
    settings = {name: value for name, value in tls_puller.settings.items() if name != "SSL_CERT_FILE"}
    program = f"""
import os, ssl, sys
from init_container.__main__ import main
ssl.SSLContext.load_default_certs = lambda self: {known} and self.load_verify_locations({str(bundle)!r})
sys.exit(main(os.environ))
"""
    environment = Puller(tls_puller.folder, settings).environment(
        SSL_CERT_DIR=str(tmp_path / "certs"), STORAGE_ANONYMOUS="1"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=40, check=False
    )
    assert done.returncode == (os.EX_OK if known else os.EX_TEMPFAIL), done.stderr
    assert ("set SSL_CERT_FILE" in done.stderr) is not known


class TokenServer:
    """The metadata server, and Google's token endpoint: gives out the tokens it was told to, the last for ever."""

    def __init__(self, tokens: list[str], chain: Path | None = None) -> None:
        self.asked: list[str] = []
        self.seconds: object = 3600
        self.refusals: list[int] = []
        self.lies: list[str] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                server.asked.append(self.path + " " + self.rfile.read(length).decode())
                if "computeMetadata" in self.path and self.headers["Metadata-Flavor"] != "Google":
                    self.send_error(403)
                    return
                if server.refusals:
                    self._send(server.refusals.pop(0), b"not yet")
                    return
                token = tokens.pop(0) if len(tokens) > 1 else tokens[0]
                body = json.dumps(
                    {"access_token": token, "expires_in": server.seconds, "token_type": "Bearer"}
                ).encode()
                if server.lies:
                    body = body.replace(b"3600", server.lies.pop(0).encode())
                self._send(200, body)

            def _send(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = _answer  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if chain:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(chain)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.host = f"127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()


@pytest.fixture
def token_server() -> Iterator[Callable[..., TokenServer]]:
    servers: list[TokenServer] = []

    def make(tokens: list[str], chain: Path | None = None) -> TokenServer:
        servers.append(TokenServer(tokens, chain))
        return servers[-1]

    yield make
    for server in servers:
        server.close()


NewTokenServer = Callable[..., TokenServer]


def test_a_pull_over_tls_with_an_authority_of_ones_own(tls_puller: Puller, build: Build) -> None:
    assert tls_puller.run(STORAGE_ANONYMOUS="1").code == 0
    tls_puller.check_whole(build)


@on_both_servers_over_tls
@pytest.mark.parametrize(
    "fault", [reset(0.5), close_early, stall, status(503)], ids=["reset", "closed", "stall", "503"]
)
def test_faults_over_tls_are_got_over(
    fault: Callable[..., None], tls_bucket: FaultyBucket, tls_puller: Puller, build: Build
) -> None:
    tls_bucket.fail(fault, times=2, match="big.ann")
    assert tls_puller.run(STORAGE_ANONYMOUS="1", STALL_SECONDS="1").code == 0
    tls_puller.check_whole(build)


@pytest.mark.parametrize("tls", [True, False])
@pytest.mark.usefixtures("processes")
def test_a_server_that_closes_after_each_answer_costs_no_retry(
    tls: bool, request: pytest.FixtureRequest, build: Build
) -> None:
    server: FaultyBucket = request.getfixturevalue("tls_bucket" if tls else "bucket")
    puller: Puller = request.getfixturevalue("tls_puller" if tls else "puller")
    server.fail(closing, times=float("inf"))
    outcome = puller.run(STORAGE_ANONYMOUS="1")
    assert outcome.code == 0
    assert outcome.lines[-1]["retries"] == 0
    puller.check_whole(build)


def test_an_unknown_authority_is_refused_at_once(tls_puller: Puller) -> None:
    outcome = tls_puller.run(STORAGE_ANONYMOUS="1", SSL_CERT_FILE="")
    assert outcome.code == os.EX_TEMPFAIL
    assert "SSL_CERT_FILE" in outcome.message
    tls_puller.check_nothing_there()


def test_a_missing_authority_file_is_a_wrong_setting(tls_puller: Puller) -> None:
    outcome = tls_puller.run(STORAGE_ANONYMOUS="1", SSL_CERT_FILE="/no/such/file.pem")
    assert outcome.code == os.EX_USAGE
    assert "SSL_CERT_FILE" in outcome.message


def test_workload_identity_gives_the_token(
    tls_bucket: FaultyBucket, tls_puller: Puller, token_server: NewTokenServer, build: Build
) -> None:
    tls_bucket.tokens = {"fresh"}
    metadata = token_server(["fresh"])
    assert tls_puller.run(GCE_METADATA_HOST=metadata.host).code == 0
    tls_puller.check_whole(build)
    assert len(metadata.asked) == 1


def test_an_expired_token_is_renewed_once(
    tls_bucket: FaultyBucket, tls_puller: Puller, token_server: NewTokenServer, build: Build
) -> None:
    tls_bucket.tokens = {"fresh"}
    metadata = token_server(["stale", "fresh"])
    assert tls_puller.run(GCE_METADATA_HOST=metadata.host).code == 0
    tls_puller.check_whole(build)
    assert len(metadata.asked) == 2


def test_a_token_that_is_about_to_end_is_renewed_in_a_long_pull(
    tls_bucket: FaultyBucket, tls_puller: Puller, token_server: NewTokenServer, build: Build
) -> None:
    tls_bucket.tokens = {"first", "second"}
    tls_bucket.rate = 0.8e6
    metadata = token_server(["first", "second"])
    metadata.seconds = 1
    assert tls_puller.run(GCE_METADATA_HOST=metadata.host, RANGE_MIB="1", CONNECTIONS="3").code == 0
    tls_puller.check_whole(build)
    assert {request.headers["authorization"] for request in tls_bucket.requests} == {"Bearer first", "Bearer second"}


def test_a_401_that_lasts_is_met_with_fresh_tokens_and_then_left_to_the_next_pull(
    tls_bucket: FaultyBucket, tls_puller: Puller, token_server: NewTokenServer
) -> None:
    tls_bucket.tokens = set()
    metadata = token_server(["one", "two", "three"])
    outcome = tls_puller.run(GCE_METADATA_HOST=metadata.host, ATTEMPTS="3")
    assert outcome.code == os.EX_TEMPFAIL
    assert "check the pod's service account" in outcome.message
    assert len(metadata.asked) == 3


def test_a_401_while_a_grant_spreads_is_waited_out(
    tls_bucket: FaultyBucket, tls_puller: Puller, token_server: NewTokenServer, build: Build
) -> None:
    tls_bucket.tokens = {"three"}
    metadata = token_server(["one", "two", "three"])
    assert tls_puller.run(GCE_METADATA_HOST=metadata.host).code == 0
    tls_puller.check_whole(build)


@pytest.mark.parametrize("status", [403, 404, 503])
def test_a_metadata_server_that_refuses_in_a_pod_s_first_seconds_is_waited_for(
    status: int, tls_bucket: FaultyBucket, tls_puller: Puller, token_server: NewTokenServer, build: Build
) -> None:
    tls_bucket.tokens = {"fresh"}
    metadata = token_server(["fresh"])
    metadata.refusals = [status] * 3
    assert tls_puller.run(GCE_METADATA_HOST=metadata.host).code == 0
    tls_puller.check_whole(build)
    assert len(metadata.asked) == 4


@pytest.mark.parametrize(
    ("status", "error", "said"),
    [
        (403, AccessDenied, "answered 403 not yet; give the pod a service account"),
        (404, AccessDenied, "answered 404 not yet; give the pod a service account"),
        (503, AccessDenied, "answered 503 not yet"),
        (200, BucketUnavailable, "expires_in"),
    ],
)
def test_a_metadata_server_that_refuses_for_half_a_minute_is_left_to_the_next_pull(
    status: int, error: type[TransientError], said: str, token_server: NewTokenServer
) -> None:
    now = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    metadata = token_server(["fresh"])
    metadata.refusals = [] if status == 200 else [status] * 1000
    metadata.seconds = "no number"
    with pytest.raises(error, match=said):
        metadata_server(metadata.host, lambda: now, sleep)()
    assert 28 <= now <= 30
    assert issubclass(error, TransientError)


@pytest.mark.parametrize("seconds", ["1" * 4500, "1" * 400, "-1", "NaN", "Infinity", "1e999", '"soon"', "null", "[]"])
def test_a_token_that_holds_for_no_time_that_makes_sense_is_asked_for_again(
    seconds: str, tls_bucket: FaultyBucket, tls_puller: Puller, token_server: NewTokenServer, build: Build
) -> None:
    tls_bucket.tokens = {"fresh"}
    metadata = token_server(["lie", "fresh"])
    metadata.lies = [seconds]
    assert tls_puller.run(GCE_METADATA_HOST=metadata.host).code == 0
    tls_puller.check_whole(build)


@pytest.mark.parametrize("minutes", [-10, 10])
def test_a_token_s_end_is_not_read_off_the_clock_on_the_wall(minutes: int) -> None:
    now, fetched = 1000.0, 0

    def fetch() -> tuple[str, float]:
        nonlocal fetched
        fetched += 1
        return f"token {fetched}", 3600.0

    tokens = Tokens(fetch, lambda: now)
    wall, time.time = time.time, lambda: wall() + 60 * minutes
    try:
        assert tokens.token() == "token 1"
        now += 3600 - 226
        assert tokens.token() == "token 1"
        now += 2
        assert tokens.token() == "token 2"
    finally:
        time.time = wall


def test_a_service_account_key_gives_the_token(
    tls_bucket: FaultyBucket, tls_puller: Puller, token_server: NewTokenServer, build: Build, tmp_path: Path
) -> None:
    tls_bucket.tokens = {"fresh"}
    endpoint = token_server(["fresh"])
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = tmp_path / "key.json"
    account = {"type": "service_account", "client_email": "puller@project.iam", "private_key": key.decode()}
    path.write_text(json.dumps({**account, "token_uri": f"http://{endpoint.host}/token"}))
    assert tls_puller.run(GOOGLE_APPLICATION_CREDENTIALS=str(path)).code == 0
    tls_puller.check_whole(build)
    assert "jwt-bearer" in endpoint.asked[0]


def test_an_authorised_user_gives_the_token(
    tls_bucket: FaultyBucket,
    tls_puller: Puller,
    token_server: NewTokenServer,
    build: Build,
    authority: tuple[Path, Path],
) -> None:
    tls_bucket.tokens = {"fresh"}
    endpoint = token_server(["fresh"], authority[1])
    # google-auth goes to Google's own endpoint, whatever the file says: a proxy leads it here
    proxy = Proxy(to=endpoint.host)
    folder = tls_puller.folder / ".config" / "gcloud"
    folder.mkdir(parents=True)
    user = {"type": "authorized_user", "client_id": "id", "client_secret": "secret", "refresh_token": "refresh"}
    (folder / "application_default_credentials.json").write_text(json.dumps(user))
    assert tls_puller.run(HTTPS_PROXY=proxy.url, NO_PROXY="localhost").code == 0
    tls_puller.check_whole(build)
    assert "refresh_token=refresh" in endpoint.asked[0]


def test_a_missing_key_file_is_a_wrong_setting(tls_puller: Puller) -> None:
    outcome = tls_puller.run(GOOGLE_APPLICATION_CREDENTIALS="/no/such/key.json")
    assert outcome.code == os.EX_USAGE
    assert "/no/such/key.json" in outcome.message


def test_a_requester_pays_bucket_gets_the_project(bucket: FaultyBucket, puller: Puller) -> None:
    assert puller.run(USER_PROJECT="a-project").code == 0
    assert {request.query["userProject"] for request in bucket.requests} == {"a-project"}


class Proxy:
    """An HTTP proxy that knows CONNECT."""

    def __init__(self, answer: str = "200 Connection established", to: str = "") -> None:
        self.asked: list[str] = []
        self._answer = answer
        self._to = to
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://someone:secret@127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        said = b""
        while not said.endswith(b"\r\n\r\n"):
            said += client.recv(1000)
        self.asked.append(said.decode())
        client.sendall(f"HTTP/1.1 {self._answer}\r\n\r\n".encode())
        host, _, port = (self._to or said.split()[1].decode()).rpartition(":")
        if not self._answer.startswith("200"):
            client.close()
            return
        server = socket.create_connection((host, int(port)))
        threading.Thread(target=self._copy, args=(client, server), daemon=True).start()
        self._copy(server, client)

    @staticmethod
    def _copy(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            sink.close()


def test_the_proxy_of_the_environment_is_used(tls_puller: Puller, build: Build) -> None:
    proxy = Proxy()
    assert tls_puller.run(STORAGE_ANONYMOUS="1", HTTPS_PROXY=proxy.url).code == 0
    tls_puller.check_whole(build)
    assert all("Proxy-Authorization: Basic c29tZW9uZTpzZWNyZXQ=" in asked for asked in proxy.asked)
    assert proxy.asked


def test_no_proxy_is_honoured(tls_puller: Puller) -> None:
    proxy = Proxy()
    assert tls_puller.run(STORAGE_ANONYMOUS="1", HTTPS_PROXY=proxy.url, NO_PROXY="example.org,localhost").code == 0
    assert not proxy.asked


def test_a_proxy_that_refuses_is_named(tls_puller: Puller) -> None:
    proxy = Proxy("407 Proxy Authentication Required")
    outcome = tls_puller.run(STORAGE_ANONYMOUS="1", HTTPS_PROXY=proxy.url, ATTEMPTS="2")
    assert outcome.code == os.EX_TEMPFAIL
    assert "407" in outcome.message
    assert "secret" not in outcome.message


def _upload(url: str, bucket: str, objects: dict[str, bytes]) -> None:
    for name, data in objects.items():
        quoted = urllib.parse.quote(name, safe="")
        target = f"{url}/upload/storage/v1/b/{bucket}/o?uploadType=media&name={quoted}"
        urllib.request.urlopen(urllib.request.Request(target, data, method="POST"), timeout=10).close()


def test_a_pull_from_the_bucket_server_of_the_tests(
    bucket_server: str, new_bucket: Callable[[], str], puller: Puller
) -> None:
    name, build = new_bucket(), make_build({"big.ann": 5 * MIB, **{f"small/{n}": 2000 for n in range(100)}, "empty": 0})
    _upload(bucket_server, name, build.objects)
    settings = {
        "STORAGE_EMULATOR_HOST": bucket_server,
        "MODEL_REPOSITORY": f"gs://{name}",
        "INDEX_DIGEST": build.digest,
    }
    assert puller.run(**settings).code == 0
    puller.check_whole(build)


def test_the_bucket_server_knows_no_such_build(
    bucket_server: str, new_bucket: Callable[[], str], puller: Puller
) -> None:
    outcome = puller.run(STORAGE_EMULATOR_HOST=bucket_server, MODEL_REPOSITORY=f"gs://{new_bucket()}")
    assert outcome.code == os.EX_DATAERR
    assert "index.json" in outcome.message


def test_an_object_of_the_bucket_server_with_other_bytes_is_bad_data(
    bucket_server: str, new_bucket: Callable[[], str], puller: Puller, build: Build
) -> None:
    name = new_bucket()
    big = f"{PREFIX}/big.ann"
    _upload(bucket_server, name, {**build.objects, big: build.objects[big][::-1]})
    outcome = puller.run(STORAGE_EMULATOR_HOST=bucket_server, MODEL_REPOSITORY=f"gs://{name}")
    assert outcome.code == os.EX_DATAERR
    assert "big.ann" in outcome.message
    puller.check_nothing_there()


def test_progress_and_a_summary_are_log_lines(bucket: FaultyBucket, puller: Puller) -> None:
    bucket.rate = 1e6
    outcome = puller.run(PROGRESS_SECONDS="0.2", CONNECTIONS="2")
    assert outcome.code == 0
    assert any("%" in str(line["message"]) for line in outcome.lines[:-1])
    assert {"bytes", "fetched", "seconds", "megabytes_per_second", "retries", "connections"} <= set(outcome.lines[-1])
