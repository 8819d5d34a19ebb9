"""What an event asks the function to look at. An event only says "look": what is told is what the bucket says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from model_repository.bucket.events import SweepAsked, Uploaded, read_bucket_event
from model_repository.errors import NameRefused
from model_repository.names import IndexPrefix, Target, parse_generation
from notify.subject import Subject

_DEEPEST = 4
"""Names have at most so many parts: deployments/<environment>/<index>/<generation>.json."""


@dataclass(frozen=True, slots=True)
class Look:
    """Something changed about this subject."""

    subject: Subject


@dataclass(frozen=True, slots=True)
class Reported:
    """A run of the batch wrote its report; which environment it was for stands in there."""

    prefix: IndexPrefix

    @property
    def name(self) -> str:
        """The name of the report."""
        return f"reports/{self.prefix.index}/{self.prefix.build}.json"


Event = Look | Reported | SweepAsked | None


def read_event(attributes: Mapping[str, object], data: object, bucket: str) -> Event:
    """What a CloudEvent asks for, where `bucket` is the Model Repository's; None: nothing that people are told of."""
    match read_bucket_event(attributes, data):
        case SweepAsked() as sweep:
            return sweep
        case Uploaded(in_bucket, name) if in_bucket == bucket:
            try:
                return _of_object(name)
            except NameRefused:  # on_commit refuses misnamed commits, and nobody acts on the others
                return None
        case _:
            return None


def _of_object(name: str) -> Event:
    parts = name.removesuffix(".json").split("/")
    if not name.endswith(".json") or len(parts) > _DEEPEST:
        return None
    match parts:
        case ["commits", environment, index]:
            found = Look(Subject(environment, index))
        case ["deployments", environment, index, generation]:
            parse_generation(generation)
            found = Look(Subject(environment, index))
        case ["incidents", environment, *index] if len(index) <= 1:
            found = Look(Subject(environment, *index))
        case ["reports", index, build]:
            return Reported(IndexPrefix(index, build))
        case _:
            return None
    Target(found.subject.environment, found.subject.index or "index")  # refuses what can't be a name
    return found
