"""What each event has the function do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta

from model_repository.bucket.events import SweepAsked
from model_repository.bucket.store import Store
from model_repository.clock import Clock
from model_repository.errors import DeliveryError, NameRefused, PermanentError, TransientError
from model_repository.names import check_label
from model_repository.repository import list_commits
from model_repository.telemetry.log import Log
from notify.deliver import Teller
from notify.event import Event, Look, Reported
from notify.look import read_report
from notify.sinks.sink import Sink, SinkBusy, SinkSilent
from notify.statements import Report
from notify.subject import Subject

SinksOf = Callable[[Subject], Sequence[Sink]]


class Handler:
    """Handles events. Holds nothing from one to the next."""

    def __init__(self, store: Store, sinks: SinksOf, clock: Clock, patience: timedelta) -> None:
        """sinks: where people are told of a subject. patience: so long a commit may go without a receipt."""
        self._store = store
        self._sinks = sinks
        self._clock = clock
        self._patience = patience

    def handle(self, event: Event, log: Log) -> None:
        """Tell what is new. Raises `TransientError` when another delivery of the event may do better."""
        match event:
            case Look(subject):
                self._tell(subject, None, log)
            case Reported() as reported:
                if (found := read_report(self._store, reported)) is not None:
                    self._tell(*found, log)
            case SweepAsked():
                self._sweep(log)
            case None:
                log.info("passed over: nothing that people are told of")

    def _tell(self, subject: Subject, report: Report | None, log: Log, tired: set[str] | None = None) -> None:
        """Tell every sink, whatever another one says. What a sink refuses for good is logged: a sweep tries again.

        tired: names of sinks that are left alone; those are added that ask for it, or don't answer.
        """
        log = log.bind(environment=subject.environment, index=subject.index)
        tired = set() if tired is None else tired
        later: TransientError | None = None
        for sink in self._sinks(subject):
            if sink.name in tired:
                continue
            try:
                Teller(self._store, sink, self._clock, self._patience).tell(subject, report, log)
            except PermanentError as error:
                log.error(f"not told: {error}", code=error.code)
            except TransientError as error:
                if isinstance(error, SinkBusy | SinkSilent):
                    tired.add(sink.name)
                later = error
        if later is not None:
            raise later

    def _sweep(self, log: Log) -> None:
        """Look at everything: tells what events got lost for, and again what is due. The next sweep mends this one."""
        subjects = {
            Subject(each.target.environment, each.target.index) for each in list_commits(self._store) if each.target
        }
        for folder in ("incidents/", "notices/slack/", "notices/webhook/"):
            for info in self._store.listing(folder):
                with suppress(NameRefused):
                    subjects.add(_subject(info.name.removeprefix(folder).removesuffix(".json")))
        tired: set[str] = set()
        for subject in sorted(subjects):
            try:
                self._tell(subject, None, log, tired)
            except DeliveryError as error:
                log.warning(f"not now: {subject.environment}/{subject.index}: {error}", code=error.code)


def _subject(path: str) -> Subject:
    """Read ``<environment>`` or ``<environment>/<index>``; raises `NameRefused`."""
    environment, _, index = path.partition("/")
    check_label("environment", environment)
    return Subject(environment, check_label("index", index) if index else "")
