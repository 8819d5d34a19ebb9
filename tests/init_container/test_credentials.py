"""Who a pull says it is: tokens of the metadata server, and keys in files."""

from __future__ import annotations

import json
import os
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from init_container.network.credentials import Tokens, metadata_server
from model_repository.errors import AccessDenied, BucketUnavailable, TransientError
from tests.init_container.faulty_bucket import FaultyBucket
from tests.init_container.forward_proxy import Proxy
from tests.init_container.pull_scene import Build, Puller


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
