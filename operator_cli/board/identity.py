"""Who is asking, and may they change anything? The address has a secret, or a proxy before the board vouches."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from starlette.requests import Request

_CERTIFICATES = "https://www.gstatic.com/iap/verify/public_key"
_ISSUER = "https://cloud.google.com/iap"
_ASSERTION = "x-goog-iap-jwt-assertion"
_COOKIE = "indexpush-board"


class SignInNeeded(Exception):
    """Nobody known is asking; the message says what to do."""


class SignIn(Protocol):
    """How people sign in."""

    def reader(self, request: Request) -> None:
        """Raise `SignInNeeded` if whoever asks may not even look."""
        ...

    def writer(self, request: Request) -> str:
        """Who is asking, for the record. Raises `SignInNeeded` if whoever asks may change nothing."""
        ...


@dataclass(frozen=True, slots=True)
class OwnMachine:
    """One person's own machine, which others may be signed in to, too: the address that is printed has a secret.

    The secret becomes a cookie that only this page is sent with (SameSite=Strict) and no script reads.
    """

    name: str
    secret: str = field(default_factory=lambda: secrets.token_urlsafe(24))

    def reader(self, request: Request) -> None:
        """See `SignIn`."""
        if not self._same(request.cookies.get(self.cookie(request), "")):
            raise SignInNeeded("open the address that indexpush board printed")

    def writer(self, request: Request) -> str:
        """See `SignIn`."""
        self.reader(request)
        return self.name

    def opens(self, request: Request) -> bool:
        """Whether the address has the secret."""
        return self._same(request.query_params.get("key", ""))

    def cookie(self, request: Request) -> str:
        """The cookie's name: cookies know no ports, and two boards may be open."""
        return f"{_COOKIE}-{request.url.port or 80}"

    def _same(self, said: str) -> bool:
        return hmac.compare_digest(said.encode(), self.secret.encode())


@dataclass(frozen=True, slots=True)
class ReadOnly:
    """Whoever reaches the board may look; nobody changes anything."""

    def reader(self, request: Request) -> None:
        """See `SignIn`."""

    def writer(self, request: Request) -> str:
        """See `SignIn`."""
        del request
        raise SignInNeeded("this board is for looking only; use the command, or a board behind a sign-in")


class Iap:
    """Google's Identity-Aware Proxy in front: its assertion says who is asking, and is verified each time.

    Whoever comes without one came around the proxy: they may look, and change nothing.
    https://cloud.google.com/iap/docs/signed-headers-howto
    """

    def __init__(self, audience: str, request: Callable[..., Any] | None = None) -> None:
        """audience: ``/projects/<number>/...``, as IAP shows it. request: fetches Google's keys; see `verify_for`."""
        from model_repository.programs.identity_tokens import verify_for  # noqa: PLC0415 - only this sign-in needs it

        self._verify = verify_for(audience, request, keys_url=_CERTIFICATES)

    def reader(self, request: Request) -> None:
        """See `SignIn`."""

    def writer(self, request: Request) -> str:
        """See `SignIn`."""
        from google.auth.exceptions import GoogleAuthError  # noqa: PLC0415 - only this sign-in needs it

        assertion = request.headers.get(_ASSERTION)
        if not assertion:
            raise SignInNeeded("you didn't come through the sign-in: open the board's own address")
        try:
            claims = self._verify(assertion)
        except (ValueError, GoogleAuthError) as error:
            raise SignInNeeded(f"your sign-in can't be verified; reload the page to sign in anew ({error})") from None
        email = claims.get("email")
        if claims.get("iss") != _ISSUER or not isinstance(email, str) or not email:
            raise SignInNeeded("your sign-in is not one of IAP; reload the page to sign in anew")
        return email
