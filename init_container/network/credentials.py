"""Who we are to the bucket: a token, fetched only when one is needed, renewed before it ends.

A pod with Workload Identity asks the metadata server directly: importing google-auth would cost it more time than the
answer. Service-account keys and authorised users, which come as files, are google-auth's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from init_container.network.answers import Head, reason
from model_repository.errors import AccessDenied, BucketUnavailable, DeliveryError, DocumentMalformed, Misconfigured

_SCOPE = "https://www.googleapis.com/auth/devstorage.read_only"
_EARLY = 225.0
"""Seconds before its end at which a token is renewed, as google-auth does."""
_SECONDS = 10.0
_PATIENCE = 30.0
"""Seconds for which the metadata server may refuse: under Workload Identity it does so in a pod's first seconds."""
_LONGEST_WAIT = 2.0
_LIMIT = 64 * 1024

Fetch = Callable[[], tuple[str, float]]
"""Fetches a fresh token, or an empty one for none; returns it and the seconds for which it holds."""


class Tokens:
    """The token to send. When it ends is counted from its arrival, not by the clock on the wall, which may be off."""

    def __init__(self, fetch: Fetch, clock: Callable[[], float] = time.monotonic) -> None:
        """fetch: called when a token is needed; clock: in seconds."""
        self._fetch = fetch
        self._clock = clock
        self._token = ""
        self._until = float("-inf")

    def token(self) -> str:
        """The token, or empty for none."""
        if self._clock() >= self._until:
            self._token, seconds = self._fetch()
            self._until = self._clock() + max(seconds - _EARLY, min(seconds, 10.0))
        return self._token

    def rejected(self, token: str) -> None:
        """The bucket answered 401: another one is fetched, unless another connection's 401 has had that done."""
        if token == self._token:
            self._until = float("-inf")


def from_environment(environment: Mapping[str, str], *, anonymous: bool) -> Tokens:
    """The tokens that Application Default Credentials would find. Nothing is fetched yet."""
    if anonymous:
        return Tokens(lambda: ("", float("inf")))
    home = environment.get("CLOUDSDK_CONFIG") or f"{environment.get('HOME', '/')}/.config/gcloud"
    named = environment.get("GOOGLE_APPLICATION_CREDENTIALS", "")
    path = named or f"{home}/application_default_credentials.json"
    if named or Path(path).is_file():
        return Tokens(_google_auth(path))
    return Tokens(metadata_server(environment.get("GCE_METADATA_HOST") or "metadata.google.internal"))


def metadata_server(
    host: str, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
) -> Fetch:
    """Asks the metadata server, for half a minute; then raises `AccessDenied` or `BucketUnavailable`."""

    def fetch() -> tuple[str, float]:
        from http.client import HTTPException  # noqa: PLC0415 - only when a token is needed
        from urllib.error import HTTPError  # noqa: PLC0415

        until, wait = clock() + _PATIENCE, 0.1
        error: DeliveryError
        while True:
            try:
                return _ask_metadata_server(host)
            except HTTPError as refusal:
                with refusal:
                    said = f"answered {refusal.code} {_reason(refusal)}".rstrip()
                error = AccessDenied(f"the metadata server at {host} {said}; give the pod a service account")
            except (OSError, HTTPException, DocumentMalformed) as trouble:
                error = BucketUnavailable(f"no token from the metadata server at {host} ({trouble}); it may pass")
            if clock() + wait > until:
                raise error
            sleep(wait)
            wait = min(2 * wait, _LONGEST_WAIT)

    return fetch


def _ask_metadata_server(host: str) -> tuple[str, float]:
    from urllib.request import ProxyHandler, Request, build_opener  # noqa: PLC0415

    from model_repository.fields import parse_document  # noqa: PLC0415

    url = f"http://{host}/computeMetadata/v1/instance/service-accounts/default/token"
    request = Request(url, headers={"Metadata-Flavor": "Google"})
    with build_opener(ProxyHandler({})).open(request, timeout=_SECONDS) as answer:
        fields = parse_document(answer.read(_LIMIT), "its answer", limit=_LIMIT)
    return fields.text("access_token", longest=_LIMIT), fields.number("expires_in", least=0, most=1e9)


def _reason(refusal: Any) -> str:  # noqa: ANN401 - an HTTPError: importing its type costs time
    try:
        return reason(Head(refusal.code, {}), refusal.read(_LIMIT))
    except Exception:  # noqa: BLE001 - a body that breaks off: the status is enough
        return ""


def _google_auth(path: str) -> Fetch:
    credentials: Any = None

    def fetch() -> tuple[str, float]:
        nonlocal credentials
        import datetime as dt  # noqa: PLC0415 - google-auth is slow to import, and a pod does without

        import google.auth  # noqa: PLC0415
        import google.auth.exceptions  # noqa: PLC0415

        mend = "check GOOGLE_APPLICATION_CREDENTIALS"
        try:
            if credentials is None:
                credentials, _ = google.auth.load_credentials_from_file(path, scopes=[_SCOPE])  # type: ignore[no-untyped-call]
        except (google.auth.exceptions.GoogleAuthError, OSError, ValueError) as error:
            raise Misconfigured(f"{path}: no credentials ({error}); {mend}") from error
        try:
            credentials.refresh(_urllib_request)
        except google.auth.exceptions.TransportError as error:
            raise BucketUnavailable(f"{path}: no token ({error}); it may pass") from error
        except (google.auth.exceptions.GoogleAuthError, OSError, ValueError, TypeError, OverflowError) as error:
            raise AccessDenied(f"{path}: no token ({error}); {mend}, and this machine's clock") from error
        if credentials.expiry is None:
            return str(credentials.token), 3600.0
        # In UTC, without saying so. A fresh token that has ended says that the clock is off: the bucket says its end.
        left = (credentials.expiry - dt.datetime.now(dt.UTC).replace(tzinfo=None)).total_seconds()
        return str(credentials.token), left if left > 0 else 600.0

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
    from http.client import HTTPException  # noqa: PLC0415
    from urllib.error import HTTPError  # noqa: PLC0415
    from urllib.request import Request, urlopen  # noqa: PLC0415

    import google.auth.exceptions  # noqa: PLC0415

    request = Request(url, data=body, headers=dict(headers or {}), method=method)  # noqa: S310 - from the key file
    try:
        with urlopen(request, timeout=min(timeout or _SECONDS, _SECONDS)) as answer:  # noqa: S310
            return _Answer(answer.status, dict(answer.headers), answer.read())
    except HTTPError as error:
        return _Answer(error.code, dict(error.headers), error.read())
    except (OSError, HTTPException) as error:
        raise google.auth.exceptions.TransportError(error) from error  # type: ignore[no-untyped-call]
