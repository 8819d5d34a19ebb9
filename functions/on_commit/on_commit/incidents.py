"""What may pass and lasts: people are told once when it has lasted, and once when it is over."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta

from model_repository.bucket.store import Store
from model_repository.clock import Clock
from model_repository.documents.incidents import (
    INCIDENTS_LIMIT,
    Incident,
    Observation,
    format_incidents,
    observe,
    parse_incidents,
)
from model_repository.errors import DeliveryError, DocumentMalformed, GenerationConflict, ObjectMissing
from model_repository.names import Target, environment_incidents_name
from model_repository.notify import Event, Notice, Notifier, NotifyRefused
from model_repository.telemetry.log import Log

_TRIES = 10
"""To write that people were told, while others write to the record."""


class Incidents:
    """The records of one Model Repository.

    They stand in the bucket, since the function forgets; what the bucket doesn't take is remembered here meanwhile.
    """

    def __init__(self, store: Store, notifier: Notifier, clock: Clock, patience: timedelta) -> None:
        """patience: for so long nobody is told of what may pass."""
        self._store = store
        self._notifier = notifier
        self._clock = clock
        self._patience = patience
        self._unwritten: dict[str, tuple[Incident, ...]] = {}

    def of_index(
        self,
        target: Target,
        found: Mapping[str, str],
        looked_for: Callable[[str], bool],
        log: Log,
        *,
        patience: timedelta | None = None,
    ) -> None:
        """Note what a look at `target` found: messages by code. looked_for: the codes that it would have found."""
        subject = Notice(Event.FAULT, self._store.bucket, target.commit_name, "", "", target.environment, target.index)
        self._note(target.incidents_name, subject, found, looked_for, log, patience)

    def lasts(self, target: Target, code: str, log: Log) -> bool:
        """Whether a fault of `target` is known for longer than nobody is told."""
        known, _ = self._read(target.incidents_name, log)
        now = self._clock.now()
        return any(each.code == code and now - each.since >= self._patience for each in known)

    def of_environment(self, environment: str, found: Mapping[str, str], log: Log) -> None:
        """Note what concerns every index of `environment`."""
        folder = f"commits/{environment}/"
        subject = Notice(Event.FAULT, self._store.bucket, folder, "", "", environment)
        self._note(environment_incidents_name(environment), subject, found, lambda _: True, log, None)

    def _note(  # noqa: PLR0917 - one observation
        self,
        name: str,
        subject: Notice,
        found: Mapping[str, str],
        looked_for: Callable[[str], bool],
        log: Log,
        patience: timedelta | None,
    ) -> None:
        before, generation = self._read(name, log)
        wait = self._patience if patience is None else patience
        seen = observe(before, found, looked_for, self._clock.now(), wait)
        if seen.after == before:
            return
        try:
            generation = self._store.write(
                name, format_incidents(seen.after), if_generation_match=generation
            ).generation
            self._unwritten.pop(name, None)
        except GenerationConflict:  # somebody else looked at the same time, and tells
            return
        except DeliveryError as error:
            self._unwritten[name] = seen.after
            log.warning(f"{name}: not written: {error}", code=error.code)
        for each in seen.over:  # that isn't kept until it could be told: the record says what is wrong now
            self._tell(subject, Event.OVER, each, log)
        if seen.lasting:
            told = {each.code for each in seen.lasting if self._tell(subject, Event.FAULT, each, log)}
            self._note_told(name, generation, seen, told, log)

    def _tell(self, subject: Notice, event: Event, incident: Incident, log: Log) -> bool:
        """Publish; False: the topic didn't answer, so it is still to be told. One that refuses isn't asked again."""
        detail = incident.detail if event is Event.FAULT else f"over: {incident.detail}"
        log.error(f"{event}: {detail}", code=incident.code)
        try:
            self._notifier.publish(subject.saying(event, incident.code, detail))
        except NotifyRefused as error:
            log.error(f"not published: {error}", code=error.code)
        except DeliveryError as error:
            log.error(f"not published: {error}", code=error.code)
            return False
        return True

    def _note_told(self, name: str, generation: int, seen: Observation, told: set[str], log: Log) -> None:
        """End the claims: what could not be told is told by whoever looks next, as after a minute what nobody ended is.

        Others may write meanwhile, what they found; whoever told is the only one to say so.
        """
        mine, known = {each.code for each in seen.lasting}, seen.after
        for _ in range(_TRIES):
            after = tuple(
                replace(each, told=each.told or each.code in told, telling=None) if each.code in mine else each
                for each in known
            )
            if name in self._unwritten:
                self._unwritten[name] = after
                return
            try:
                self._store.write(name, format_incidents(after), if_generation_match=generation)
            except GenerationConflict:
                known, generation = self._read(name, log)
                continue
            except DeliveryError as error:
                log.warning(f"{name}: not written: {error}", code=error.code)
            return

    def _read(self, name: str, log: Log) -> tuple[tuple[Incident, ...], int]:
        """What is known, and the generation of the record, 0 if there is none."""
        try:
            stored = self._store.read(name, limit=INCIDENTS_LIMIT)
        except ObjectMissing:
            return self._unwritten.get(name, ()), 0
        except DocumentMalformed as error:
            log.warning(str(error), code=error.code)
            found = self._store.stat(name)
            return (), found.generation if found else 0
        except DeliveryError:
            return self._unwritten.get(name, ()), 0
        try:
            return self._unwritten.get(name) or parse_incidents(stored.data, name), stored.generation
        except DocumentMalformed as error:  # by hand, or of a newer release: written anew
            log.warning(str(error), code=error.code)
            return (), stored.generation
