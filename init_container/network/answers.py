"""What an HTTP answer of the bucket means: decided on its head alone, without a network.

Which family a failure belongs to is decided here, once: `TransientError` is tried again, `PermanentError` is not, and
only what follows from an object's bytes is permanent. What the server says of it stands in the message.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus

from model_repository.errors import (
    AccessDenied,
    BucketRefused,
    BucketUnavailable,
    BuildIncomplete,
    ObjectMissing,
    PermanentError,
    SetupFault,
)

_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
_DIGITS = r"\d{1,18}"
"""A number that fits into 64 bits; Python itself refuses to read more than 4,300 digits."""
_NUMBER = re.compile(_DIGITS, re.ASCII)
_CONTENT_RANGE = re.compile(f"bytes ({_DIGITS})-({_DIGITS})/({_DIGITS})", re.ASCII)
_LONGEST_WAIT = 60.0
REASON_LIMIT = 4096
"""Most bytes of a refusal's body that are read for the server's reason."""
_REASON_LENGTH = 300


class ObjectReplaced(PermanentError, code="object-replaced"):
    """The object was written again while it was being pulled: builds are immutable, so this one can't be trusted."""

    def __init__(self, name: str, expected: int) -> None:
        super().__init__(
            f"{name}: generation {expected} was replaced while it was pulled; upload the build under a new name"
        )


class TokenExpired(SetupFault, code="token-expired"):
    """The bucket answered 401: a fresh token may do."""


class AnswerMalformed(BucketUnavailable, code="answer-malformed"):
    """The answer isn't what was asked for: something on the way tampers with it."""


class Busy(BucketUnavailable):
    """The bucket answered 408, 429 or 5xx. wait: seconds that it asked for, or None."""

    def __init__(self, message: str, wait: float | None) -> None:
        super().__init__(message)
        self.wait = wait


@dataclass(frozen=True, slots=True)
class Head:
    """Status and headers of an answer; header names in lower case, of repeated ones the last.

    reason: what the body of a refusal says, for a person, or empty.
    """

    status: int
    headers: Mapping[str, str]
    reason: str = ""

    @property
    def length(self) -> int | None:
        """Bytes of the body, or None if the head doesn't say."""
        return None if "transfer-encoding" in self.headers else _number(self.headers.get("content-length", ""))

    @property
    def generation(self) -> int | None:
        """The object's generation, or None."""
        return _number(self.headers.get("x-goog-generation", ""))

    @property
    def closes(self) -> bool:
        """Whether the server closes the connection after this answer."""
        return self.headers.get("connection", "").lower() == "close"

    @property
    def crc32c(self) -> str | None:
        """The whole object's crc32c as GCS writes it, or None."""
        for entry in self.headers.get("x-goog-hash", "").split(","):
            if entry.strip().startswith("crc32c="):
                return entry.strip()[len("crc32c=") :]
        return None


def _number(text: str) -> int | None:
    """A number that somebody else wrote, or None if it is none that fits into 64 bits."""
    return int(text) if _NUMBER.fullmatch(text) else None


def parse_head(data: bytes) -> Head:
    """Read a head up to but without its empty line; raises `AnswerMalformed`."""
    lines = data.decode("latin-1").split("\r\n")
    version, _, rest = lines[0].partition(" ")
    status = _number(rest[:3])
    if version not in ("HTTP/1.1", "HTTP/1.0") or status is None:
        raise AnswerMalformed(f"an answer began with {lines[0][:40]!r}, not HTTP")
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if colon:
            name = name.lower()
            # GCS may give x-goog-hash as two headers, one for each digest.
            joined = name == "x-goog-hash" and name in headers
            headers[name] = f"{headers[name]},{value.strip()}" if joined else value.strip()
    return Head(status, headers)


