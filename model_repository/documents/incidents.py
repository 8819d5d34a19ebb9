"""The record of incidents: what may pass and lasts, so that people are told of it once, and once when it is over."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from model_repository.documents.receipts.receipt import printable
from model_repository.fields import format_document, format_moment, parse_document

INCIDENTS_LIMIT = 64 * 1024
"""Most bytes of a record."""

CLAIM = timedelta(minutes=1)
"""Longer than it takes to tell of one: then whoever began with that was killed."""

_SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Incident:
    """Something that is wrong now.

    code: stable (docs/errors.md). detail: what is wrong and the mend, as it was said last. since: when it was met
    first. told: people know. telling: since when somebody tells them; None: nobody does.
    """

    code: str
    detail: str
    since: datetime
    told: bool = False
    telling: datetime | None = None


@dataclass(frozen=True, slots=True)
class Observation:
    """What follows from a look. after: the record to keep. lasting: to be told of now. over: to be told that it is."""

    after: tuple[Incident, ...]
    lasting: tuple[Incident, ...]
    over: tuple[Incident, ...]


def observe(
    before: tuple[Incident, ...],
    found: Mapping[str, str],
    looked_for: Callable[[str], bool],
    now: datetime,
    patience: timedelta,
) -> Observation:
    """Compare what was known with what a look found.

    found: by code, in what words. looked_for: whether this look would have found a code: the others stay as they are.
    patience: for so long nobody is told.
    """
    known = {incident.code: incident for incident in before}
    after = [incident for incident in before if not looked_for(incident.code)]
    lasting: list[Incident] = []
    for code, detail in found.items():
        incident = replace(known.get(code, Incident(code, "", now)), detail=printable(detail)[:1000])
        if not incident.told:
            # not later than now: a clock that was ahead when it was met must not keep people from being told
            incident = replace(incident, since=min(incident.since, now))
            claimed = incident.telling is not None and abs(now - incident.telling) < CLAIM
            if not claimed and now - incident.since >= patience:
                incident = replace(incident, telling=now)
                lasting.append(incident)
        after.append(incident)
    gone = [each for each in before if looked_for(each.code) and each.code not in found]
    over = [each for each in gone if each.told or each.telling]  # perhaps people hear of it just now
    return Observation(tuple(sorted(after, key=lambda each: each.code)), tuple(lasting), tuple(over))


def parse_incidents(data: bytes, name: str) -> tuple[Incident, ...]:
    """Read a record; raises `DocumentMalformed`."""
    fields = parse_document(data, name, limit=INCIDENTS_LIMIT)
    fields.schema_version(_SCHEMA)
    found = []
    for each in fields.objects("incidents", most=100):
        telling = each.moment("telling") if each.has("telling") else None
        words = each.text("code"), each.text("detail", default="")
        found.append(Incident(*words, each.moment("since"), each.flag("told"), telling))
        each.done()
    fields.done()
    return tuple(found)


def format_incidents(incidents: tuple[Incident, ...]) -> bytes:
    """Write a record: parse(format(x)) == x."""
    values = [
        {"code": each.code, "detail": each.detail, "since": format_moment(each.since), "told": each.told}
        | ({"telling": format_moment(each.telling)} if each.telling else {})
        for each in incidents
    ]
    return format_document({"schema_version": _SCHEMA, "incidents": values})
