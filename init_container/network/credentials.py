"""Who we are to the bucket: a token, fetched only when one is needed, renewed before it ends.

A pod with Workload Identity asks the metadata server directly: importing google-auth would cost it more time than the
answer. Service-account keys and authorised users, which come as files, are google-auth's.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from model_repository.errors import AccessDenied, BucketUnavailable

_SCOPE = "https://www.googleapis.com/auth/devstorage.read_only"
_EARLY = 225.0
"""Seconds before its end at which a token is renewed, as google-auth does."""
_SECONDS = 10.0

Fetch = Callable[[], tuple[str, float]]
"""Fetches a fresh token; returns it and the seconds for which it holds."""


class Credentials(Protocol):
    """Gives the token to send."""

    def token(self) -> str:
        """The token, or empty for none."""
        ...

    def accepted(self, token: str) -> None:
        """The bucket took the token."""
        ...

    def rejected(self, token: str, why: str) -> None:
        """The bucket answered 401: renews the token, or raises `AccessDenied` if that was tried."""
        ...


class Anonymous:
    """No credentials: an emulator, or a public bucket."""

    def token(self) -> str:
        """See `Credentials`."""
        return ""

    def accepted(self, token: str) -> None:
        """See `Credentials`."""

    def rejected(self, token: str, why: str) -> None:  # noqa: ARG002
        """See `Credentials`."""
        raise AccessDenied(f"{why} to an anonymous request; unset STORAGE_ANONYMOUS to send credentials")


class Tokens:
    """Tokens that end."""

    def __init__(self, fetch: Fetch, clock: Callable[[], float] = time.monotonic) -> None:
        """fetch: called when a token is needed; clock: in seconds."""
        self._fetch = fetch
        self._clock = clock
        self._token = ""
        self._until = float("-inf")
        self._on_trial = False

    def token(self) -> str:
        """See `Credentials`."""
        if self._clock() >= self._until:
            self._renew()
        return self._token

    def accepted(self, token: str) -> None:
        """See `Credentials`."""
        if token == self._token:
            self._on_trial = False

    def rejected(self, token: str, why: str) -> None:
        """See `Credentials`."""
        if token != self._token:
            return  # another connection's 401 has renewed it meanwhile
        if self._on_trial:
            raise AccessDenied(f"{why}, also with a fresh token; check this service account's access to the bucket")
        self._renew()
        self._on_trial = True

    def _renew(self) -> None:
        self._token, seconds = self._fetch()
        self._until = self._clock() + max(seconds - _EARLY, min(seconds, 10.0))


def from_environment(environment: Mapping[str, str], *, anonymous: bool) -> Credentials:
    """The credentials that Application Default Credentials would find. Nothing is fetched yet."""
    if anonymous:
        return Anonymous()
    home = environment.get("CLOUDSDK_CONFIG") or f"{environment.get('HOME', '/')}/.config/gcloud"
    named = environment.get("GOOGLE_APPLICATION_CREDENTIALS", "")
    path = named or f"{home}/application_default_credentials.json"
    if named or Path(path).is_file():
        return Tokens(_google_auth(path))
    return Tokens(_metadata_server(environment.get("GCE_METADATA_HOST") or "metadata.google.internal"))


def _metadata_server(host: str) -> Fetch:
    def fetch() -> tuple[str, float]:
        from http.client import HTTPException  # noqa: PLC0415 - only when a token is needed
        from urllib.request import ProxyHandler, Request, build_opener  # noqa: PLC0415

        url = f"http://{host}/computeMetadata/v1/instance/service-accounts/default/token"
        request = Request(url, headers={"Metadata-Flavor": "Google"})
        problem: Exception | None = None
        for attempt in range(4):
            try:
                with build_opener(ProxyHandler({})).open(request, timeout=_SECONDS) as answer:
                    found = json.load(answer)
                    return str(found["access_token"]), float(found["expires_in"])
            except (OSError, HTTPException, ValueError, KeyError, TypeError) as error:
                if getattr(error, "code", 500) in (403, 404):
                    raise AccessDenied(
                        f"the metadata server answered {error}; give the pod a service account"
                    ) from error
                problem = error
                time.sleep(0.1 * 2**attempt)
        raise BucketUnavailable(f"no token from the metadata server at {host} ({problem}); it may pass")

    return fetch


def _google_auth(path: str) -> Fetch:
    credentials: Any = None

    def fetch() -> tuple[str, float]:
        nonlocal credentials
        import datetime as dt  # noqa: PLC0415 - google-auth is slow to import, and a pod does without

        import google.auth  # noqa: PLC0415
        import google.auth.exceptions  # noqa: PLC0415

        try:
            if credentials is None:
                credentials, _ = google.auth.load_credentials_from_file(path, scopes=[_SCOPE])  # type: ignore[no-untyped-call]
            credentials.refresh(_urllib_request)
        except google.auth.exceptions.TransportError as error:
            raise BucketUnavailable(f"{path}: no token ({error}); it may pass") from error
        except (google.auth.exceptions.GoogleAuthError, OSError, ValueError) as error:
            raise AccessDenied(f"{path}: no token ({error}); check GOOGLE_APPLICATION_CREDENTIALS") from error
        left = 3600.0
        if credentials.expiry is not None:  # in UTC, without saying so
            left = (credentials.expiry - dt.datetime.now(dt.UTC).replace(tzinfo=None)).total_seconds()
        return str(credentials.token), left

    return fetch


class _Answer:
    """What google-auth wants of an HTTP answer."""

    def __init__(self, status: int, headers: Mapping[str, str], data: bytes) -> None:
        self.status, self.headers, self.data = status, headers, data


def _urllib_request(
    url: str,
    method: str = "GET",
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    timeout: float | None = None,
    **_: object,
) -> _Answer:
    """google-auth's transport on the standard library: `requests` would be one more thing to install and import."""
    from urllib.error import HTTPError  # noqa: PLC0415
    from urllib.request import Request, urlopen  # noqa: PLC0415

    import google.auth.exceptions  # noqa: PLC0415

    request = Request(url, data=body, headers=dict(headers or {}), method=method)  # noqa: S310 - from the key file
    try:
        with urlopen(request, timeout=min(timeout or _SECONDS, _SECONDS)) as answer:  # noqa: S310
            return _Answer(answer.status, dict(answer.headers), answer.read())
    except HTTPError as error:
        return _Answer(error.code, dict(error.headers), error.read())
    except OSError as error:
        raise google.auth.exceptions.TransportError(error) from error  # type: ignore[no-untyped-call]
