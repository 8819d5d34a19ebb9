"""Who may call: nobody checked, a shared token, or a Google service account's identity token."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass

from google.auth import exceptions as google_errors

from cd_webhook.config import Config
from model_repository.deployment import AuthKind
from model_repository.errors import PermanentError, TransientError
from model_repository.programs.identity_tokens import Verify, verify_for

Check = Callable[[str], str]
"""From the Authorization header to the caller's name; raises one of the errors below."""


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
    verify = verify or verify_for(config.audience)
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


def _token(header: str) -> str:
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated("no credentials; send Authorization: Bearer <token>")
    return token.strip()
