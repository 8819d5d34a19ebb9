"""What `indexpush check` asks of Google and of others, over real connections."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from model_repository.errors import AccessDenied, BucketUnavailable, ObjectMissing
from operator_cli.check.google import RealWeb, listed
from tests.answering import Answer, Asked, as_json, http_server


@pytest.fixture
def server() -> Iterator[str]:
    """Answers with the status that the path names, and pages for /pages."""

    def answer(asked: Asked) -> Answer:
        if asked.path.startswith("/pages"):
            token = asked.path.partition("pageToken=")[2]
            return as_json({"items": [token or "first"]} | ({} if token else {"nextPageToken": "a b"}))
        if asked.path == "/authorization":
            return as_json({"said": asked.headers.get("authorization")})
        if asked.path == "/text":
            return Answer(b"no JSON")
        return as_json({"error": {"message": "it is so"}}, int(asked.path[1:]))

    with http_server(answer) as url:
        yield url


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
