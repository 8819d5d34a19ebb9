"""Google's identity tokens: of the service account that a program runs as, and what one that somebody shows says."""

from __future__ import annotations

import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from google.auth import exceptions
from google.auth.transport.requests import Request
from google.oauth2 import id_token

from model_repository.errors import TransientError


class NoIdentityToken(TransientError, code="no-identity-token"):
    """No token is to be had. may_pass: by itself; else the program doesn't run as a service account."""

    def __init__(self, message: str, *, may_pass: bool) -> None:
        super().__init__(message)
        self.may_pass = may_pass


class IdentityTokens:
    """Tokens for several audiences, each used for as long as it lasts."""

    def __init__(self) -> None:
        self._credentials: dict[str, Any] = {}

    def __call__(self, audience: str) -> str:
        """A valid token for `audience`. Raises `NoIdentityToken`."""
        try:
            if audience not in self._credentials:
                self._credentials[audience] = id_token.fetch_id_token_credentials(  # type: ignore[no-untyped-call]
                    audience, request=Request()
                )
            credentials = self._credentials[audience]
            if not credentials.valid:
                credentials.refresh(Request())
            return str(credentials.token)
        except exceptions.GoogleAuthError as error:
            may_pass = isinstance(error, exceptions.TransportError) or bool(error.retryable)
            when = "; it may pass" if may_pass else "; run it as a service account, or choose another CD_WEBHOOK_AUTH"
            raise NoIdentityToken(f"{audience}: no identity token ({error}){when}", may_pass=may_pass) from error


def audience_of(url: str) -> str:
    """Whom a token is for that is shown at a webhook's `url`: its origin."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


_SKEW_SECONDS = 10
"""How far the sender's clock and ours may be apart."""
_KEYS_SECONDS = 300.0
"""Google says hours, and publishes a new key well before it signs with it."""
_FETCH_SECONDS = 10.0

Verify = Callable[[str], dict[str, Any]]
"""From a signed token to its claims; raises as google.oauth2.id_token does: ValueError or GoogleAuthError."""


def verify_for(
    audience: str,
    request: Callable[..., Any] | None = None,
    *,
    keys_url: str = "",
    clock: Callable[[], float] = time.monotonic,
) -> Verify:
    """Verifies tokens for `audience`, with Google's public keys.

    request: fetches them (a google.auth.transport.Request). keys_url: where they are; empty: those of identity tokens,
    whose issuer is checked, too. Keys are kept for `_KEYS_SECONDS`, so no stranger can make us ask Google for each
    request of theirs.
    """
    request = request or Request()
    fetched: tuple[float, Any] | None = None

    def keys(url: str, method: str) -> Any:  # noqa: ANN401 - Google's response
        nonlocal fetched
        if fetched is None or clock() - fetched[0] > _KEYS_SECONDS:
            response = request(url, method=method, timeout=_FETCH_SECONDS)
            if response.status != HTTPStatus.OK:
                return response
            fetched = (clock(), response)
        return fetched[1]

    def verify(token: str) -> dict[str, Any]:
        where = {"certs_url": keys_url} if keys_url else {}
        by: Any = id_token.verify_token if keys_url else id_token.verify_oauth2_token
        claims: dict[str, Any] = by(token, keys, audience, clock_skew_in_seconds=_SKEW_SECONDS, **where)
        return claims

    return verify
