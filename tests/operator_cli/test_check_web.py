"""What `indexpush check` asks of Google and of others, over real connections."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from model_repository.errors import AccessDenied, BucketUnavailable, ObjectMissing
from operator_cli.check.google import RealWeb, listed


@pytest.fixture
def server() -> Iterator[str]:
    """Answers with the status that the path names, and pages for /pages."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, said = 200, b"{}"
            if self.path.startswith("/pages"):
                token = self.path.partition("pageToken=")[2]
                page = {"items": [token or "first"]} | ({} if token else {"nextPageToken": "a b"})
                said = json.dumps(page).encode()
            elif self.path == "/authorization":
                said = json.dumps({"said": self.headers.get("Authorization")}).encode()
            elif self.path == "/text":
                said = b"no JSON"
            else:
                status, said = int(self.path[1:]), b'{"error": {"message": "it is so"}}'
            self.send_response(status)
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *_: object) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()
    thread.join()
    httpd.server_close()


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> RealWeb:
    import google.auth  # noqa: PLC0415
    from google.oauth2.credentials import Credentials  # noqa: PLC0415

    monkeypatch.setattr(google.auth, "default", lambda **_: (Credentials("a token"), None))
    return RealWeb()


def test_google_is_asked_page_by_page(web: RealWeb, server: str) -> None:
    assert listed(web, f"{server}/pages", "items") == ["first", "a%20b"]


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (404, ObjectMissing),
        (401, AccessDenied),
        (403, AccessDenied),
        (429, BucketUnavailable),
        (500, BucketUnavailable),
        (302, BucketUnavailable),
    ],
)
def test_what_google_refuses_is_an_error_of_its_kind(
    web: RealWeb, server: str, status: int, error: type[Exception]
) -> None:
    with pytest.raises(error):
        web.google(f"{server}/{status}")


def test_of_others_the_status_counts_and_no_answer_is_an_error(web: RealWeb, server: str) -> None:
    assert web.other(f"{server}/404")[0] == 404
    assert web.other(f"{server}/text") == (200, {})
    assert web.other(f"{server}/authorization", "Bearer x") == (200, {"said": "Bearer x"})
    with pytest.raises(BucketUnavailable):
        web.other("http://127.0.0.1:1/")


def test_without_credentials_it_is_said_which_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    import google.auth  # noqa: PLC0415
    from google.auth.exceptions import DefaultCredentialsError  # noqa: PLC0415

    def none(**_: object) -> object:
        raise DefaultCredentialsError("none found")  # type: ignore[no-untyped-call]

    monkeypatch.setattr(google.auth, "default", none)
    with pytest.raises(AccessDenied, match="gcloud auth application-default login"):
        RealWeb()
