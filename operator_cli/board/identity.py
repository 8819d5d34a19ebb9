"""Who is asking, and may they change anything? The address has a secret, or a proxy before the board vouches."""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from starlette.requests import Request

_CERTIFICATES = "https://www.gstatic.com/iap/verify/public_key"
_ISSUER = "https://cloud.google.com/iap"
_ASSERTION = "x-goog-iap-jwt-assertion"
_COOKIE = "indexpush-board"
_KEEP_SECONDS, _LOOK_AGAIN_SECONDS = 3600.0, 30.0
"""Google's keys rotate slowly. One that isn't known is looked for anew, and not for each of many that aren't."""


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

    def __init__(self, audience: str, fetch_keys: Callable[[], Mapping[str, str]] | None = None) -> None:
        """audience: ``/projects/<number>/...``, as IAP shows it. fetch_keys: PEM by key id; default: Google's."""
        self._audience = audience
        self._fetch = fetch_keys or _google_keys
        self._keys: Mapping[str, str] = {}
        self._fetched = -_KEEP_SECONDS

    def reader(self, request: Request) -> None:
        """See `SignIn`."""

    def writer(self, request: Request) -> str:
        """See `SignIn`."""
        assertion = request.headers.get(_ASSERTION)
        if not assertion:
            raise SignInNeeded("you didn't come through the sign-in: open the board's own address")
        try:
            claims = self._claims(assertion)
        except ValueError as error:  # google.auth's errors are its
            raise SignInNeeded(f"your sign-in can't be verified; reload the page to sign in anew ({error})") from None
        email = claims.get("email")
        if claims.get("iss") != _ISSUER or not isinstance(email, str) or not email:
            raise SignInNeeded("your sign-in is not one of IAP; reload the page to sign in anew")
        return email

    def _claims(self, assertion: str) -> Mapping[str, Any]:
        from google.auth import exceptions, jwt  # noqa: PLC0415 - only this sign-in needs it

        try:
            header = jwt.decode_header(assertion)  # type: ignore[no-untyped-call]
            if not isinstance(header, dict) or header.get("alg") != "ES256":
                raise ValueError("it isn't signed with ES256")
            keys = self._keys_with(header.get("kid"))
            claims: Mapping[str, Any] = jwt.decode(assertion, certs=keys, audience=self._audience)  # type: ignore[no-untyped-call]
        except exceptions.GoogleAuthError as error:
            raise ValueError(str(error)) from None
        return claims

    def _keys_with(self, key: object) -> Mapping[str, str]:
        age = time.monotonic() - self._fetched
        if age > _KEEP_SECONDS or (key not in self._keys and age > _LOOK_AGAIN_SECONDS):
            self._keys, self._fetched = self._fetch(), time.monotonic()
        if key not in self._keys:
            raise ValueError("it is signed with a key that isn't Google's")
        return self._keys


def _google_keys() -> Mapping[str, str]:
    import requests  # noqa: PLC0415 - it comes with Google's client

    try:
        answer = requests.get(_CERTIFICATES, timeout=5)
        answer.raise_for_status()
        keys: Mapping[str, str] = answer.json()
    except requests.RequestException as error:
        raise ValueError(f"Google's keys can't be fetched: {error}") from None
    return keys
