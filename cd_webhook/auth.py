"""Who may call: nobody checked, a shared token, or a Google service account's identity token."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Any, ClassVar

from google.auth import exceptions as google_errors
from google.auth.transport import requests as google_requests
from google.oauth2 import id_token

from cd_webhook.config import Config
from model_repository.deployment import AuthKind
from model_repository.errors import PermanentError, TransientError

Check = Callable[[str], str]
"""From the Authorization header to the caller's name; raises one of the errors below."""
Verify = Callable[[str], dict[str, Any]]
"""From an identity token to its claims; raises as google.oauth2.id_token does."""


class Unauthenticated(PermanentError):
    """No credentials, or wrong ones."""

    code: ClassVar[str] = "unauthenticated"


class NotAllowed(PermanentError):
    """The caller is known, and may not call."""

    code: ClassVar[str] = "not-allowed"


class KeysUnavailable(TransientError):
    """Google's public keys could not be fetched."""

    code: ClassVar[str] = "keys-unavailable"


def make_check(config: Config) -> Check:
    """The check that the configuration asks for."""
    if config.auth is AuthKind.NONE:
        return lambda _: "anyone"
    if config.auth is AuthKind.BEARER:
        return bearer_check(config.token)
    request = google_requests.Request()
    return google_check(lambda token: _verified(token, request, config.audience), config.callers)


def bearer_check(expected: str) -> Check:
    """A shared secret, compared in constant time."""

    def check(header: str) -> str:
        if not hmac.compare_digest(_token(header).encode(), expected.encode()):
            raise Unauthenticated("the bearer token is wrong; compare CD_WEBHOOK_TOKEN with WEBHOOK_TOKEN")
        return "bearer"

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
            raise NotAllowed(f"{caller[:200]!r} may not call; add it to WEBHOOK_CALLERS if it should")
        return caller

    return check


def _verified(token: str, request: google_requests.Request, audience: str) -> dict[str, Any]:
    claims: dict[str, Any] = id_token.verify_oauth2_token(token, request, audience)  # type: ignore[no-untyped-call]
    return claims


def _token(header: str) -> str:
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated("no credentials; send Authorization: Bearer <token>")
    return token.strip()
