"""What an HTTP answer means to somebody who wants a picture: decided from its status and headers alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Final

from yarl import URL

from embedding_batch.pictures.politeness import retry_after

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_MAY_PASS: Final = frozenset({408, 425, 429})
_SERVER_ERROR: Final = 500
_URI: Final = frozenset("!#$%&'()*+,-./:;=?@[]_~")
"""What may stand in a URI beside letters and digits (RFC 3986)."""


@dataclass(frozen=True, slots=True)
class Body:
    """It comes. length: its bytes, if the host says."""

    length: int | None


@dataclass(frozen=True, slots=True)
class Unchanged:
    """The bytes of before hold."""


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """It is at another URL."""

    url: URL


@dataclass(frozen=True, slots=True)
class Refused:
    """It can't be had, and asking again wouldn't help. status: 0 where there is no answer."""

    reason: str
    status: int = 0


@dataclass(frozen=True, slots=True)
class Failed:
    """It may be had another time. wait: seconds that the host asks for, if it does."""

    reason: str
    wait: float | None = None


Answer = Body | Unchanged | Elsewhere | Refused | Failed


def judge(
    status: int, headers: Mapping[str, str], url: URL, *, conditional: bool, most_bytes: int | None, now: datetime
) -> Answer:
    """Decide. headers: by name, in any case. conditional: asked with If-None-Match or If-Modified-Since.

    most_bytes: of a picture, which must not be compressed either; None: it is none, and its reader takes what it likes.
    """
    said = f"{host_of(url)} answered {status}{_phrase(status)}"
    if status == HTTPStatus.OK:
        return Body(None) if most_bytes is None else _body(headers, url, most_bytes)
    if status == HTTPStatus.NOT_MODIFIED and conditional:
        return Unchanged()
    if status in _REDIRECTS and "Location" in headers:
        target = parse_url(headers["Location"], url)
        return (
            Refused(f"{said} with a Location that can't be followed", status) if target is None else Elsewhere(target)
        )
    if status in _MAY_PASS or status >= _SERVER_ERROR:
        return Failed(said, retry_after(headers.get("Retry-After", ""), now))
    return Refused(said, status)


def _body(headers: Mapping[str, str], url: URL, most_bytes: int) -> Answer:
    encoding = headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in {"identity", ""}:
        return Refused(
            f"{host_of(url)} sends it compressed ({encoding[:20]!r}), though it was asked not to", HTTPStatus.OK
        )
    stated = headers.get("Content-Length", "")
    length = int(stated) if stated.isascii() and stated.isdecimal() else None
    if length is not None and length > most_bytes:
        return too_large(url, most_bytes)
    return Body(length)


def too_large(url: URL, most_bytes: int) -> Refused:
    """It has more bytes than are taken."""
    return Refused(f"{host_of(url)} sends more than the {most_bytes} bytes allowed", HTTPStatus.OK)


def _phrase(status: int) -> str:
    try:
        return f" {HTTPStatus(status).phrase}"
    except ValueError:
        return ""


def host_of(url: URL) -> str:
    """Its host, as settings and messages call it: in lower case, in its own letters, without a dot at the end."""
    return (url.host or "").rstrip(".")


def parse_url(text: str, base: URL | None = None) -> URL | None:
    """The http or https URL that `text` is (to `base`, if it is relative); None: it is none.

    What is a URI already is taken letter by letter, since signatures may depend on it; anything else is quoted.
    """
    plain = text.strip()
    as_it_is = plain.isascii() and all(letter.isalnum() or letter in _URI for letter in plain)
    try:
        url = URL(plain, encoded=as_it_is)
        url = base.join(url) if base is not None else url
        fit = url.scheme in {"http", "https"} and bool(url.host) and url.port is not None
    except (ValueError, UnicodeError):
        return None
    return url.with_fragment(None) if fit else None
