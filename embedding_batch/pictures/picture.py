"""What is asked, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture, and what is known of it from before.

    uri: as `sources` has it: an absolute path, gs://bucket/object, http:// or https://. version: what the catalogue
    says of its state, if anything. etag, modified: the headers ETag and Last-Modified of the answer that brought its
    bytes. sha256: of those bytes, 32 bytes; None: they were never seen.
    """

    uri: str
    version: str | None
    etag: str | None = None
    modified: str | None = None
    sha256: bytes | None = None


@dataclass(frozen=True, slots=True)
class Fetched:
    """What became of a picture: exactly one of three.

    New bytes: data and their sha256. Unchanged: sha256 without data, the bytes of before hold. Not to be had: reason, a
    sentence without credentials; sha256 and data are None. etag, modified: what to ask with the next time.
    may_pass: with a reason: another run may well have it (the host was busy, or silent): nothing says that the bytes of
    before are no longer the picture.
    """

    picture: Picture
    sha256: bytes | None
    data: bytes | None
    etag: str | None
    modified: str | None
    reason: str | None
    may_pass: bool = False


def missing(picture: Picture, reason: str, *, may_pass: bool = False) -> Fetched:
    """It can't be had."""
    return Fetched(picture, None, None, None, None, reason, may_pass)
