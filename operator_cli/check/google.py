"""Asks Google Cloud's REST APIs, with the credentials of whoever runs the command."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final, Protocol
from urllib.parse import quote

from model_repository.errors import AccessDenied, BucketUnavailable, ObjectMissing, reason_of
from operator_cli.check.finding import Resource

STORAGE: Final = "https://storage.googleapis.com/storage/v1"
PUBSUB: Final = "https://pubsub.googleapis.com/v1"
FUNCTIONS: Final = "https://cloudfunctions.googleapis.com/v2"
RUN: Final = "https://run.googleapis.com/v2"
SECRETS: Final = "https://secretmanager.googleapis.com/v1"
SCHEDULER: Final = "https://cloudscheduler.googleapis.com/v1"
_SCOPE: Final = "https://www.googleapis.com/auth/cloud-platform"
_SECONDS: Final = (5.0, 20.0)
_PAGES: Final = 100


class Web(Protocol):
    """What the check asks of the network."""

    def google(self, url: str) -> Resource:
        """A resource of a REST API of Google's.

        Raises ObjectMissing (404), AccessDenied (401 and 403, or no credentials) and BucketUnavailable (anything else).
        """
        ...

    def other(self, url: str, authorization: str = "") -> tuple[int, Resource]:
        """The status of anybody else's answer, and its JSON object, or an empty one; raises BucketUnavailable."""
        ...


def listed(web: Web, url: str, key: str) -> list[Any]:
    """All pages of a list. Raises as `Web.google`."""
    found: list[Any] = []
    token = ""
    for _ in range(_PAGES):
        page = web.google(f"{url}{'&' if '?' in url else '?'}pageToken={quote(token, safe='')}" if token else url)
        found += page.get(key, [])
        token = str(page.get("nextPageToken", ""))
        if not token:
            break
    return found


class RealWeb:
    """Implements `Web`."""

    def __init__(self) -> None:
        """Read the credentials; raises AccessDenied where there are none."""
        import google.auth  # noqa: PLC0415 - no other command needs it
        import google.auth.exceptions  # noqa: PLC0415
        import google.auth.transport.requests as transport  # noqa: PLC0415

        try:
            credentials, _ = google.auth.default(scopes=[_SCOPE])
        except google.auth.exceptions.GoogleAuthError as error:
            raise AccessDenied(f"no credentials ({error}); gcloud auth application-default login") from error
        self._session = transport.AuthorizedSession(credentials)  # type: ignore[no-untyped-call]

    def google(self, url: str) -> Resource:
        """See `Web.google`."""
        import google.auth.exceptions  # noqa: PLC0415
        import requests  # noqa: PLC0415

        try:
            answer = self._session.get(url, timeout=_SECONDS[1])
        except google.auth.exceptions.RefreshError as error:
            raise AccessDenied(f"{url}: {error}; gcloud auth application-default login") from error
        except (requests.RequestException, google.auth.exceptions.GoogleAuthError) as error:
            raise BucketUnavailable(f"{url}: no answer ({reason_of(error)}); try again") from error
        if answer.status_code == HTTPStatus.NOT_FOUND:
            raise ObjectMissing(url)
        said = _object(answer)
        if answer.status_code in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            raise AccessDenied(str(said.get("error", {}).get("message", f"{url}: {answer.status_code}")))
        if answer.status_code != HTTPStatus.OK:
            raise BucketUnavailable(f"{url}: {answer.status_code}; try again")
        return said

    def other(self, url: str, authorization: str = "") -> tuple[int, Resource]:
        """See `Web.other`."""
        import requests  # noqa: PLC0415

        headers = {"Authorization": authorization} if authorization else {}
        try:
            answer = requests.get(url, headers=headers, timeout=_SECONDS, allow_redirects=False)
        except requests.RequestException as error:
            raise BucketUnavailable(f"{url}: no answer ({reason_of(error)})") from error
        return answer.status_code, _object(answer)


def _object(answer: Any) -> Resource:  # noqa: ANN401 - a response of requests
    try:
        said = answer.json()
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}
