"""The spans of a pod's start: its pull and its proof, recorded once they are over.

A puller that succeeds records none itself: the libraries would cost it half a second, and another to export, for which
the server would wait. It leaves what the pull took, and its pod's server tells of both.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from model_repository.telemetry.log import Log, Trace, parse_traceparent
from model_repository.telemetry.spans import (
    Attribute,
    Beginning,
    attributes_of,
    close_spans,
    record_spans,
    span_of_past,
)
from search_server.config import Config
from search_server.metrics import Pull
from search_server.processes.pod import ProcessState, microseconds

SERVICE = "indexpush-search"


@dataclass(frozen=True, slots=True)
class Start:
    """How a pod started. began, ended: of its server, in microseconds since 1970.

    workers: what each did; 0 for what it didn't come to. pull: None: not known. failure: code and reason, or None.
    """

    began: int
    ended: int
    workers: tuple[tuple[int, int, int], ...]
    pull: Pull | None = None
    failure: tuple[str, str] | None = None

    @classmethod
    def of(
        cls, began: int, workers: tuple[ProcessState, ...], pull: Pull | None, failure: tuple[str, str] | None = None
    ) -> Start:
        """The start that ends now."""
        times = tuple((worker.began, worker.opened, worker.proved) for worker in workers)
        return cls(began, microseconds(), times, pull, failure)


def record_start(config: Config, start: Start, environment: Mapping[str, str], log: Log, seconds: float) -> None:
    """Record it, and wait until that is exported, for `seconds` at most. Does nothing without a rollout's span."""
    rollout = parse_traceparent(config.traceparent)
    if rollout is None:
        return
    record_spans(environment, SERVICE, log)
    for past in _spans(config, start, rollout, socket.gethostname()):
        span_of_past(*past)
    close_spans(seconds)


_Past = tuple[Beginning, datetime, tuple[str, str] | None]
"""What `span_of_past` takes."""


def _spans(config: Config, start: Start, rollout: Trace, pod: str) -> Iterator[_Past]:
    of = config.prefix
    about: dict[str, Attribute] = {"index": of.index, "generation": str(config.generation), "build": str(of)}
    about |= {"pod": pod}
    if start.pull and start.pull.started is not None:
        yield _pull(start.pull, start.pull.started, rollout, about)
    proof = rollout.child(f"proof of {pod} {os.getpid()} {start.began}")
    said = attributes_of({**about, "outcome": "failed" if start.failure else "ready"})
    beginning = Beginning("proof", rollout, attributes=said, started=_moment(start.began), span=proof.span)
    yield beginning, _moment(start.ended), start.failure
    for number, (began, opened, proved) in enumerate(start.workers):
        said = attributes_of({"worker": number})
        for name, since, until in (("open", began, opened), ("golden queries", opened, proved)):
            if since and until:
                yield Beginning(name, proof, attributes=said, started=_moment(since)), _moment(until), None


def _pull(pull: Pull, started: float, rollout: Trace, about: dict[str, Attribute]) -> _Past:
    """A server that is started again tells the same of it, in the same place."""
    began, said = datetime.fromtimestamp(started, UTC), attributes_of({**about, "bytes": pull.bytes})
    place = rollout.child(f"pull of {about['pod']}").span
    beginning = Beginning("pull", rollout, attributes=said, started=began, span=place)
    return beginning, began + timedelta(seconds=pull.seconds), None


def _moment(since_1970: int) -> datetime:
    """Microseconds as a moment."""
    return datetime.fromtimestamp(since_1970 / 1e6, UTC)
