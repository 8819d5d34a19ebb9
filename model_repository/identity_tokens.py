"""Google's identity tokens for the service account that a program runs as: by them the CD webhook knows who calls."""

from __future__ import annotations

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
