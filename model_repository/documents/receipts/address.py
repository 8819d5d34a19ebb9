"""Where an index answers: stands beside the receipt of the commit that serves there, and is written once, as that is.

Not a field of the receipt: releases before read receipts strictly, and would take one with a further field for
unreadable. What is no receipt's name they pass over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlsplit

from model_repository.documents.receipts.receipt import format_head, open_receipt
from model_repository.errors import NameRefused
from model_repository.fields import format_document
from model_repository.names import Target
from model_repository.records import Bound, read, written

ADDRESS_LIMIT = 4096
"""Most bytes of an address."""

_LONGEST = 500
_INDEX = "{index}"


def parse_url(text: str) -> str:
    """Return `text`, an http or https URL without credentials, or raise `NameRefused`."""
    refused = NameRefused(f"{text[:80]!r}: expected a URL such as https://search.example/home-store")
    if len(text) > _LONGEST or not text.isascii() or not text.isprintable() or set(text) & set(" \"'<>\\^`{|}"):
        raise refused
    try:
        parts = urlsplit(text)
        named = parts.hostname and parts.port != 0
    except ValueError:  # a port that is none, an address of IPv6 that doesn't end
        raise refused from None
    if parts.scheme not in {"http", "https"} or not named or "@" in parts.netloc:
        raise refused
    return text


Url = Annotated[str, Bound(parse=parse_url)]


@dataclass(frozen=True, slots=True)
class Address:
    """Where the build of the commit of `target` with `generation` answers.

    inside: the URL from within the cluster. outside: for callers elsewhere; empty: none is known.
    """

    target: Target
    generation: int
    inside: Url
    outside: Url = ""


def parse_url_of_indexes(text: str) -> str:
    """Return `text`, a URL in which ``{index}`` stands for an index, or raise `NameRefused`."""
    if text.count(_INDEX) != 1:
        raise NameRefused(f"{text[:80]!r}: expected {_INDEX} once, such as https://search.example/{_INDEX}")
    parse_url(url_of(text, "index"))
    return text


def url_of(urls: str, index: str) -> str:
    """The URL of one index; urls: as `parse_url_of_indexes` takes it."""
    return urls.replace(_INDEX, index)


def parse_address(data: bytes, target: Target, generation: int) -> Address:
    """Read what stands at `target.address_name(generation)`; raises `DocumentMalformed`."""
    fields = open_receipt(data, target.address_name(generation), target, generation, ADDRESS_LIMIT)
    return read(Address, fields, target=target, generation=generation)


def format_address(address: Address) -> bytes:
    """Write an address: parse(format(x)) == x."""
    return format_document(format_head(address.target, address.generation) | written(address, "target", "generation"))
