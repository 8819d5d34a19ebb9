"""What a CloudEvent says of a bucket: Cloud Storage's own event, or a Pub/Sub message that carries a notification."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

FINALIZED = "google.cloud.storage.object.v1.finalized"
MESSAGE_PUBLISHED = "google.cloud.pubsub.topic.v1.messagePublished"
_SOURCE = "//storage.googleapis.com/projects/_/buckets/"
_SUBJECT = "objects/"


@dataclass(frozen=True, slots=True)
class Uploaded:
    """Somebody finished an upload. Both are what the event says, unchecked."""

    bucket: str
    name: str


@dataclass(frozen=True, slots=True)
class SweepAsked:
    """A Pub/Sub message with the attribute ``sweep=true``: look at everything."""


@dataclass(frozen=True, slots=True)
class OtherEvent:
    """Nothing to look at, and why."""

    why: str


def read_bucket_event(attributes: Mapping[str, object], data: object) -> Uploaded | SweepAsked | OtherEvent:
    """What a CloudEvent with these `attributes` and `data` says."""
    kind = attributes.get("type")
    if kind == FINALIZED:
        # The data of a damaged event arrives as bytes; its attributes name the object all the same.
        return Uploaded(
            _text(data, "bucket") or _text(attributes, "source").removeprefix(_SOURCE),
            _text(data, "name") or _text(attributes, "subject").removeprefix(_SUBJECT),
        )
    if kind != MESSAGE_PUBLISHED:
        return OtherEvent(f"events of type {str(kind)[:200]!r} are of no concern here")
    stated = _field(_field(data, "message"), "attributes")
    if _text(stated, "sweep").lower() == "true":
        return SweepAsked()
    if _text(stated, "eventType") != "OBJECT_FINALIZE":
        return OtherEvent("a message that is neither a bucket's notification of a finished upload nor a sweep")
    return Uploaded(_text(stated, "bucketId"), _text(stated, "objectId"))


def _field(value: object, field: str) -> object:
    return value.get(field) if isinstance(value, Mapping) else None


def _text(value: object, field: str) -> str:
    found = _field(value, field)
    return found if isinstance(found, str) else ""
