"""The function over a bucket in memory, a clock that stands, and Slack behind HTTP, spoken to by Slack's own client."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from model_repository.bucket.events import SweepAsked
from model_repository.bucket.store import Store
from model_repository.documents.commit import Commit
from model_repository.documents.incidents import Incident, format_incidents
from model_repository.documents.receipts.receipt import Outcome
from model_repository.fields import format_document, format_moment
from model_repository.names import IndexPrefix, Target
from model_repository.repository import write_commit, write_receipt
from model_repository.telemetry.log import Log
from notify.event import Event, Look, Reported
from notify.handle import Handler
from notify.sinks.sink import Sink
from notify.sinks.slack import Slack
from notify.subject import Subject
from tests import builds
from tests.fake_clock import FakeClock
from tests.memory_store import MemoryStore
from tests.notify.slack_server import CHANNEL, TOKEN, SlackServer

HOME = Subject("staging", "home")
TARGET = Target("staging", "home")


class ClockedStore(MemoryStore):
    """A bucket in memory whose objects are as old as a clock says."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__("a-bucket")
        self._clock = clock

    def now(self) -> datetime:
        return self._clock.now()


@dataclass
class Scene:
    """sinks: where people are told; empty: Slack alone. ahead: so much the function's clock is, before all others."""

    slack: SlackServer
    clock: FakeClock = field(default_factory=FakeClock)
    token: str = TOKEN
    channel: str = CHANNEL
    patience: timedelta = timedelta(minutes=30)
    sinks: list[Sink] = field(default_factory=list)
    ahead: timedelta = timedelta(0)
    log: io.StringIO = field(default_factory=io.StringIO)

    def __post_init__(self) -> None:
        self.store = ClockedStore(self.clock)
        self.slack.now = lambda: self.clock.now().timestamp()

    def sink(self) -> Slack:
        return Slack(lambda: self.token, lambda _environment: self.channel, self.slack.url)

    def handle(self, event: Event, store: Store | None = None) -> None:
        """An instance that was started for this event alone."""
        sinks = self.sinks or [self.sink()]
        own = FakeClock(self.clock.now() + self.ahead)
        handler = Handler(store or self.store, lambda _subject: sinks, own, self.patience)
        handler.handle(event, Log(stream=self.log))

    def look(self, store: Store | None = None) -> None:
        self.handle(Look(HOME), store)

    def sweep(self) -> None:
        self.handle(SweepAsked())

    def after(self, **time: float) -> None:
        self.clock.moment += timedelta(**time)

    def commit(self, build: str = "b1", **fields: Any) -> int:
        commit = Commit(IndexPrefix("home", build), **fields)
        return write_commit(self.store, TARGET, commit, if_generation_match=None).generation

    def receipt(self, generation: int, outcome: Outcome = Outcome.SERVED, **fields: Any) -> None:
        said = {"started": self.clock.now(), "finished": self.clock.now() + timedelta(seconds=7)} | fields
        write_receipt(self.store, builds.receipt(generation, TARGET, outcome=outcome, **said))

    def incidents(self, *incidents: Incident, name: str = TARGET.incidents_name) -> None:
        self.store.write(name, format_incidents(incidents), if_generation_match=None)

    def report(self, build: str, outcome: str, *errors: tuple[str, str], environment: str = "staging") -> None:
        """A run of the batch wrote its report, and the event comes."""
        value = {
            "index_prefix": f"indexes/home/{build}",
            "environment": environment,
            "created": format_moment(self.clock.now()),
            "outcome": outcome,
            "errors": [{"step": "embed", "number": None, "code": code, "message": said} for code, said in errors],
        }
        self.store.write(f"reports/home/{build}.json", format_document(value), if_generation_match=None)
        self.reported(build)

    def reported(self, build: str) -> None:
        self.handle(Reported(IndexPrefix("home", build)))

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.getvalue().splitlines()]
