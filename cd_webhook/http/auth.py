"""Who may call: nobody checked, a shared token, or a Google service account's identity token."""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from google.auth import exceptions as google_errors
from google.auth.transport import requests as google_requests
from google.oauth2 import id_token

from cd_webhook.config import Config
from model_repository.deployment import AuthKind
from model_repository.errors import PermanentError, TransientError

_SKEW_SECONDS = 10
"""How far the sender's clock and ours may be apart."""
_KEYS_SECONDS = 300.0
"""Google says hours, and publishes a new key well before it signs with it."""
_FETCH_SECONDS = 10.0

Check = Callable[[str], str]
"""From the Authorization header to the caller's name; raises one of the errors below."""
Verify = Callable[[str], dict[str, Any]]
"""From an identity token to its claims; raises as google.oauth2.id_token does."""


class Unauthenticated(PermanentError, code="unauthenticated"):
    """No credentials, or wrong ones."""


class NotAllowed(PermanentError, code="not-allowed"):
    """The caller is known, and may not call."""


class KeysUnavailable(TransientError, code="keys-unavailable"):
    """Google's public keys could not be fetched."""


@dataclass(frozen=True, slots=True)
class Checks:
    """call: of who may have anything done. look: of who may ask how it goes, which those may, too."""

    call: Check
    look: Check

    @classmethod
    def same(cls, check: Check) -> Checks:
        """Of those who may do both."""
        return cls(check, check)


def make_checks(config: Config, verify: Verify | None = None) -> Checks:
    """The checks that the configuration asks for. verify: Google's own by default."""
    if config.auth is AuthKind.NONE:
        return Checks.same(lambda _: "anyone")
    if config.auth is AuthKind.BEARER:
        return Checks.same(bearer_check(config.token, config.previous_token))
    verify = verify or verify_for(config.audience, google_requests.Request())
    return Checks(google_check(verify, config.callers), google_check(verify, config.callers | config.readers))


def bearer_check(current: str, previous: str = "") -> Check:
    """A shared secret, and while it is being replaced the one before; both are compared, each in constant time."""

    def check(header: str) -> str:
        token = _token(header).encode()
        is_current = hmac.compare_digest(token, current.encode())
        is_previous = hmac.compare_digest(token, previous.encode()) and previous != ""
        if not (is_current or is_previous):
            raise Unauthenticated("the bearer token is wrong; compare CD_WEBHOOK_TOKEN with WEBHOOK_TOKEN")
        return "WEBHOOK_TOKEN" if is_current else "WEBHOOK_TOKEN_PREVIOUS"

    return check


def google_check(verify: Verify, callers: frozenset[str]) -> Check:
    """An identity token, signed by Google for our audience, of a service account that may call."""

    def check(header: str) -> str:
        try:
            claims = verify(_token(header))
        except google_errors.TransportError as error:
            raise KeysUnavailable(f"Google's public keys can't be fetched ({error}); it may pass") from error
        except (ValueError, google_errors.GoogleAuthError) as error:
            raise Unauthenticated(f"the identity token is no good: {error}") from None
        caller = str(claims.get("email", ""))
        if claims.get("email_verified") is not True or caller not in callers:
            mend = "add it to WEBHOOK_CALLERS if it should, or to WEBHOOK_READERS if it is only to look"
            raise NotAllowed(f"{caller[:200]!r} may not do this; {mend}")
        return caller

    return check


def verify_for(audience: str, request: Callable[..., Any], clock: Callable[[], float] = time.monotonic) -> Verify:
    """Verifies tokens for `audience`, with Google's public keys fetched by `request` (a google.auth.transport.Request).

    Keys are kept for `_KEYS_SECONDS`, so no stranger can make us ask Google for each request of theirs.
    """
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
        claims: dict[str, Any] = id_token.verify_oauth2_token(  # type: ignore[no-untyped-call]
            token, keys, audience, clock_skew_in_seconds=_SKEW_SECONDS
        )
        return claims

    return verify


def _token(header: str) -> str:
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated("no credentials; send Authorization: Bearer <token>")
    return token.strip()
