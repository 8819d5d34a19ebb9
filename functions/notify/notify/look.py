"""What the bucket says of a subject."""

from __future__ import annotations

from datetime import datetime

from model_repository.bucket.store import Store
from model_repository.documents.incidents import INCIDENTS_LIMIT, Incident, parse_incidents
from model_repository.documents.receipts.receipt import Receipt
from model_repository.errors import DocumentMalformed, ObjectMissing
from model_repository.fields import Fields, parse_document
from model_repository.names import IndexPrefix, Target, environment_incidents_name
from model_repository.repository import read_live, read_receipt
from notify.event import Reported
from notify.state import Stage, State
from notify.statements import Facts, LiveCommitFacts, Report
from notify.subject import Subject

_REPORT_LIMIT = 64 * 1024 * 1024
_ERRORS = 3
"""So many of a run's errors are told."""


def look(store: Store, subject: Subject, state: State, now: datetime, report: Report | None) -> Facts:
    """Read what people are told of. Raises what the store does for what may pass."""
    target = subject.target
    incidents = _incidents(store, subject.incidents_name)
    if target is None:
        return Facts(store.bucket, subject, incidents=incidents)
    live = _live(store, target, now)
    known = {each.key.removeprefix("commit ") for each in state.told if each.stage is not Stage.DONE}
    generations = [int(each) for each in known if each.isdigit()]
    if live is not None and live.generation not in generations:
        generations.append(live.generation)
    found = ((generation, _receipt(store, target, generation)) for generation in sorted(generations))
    receipts = {generation: receipt for generation, receipt in found if receipt}
    waits = live is not None and live.generation not in receipts
    around = _incidents(store, environment_incidents_name(target.environment)) if waits else ()
    return Facts(store.bucket, subject, live, receipts, incidents, report, around or ())


def read_report(store: Store, event: Reported) -> tuple[Subject, Report] | None:
    """A run's report, and which index it concerns; None: there is none that can be read."""
    try:
        fields = parse_document(store.read(event.name, limit=_REPORT_LIMIT).data, event.name, limit=_REPORT_LIMIT)
        subject = Subject(fields.text("environment"), event.prefix.index)
        errors = tuple(_error(each) for each in fields.objects("errors", default=[])[:_ERRORS])
        created = fields.moment("created")
        return subject, Report(
            fields.parsed("index_prefix", IndexPrefix.parse), fields.text("outcome"), created, errors
        )
    except (ObjectMissing, DocumentMalformed):
        return None


def _error(fields: Fields) -> tuple[str, str]:
    return fields.text("code"), str(fields.take("message"))


def _live(store: Store, target: Target, now: datetime) -> LiveCommitFacts | None:
    info = store.stat(target.commit_name)
    live = read_live(store, target)
    if not live.generation:
        return None
    since = info.updated if info and info.generation == live.generation else now
    return LiveCommitFacts(live.generation, live.commit, since)


def _receipt(store: Store, target: Target, generation: int) -> Receipt | None:
    try:
        return read_receipt(store, target, generation)
    except (ObjectMissing, DocumentMalformed):
        return None


def _incidents(store: Store, name: str) -> tuple[Incident, ...] | None:
    """What is open; None: nobody can read it, which is no word that all is over."""
    try:
        return parse_incidents(store.read(name, limit=INCIDENTS_LIMIT).data, name)
    except ObjectMissing:
        return ()
    except DocumentMalformed:
        return None
