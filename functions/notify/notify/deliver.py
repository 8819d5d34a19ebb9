"""Tells what is to be told, once: a claim in the bucket before, what was told after."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from model_repository.bucket.store import Store
from model_repository.clock import Clock
from model_repository.errors import DocumentMalformed, GenerationConflict, ObjectMissing, PermanentError, TransientError
from model_repository.telemetry.log import Log
from notify.decide import Step, decide, remember
from notify.look import look
from notify.sinks.sink import LONGEST_PAUSE, Sink, SinkBusy
from notify.state import STATE_LIMIT, State, Told, format_state, parse_state
from notify.statements import Report, statements
from notify.subject import Subject

CLAIM = timedelta(minutes=3)
"""Longer than one instance takes for one subject."""

_SETTLING = timedelta(seconds=30)
"""So long what nobody answered may still be on its way: then it is looked for."""

_STEPS = 6
"""So many are told at once, which is well within a claim; the next look tells the rest."""


class Claimed(TransientError, code="tell-claimed"):
    """Another instance is telling of the same subject, or the sink asked for time: look again later."""


@dataclass(frozen=True, slots=True)
class Teller:
    """Tells one sink. patience: so long a commit may go without a receipt; zero: nobody writes receipts."""

    store: Store
    sink: Sink
    clock: Clock
    patience: timedelta

    def tell(self, subject: Subject, report: Report | None, log: Log) -> None:
        """Look at a subject, and tell what is new.

        Raises `Claimed`, and what the bucket or the sink does; what was told until then is written down.
        """
        name = subject.state_name(self.sink.name)
        # the record first: facts that are older than it belong to whoever wrote it, and the write below finds out
        state, generation = self._read(name, log)
        now = self.clock.now()
        facts = look(self.store, subject, state, now, report)
        said = statements(facts, state, now, self.patience)
        steps = decide(state, said, now)[:_STEPS]
        if not steps:
            return
        if state.busy_until is not None and now < state.busy_until:
            raise Claimed(f"{name}: being told until {state.busy_until.isoformat()}; it passes")
        claimed = replace(state, busy_until=now + CLAIM, unsure_since=state.unsure_since or now)
        try:
            generation = self.store.write(name, format_state(claimed), if_generation_match=generation).generation
        except GenerationConflict as error:
            raise Claimed(f"{name}: another instance came first; it passes") from error
        self._perform(name, generation, subject, steps, state, log)

    def _perform(  # noqa: PLR0917 - one claim
        self, name: str, generation: int, subject: Subject, steps: list[Step], state: State, log: Log
    ) -> None:
        """Do the steps under the claim, and write down how far that came, with what it leaves open."""
        told = {each.key: each for each in state.told}
        now = self.clock.now()
        busy: datetime | None = now + _SETTLING  # unless it turns out better
        unsure: datetime | None = state.unsure_since or now
        try:
            for planned in steps:
                step = _renamed(planned, told)
                message = self.sink.tell(subject, step, state.unsure_since)
                told[step.after.key] = replace(step.after, message=message)
                log.info(f"told {self.sink.name}: {step.kind} {step.id}")
            busy, unsure = None, None
        except SinkBusy as error:
            busy, unsure = now + timedelta(seconds=error.seconds), state.unsure_since
            raise
        except PermanentError:
            busy, unsure = None, state.unsure_since
            raise
        finally:
            after = State(remember(told.values()), busy, unsure)
            try:
                self.store.write(name, format_state(after), if_generation_match=generation)
            except GenerationConflict:  # this took longer than the claim: whoever came next looks what arrived
                log.warning(f"{name}: somebody else's by now")

    def _read(self, name: str, log: Log) -> tuple[State, int]:
        try:
            stored = self.store.read(name, limit=STATE_LIMIT)
        except ObjectMissing:
            return State(()), 0
        try:
            return self._by_its_clock(parse_state(stored.data, name), name), stored.generation
        except DocumentMalformed as error:  # by hand, or of a newer release: nothing is told twice for that
            log.error(f"{error}; delete it, and what is live is told anew", code=error.code)
            raise

    def _by_its_clock(self, state: State, name: str) -> State:
        """The record, whose moments in doubt are not after it was written by the bucket's clock.

        That of whoever wrote it may have been ahead: nobody waits for such a clock, and a message that it dated before
        it was told is found.
        """
        info = self.store.stat(name) if state.busy_until or state.unsure_since else None
        if info is None:
            return state
        busy, unsure = state.busy_until, state.unsure_since
        return replace(
            state,
            busy_until=busy and min(busy, info.updated + timedelta(seconds=LONGEST_PAUSE)),
            unsure_since=unsure and min(unsure, info.updated),
        )


def _renamed(step: Step, told: Mapping[str, Told]) -> Step:
    """The step, of the message as the sink calls it by now: one before may have made another."""
    known = told.get(step.after.key)
    return replace(step, after=replace(step.after, message=known.message)) if known else step
