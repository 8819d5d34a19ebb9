"""robots.txt: https://www.rfc-editor.org/rfc/rfc9309, and the crawl-delay that isn't in it."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from typing import Final

from protego import Protego

ROBOTS_BYTES: Final = 512 * 1024
"""So much of it is read; the RFC asks for 500 KiB at least."""
_AGENT: Final = re.compile(r"\s*user(?:-|\s*)agent(?:\s*:|\s)\s*(.*)", re.IGNORECASE)
_ANYBODY: Final = "*"
_OTHERS: Final = "/"
"""No program is called that: a product has no slash."""


@dataclass(frozen=True, slots=True)
class Robots:
    """What a host allows. refusal: why nothing is to be fetched from it. delay: seconds between two requests.

    may_pass: whether the refusal is one for now.
    """

    rules: Protego | None = None
    refusal: str | None = None
    delay: float | None = None
    may_pass: bool = False

    def refuses(self, url: str, product: str) -> str | None:
        """Why `product` may not fetch this URL, or None where it may."""
        if self.refusal is not None:
            return self.refusal
        if self.rules is None or self.rules.can_fetch(url, product):
            return None
        mend = "ask its owner, or, where hosts are your own, leave it unread with --ignore-robots"
        return f"the host's robots.txt doesn't allow it to {product!r}; {mend}"


EVERYTHING: Final = Robots()
"""Where there is no robots.txt, or none that a client may read (any 4xx but 429), all is allowed."""


def read_robots(body: bytes, product: str, longest_pause: float) -> Robots:
    """What a robots.txt says to `product`. longest_pause: seconds; a host that asks for longer ones isn't visited.

    body: may be gzip, which some hosts send whatever they are asked for.
    """
    text = _unpacked(body).decode("utf-8", "replace")
    rules = Protego.parse("\n".join(_without_others(line, product.lower()) for line in text.splitlines()))
    delay = rules.crawl_delay(product)
    if delay is None or not delay > 0:
        return Robots(rules)
    if delay > longest_pause:
        return Robots(
            refusal=f"the host's robots.txt asks for {delay:g} s between two requests, more than the longest pause "
            f"of {longest_pause:g} s"
        )
    return Robots(rules, delay=delay)


def _without_others(line: str, product: str) -> str:
    """The line; if it names another program, one name for all: Protego keeps each rule for each that stands above it.

    Thousands of names above thousands of rules would take gigabytes, and whoever has a host may write them.
    """
    agent = _AGENT.match(line.partition("#")[0])
    if agent is None:
        return line
    name = agent[1].strip().lower()
    name = name if name == _ANYBODY else name.replace("*", "")
    return f"User-agent: {name if name == _ANYBODY or name in product else _OTHERS}"


def _unpacked(body: bytes) -> bytes:
    if not body.startswith(b"\x1f\x8b"):
        return body
    try:
        return zlib.decompressobj(wbits=31).decompress(body, ROBOTS_BYTES)
    except zlib.error:
        return b""


def unreachable(what: str) -> Robots:
    """Nothing is allowed while nobody knows what is. what: became of the request for it."""
    return Robots(
        refusal=f"the host's robots.txt can't be read now, so nothing is fetched from it: {what}", may_pass=True
    )