def reason(head: Head, body: bytes) -> str:
    """What the beginning of a refusal's body says: the message of Google's JSON, or the text; at most a few lines."""
    if "transfer-encoding" in head.headers:  # of chunks the first, between its length and its end
        body = body.partition(b"\r\n")[2].partition(b"\r\n")[0]
    if body.startswith(b"\x1f\x8b"):
        try:
            body = zlib.decompressobj(wbits=31).decompress(body, REASON_LIMIT)
        except zlib.error:
            return ""
    import json  # noqa: PLC0415 - only a refusal needs it

    try:
        text = str(json.loads(body)["error"]["message"])
    except (ValueError, LookupError, TypeError, RecursionError):
        text = body.decode(errors="replace")
    return "".join(each for each in " ".join(text.split()) if each.isprintable())[:_REASON_LENGTH]


def check_status(name: str, head: Head, *, now: datetime | None = None) -> None:
    """Raise what the status of an answer about object `name` means, unless it brings the object."""
    status = head.status
    if status in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
        return
    said = f" ({head.reason})" if head.reason else ""
    answered = f"{name}: the bucket answered {status}{said}"
    if status in _TRANSIENT:
        wait = retry_after(head.headers.get("retry-after", ""), now or datetime.now(UTC))
        raise Busy(f"{answered}; it may pass", wait)
    if status == HTTPStatus.UNAUTHORIZED:
        raise TokenExpired(f"{answered}; check the pod's service account; unset STORAGE_ANONYMOUS if it is anonymous")
    if status == HTTPStatus.FORBIDDEN:
        raise AccessDenied(f"{answered}; grant this service account roles/storage.objectViewer")
    if status == HTTPStatus.NOT_FOUND:
        raise ObjectMissing(name, f"check the name, or upload it{said}")
    if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        raise BuildIncomplete(name, "more bytes", "fewer (416)")
    if 300 <= status < 400:  # noqa: PLR2004
        # Following would carry the token to wherever the answer points.
        to = head.headers.get("location", "nowhere")[:200]
        raise BucketRefused(f"{answered} to {to!r}, which is not followed; check the endpoint and HTTPS_PROXY")
    raise BucketRefused(f"{answered}; check MODEL_REPOSITORY and the endpoint")


def check_range(name: str, head: Head, size: int, start: int, end: int) -> None:
    """Raise unless the answer brings ``[start, end)`` of an object of `size` bytes, as it is stored."""
    length = head.length
    whole = start == 0 and end == size
    if head.status == HTTPStatus.PARTIAL_CONTENT:
        match = _CONTENT_RANGE.fullmatch(head.headers.get("content-range", ""))
        if match is None:
            raise AnswerMalformed(f"{name}: answered 206 without a Content-Range")
        first, last, total = map(int, match.groups())
        if total != size:
            raise BuildIncomplete(name, f"{size} bytes", f"{total} bytes")
        if (first, last) != (start, end - 1) or length != end - start:
            raise AnswerMalformed(
                f"{name}: asked for bytes {start}-{end - 1}, answered {first}-{last}, length {length}"
            )
    elif length is None or "gunzipped" in head.headers.get("warning", ""):
        raise AnswerMalformed(f"{name}: answered without a length: something on the way unpacks or rewrites it")
    elif length != size:
        raise BuildIncomplete(name, f"{size} bytes", f"{length} bytes")
    elif not whole:
        raise AnswerMalformed(f"{name}: answered 200 to a ranged request: something on the way drops the Range header")


def retry_after(text: str, now: datetime) -> float | None:
    """Seconds to wait by a Retry-After header (seconds or a date), at most a minute; None if it doesn't say."""
    if text.isascii() and text.isdigit():
        return min(float(text), _LONGEST_WAIT)  # of however many digits: at worst infinite
    if not 0 < len(text) < 40:  # noqa: PLR2004 - no date is longer
        return None
    from email.utils import parsedate_to_datetime  # noqa: PLC0415 - 25 ms that only a rare answer needs

    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return min(max((moment - now).total_seconds(), 0.0), _LONGEST_WAIT) if moment.tzinfo else None
