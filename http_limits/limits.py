"""The bounds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """What one connection, and all of them together, may ask for.

    target_bytes, head_bytes, fields: of a request's target, where 500 characters take 6,000, and of its whole head; and
        how many fields that has.
    body_bytes: of its body.
    held_bytes: of requests that are not answered yet (bodies, and heads that are large or wait for an earlier answer)
        and of answers that were not taken yet, of all connections; beyond that a request with such is refused, and the
        client that has not read for the longest time is left.
    connections: at the same time; for one more, the longest idle goes.
    head_seconds, body_seconds: for a client to send them. idle_seconds: between two requests of a connection; longer
        than the 600 s for which Google's load balancers keep theirs, so that it is they who close.
    write_seconds: for a client to take an answer. linger_seconds: for a client to close after we did.
    """

    target_bytes: int = 8192
    head_bytes: int = 32 * 1024
    fields: int = 100
    body_bytes: int = 10 * 1024 * 1024
    held_bytes: int = 64 * 1024 * 1024
    connections: int = 4096
    head_seconds: float = 10.0
    body_seconds: float = 30.0
    idle_seconds: float = 620.0
    write_seconds: float = 30.0
    linger_seconds: float = 2.0
