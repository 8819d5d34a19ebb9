"""What an event asks the function to look at. An event only says "look": nothing else in it counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from model_repository.bucket.events import OtherEvent, SweepAsked, Uploaded, read_bucket_event
from model_repository.errors import NameRefused
from model_repository.names import Target
from model_repository.repository import COMMITS, FILTERS


@dataclass(frozen=True, slots=True)
class CommitUploaded:
    """Somebody uploaded this target's commit: look at it."""

    target: Target


@dataclass(frozen=True, slots=True)
class FilterUploaded:
    """Somebody uploaded this target's filter: look at it."""

    target: Target


@dataclass(frozen=True, slots=True)
class Misnamed:
    """Somebody uploaded a commit or a filter under a name that none may have.

    name: of the object. error: says which name would do.
    """

    name: str
    error: NameRefused


Event = CommitUploaded | FilterUploaded | SweepAsked | OtherEvent | Misnamed


def read_event(attributes: Mapping[str, object], data: object, bucket: str) -> Event:
    """What a CloudEvent with these `attributes` and `data` asks for, where `bucket` is the Model Repository's.

    Both forms are taken: Cloud Storage's own event, and a Pub/Sub message that carries a bucket's notification. A
    Pub/Sub message with the attribute ``sweep=true`` asks for a sweep.
    """
    found = read_bucket_event(attributes, data)
    return _of_object(found.bucket, found.name, bucket) if isinstance(found, Uploaded) else found


def _of_object(in_bucket: str, name: str, bucket: str) -> Event:
    if in_bucket != bucket:
        return OtherEvent(f"{name[:200]!r} is in the bucket {in_bucket[:200]!r}, and MODEL_REPOSITORY is gs://{bucket}")
    is_filter = name.startswith(FILTERS) and name.count("/") == FILTERS.count("/") + 1  # deeper are data and receipts
    if not (is_filter or name.startswith(COMMITS)) or name.endswith("/"):
        return OtherEvent(f"{name[:200]!r} is no commit, and no filter")
    try:
        if is_filter:
            return FilterUploaded(Target.from_filter_name(name))
        return CommitUploaded(Target.from_commit_name(name))
    except NameRefused as error:
        return Misnamed(name, error)
