"""What a Deployment's annotations say: all the state that the CD side has."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, TypeVar

from cd_webhook.cluster import Object
from cd_webhook.state.annotations import (
    CANARY,
    CANARY_FIGURES,
    CANARY_SPEC,
    DETAIL,
    LAST_GOOD,
    LAST_GOOD_MANIFEST,
    MANIFEST,
    PROMOTED,
    RECEIPTS_OWED,
    REQUEST,
    ROLLOUT,
    STARTED,
)
from manifests import metadata as marks
from manifests.canary import Canary, parse_canary
from model_repository.canary_figures import CanaryFigures, format_canary_figures, parse_canary_figures
from model_repository.deployment import DeploymentRequest
from model_repository.errors import PermanentError
from model_repository.fields import Fields
from model_repository.names import Target, parse_generation
from model_repository.receipt import Receipt, format_receipt, parse_receipt

T = TypeVar("T")

NEVER = datetime(1970, 1, 1, tzinfo=UTC)


class Rollout(StrEnum):
    """How the newest request stands."""

    CANARY = "canary"
    """It is tried out beside what serves."""
    IN_PROGRESS = "in-progress"
    SERVED = "served"
    UNDONE = "undone"
    UNKNOWN = "unknown"
    """Somebody removed the annotation; the next deploy writes it again."""


@dataclass(frozen=True, slots=True)
class Deployed:
    """What a cluster was last asked to serve, and how that went.

    generation: of the newest request; 0 if somebody removed it. request: None likewise.
    started: when that request was taken up.
    spec: of the Deployment as it was last applied.
    last_good, last_good_spec: what served last, and the spec that it served with; None: nothing ever did.
    owed: receipts that are decided and perhaps not in the bucket yet.
    detail: how the newest request ended, in one sentence; empty while it is in progress.
    canary, canary_spec: the rules of the canary that goes on, and the spec that it tries out; None: no canary goes on.
    figures, promoted: what the newest request's canary showed, and when it was promoted; None: it was not.
    """

    generation: int
    request: DeploymentRequest | None
    rollout: Rollout
    started: datetime
    spec: Object | None
    last_good: DeploymentRequest | None
    last_good_spec: Object | None
    owed: tuple[Receipt, ...]
    detail: str
    canary: Canary | None = None
    canary_spec: Object | None = None
    figures: CanaryFigures | None = None
    promoted: datetime | None = None

    @property
    def pending(self) -> bool:
        """Whether it isn't known yet how the newest request ends."""
        return self.rollout in {Rollout.CANARY, Rollout.IN_PROGRESS}

    @property
    def unfinished(self) -> bool:
        """Whether somebody must look at it again."""
        return self.pending or bool(self.owed)


def read_deployed(value: Object) -> Deployed:
    """Read the state from a Deployment; what a person broke by hand reads as missing, and the next deploy mends it."""
    annotations: dict[str, str] = value["metadata"].get("annotations") or {}

    def read(mark: str, parse: Callable[[str], T]) -> T | None:
        text = annotations.get(mark)
        if not text:
            return None
        try:
            return parse(text)
        except (PermanentError, ValueError, TypeError, KeyError, AttributeError):
            return None

    rollout = read(ROLLOUT, Rollout) or Rollout.UNKNOWN
    request, canary = read(REQUEST, _parse_request), read(CANARY, _parse_canary)
    canary_spec = read(CANARY_SPEC, _parse_object)
    if rollout is Rollout.CANARY and not (request and canary and canary_spec):
        rollout = Rollout.UNKNOWN
    return Deployed(
        generation=read(marks.COMMIT_GENERATION, parse_generation) or 0,
        request=request,
        rollout=rollout,
        started=read(STARTED, _parse_moment) or NEVER,
        spec=read(MANIFEST, _parse_object),
        last_good=read(LAST_GOOD, _parse_request),
        last_good_spec=read(LAST_GOOD_MANIFEST, _parse_object),
        owed=read(RECEIPTS_OWED, _parse_receipts) or (),
        detail=annotations.get(DETAIL, ""),
        canary=canary,
        canary_spec=canary_spec,
        figures=read(CANARY_FIGURES, _parse_figures),
        promoted=read(PROMOTED, _parse_moment),
    )


def format_request(request: DeploymentRequest | None) -> str:
    """A request as an annotation; None is empty."""
    return "" if request is None else _compact(request.to_parameters())


def format_spec(spec: Object | None) -> str:
    """A spec as an annotation; None is empty."""
    return "" if spec is None else _compact(spec)


def format_canary(canary: Canary | None) -> str:
    """The rules of a canary as an annotation; None is empty."""
    return "" if canary is None else _compact(canary.to_json())


def format_figures(figures: CanaryFigures | None) -> str:
    """A canary's figures as an annotation; None is empty."""
    return "" if figures is None else _compact(format_canary_figures(figures))


def format_receipts(receipts: Iterable[Receipt]) -> str:
    """Receipts as an annotation."""
    return _compact([json.loads(format_receipt(receipt)) for receipt in receipts])


def _compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _parse_request(text: str) -> DeploymentRequest:
    return DeploymentRequest.from_parameters(json.loads(text))


def _parse_object(text: str) -> dict[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise TypeError("not an object")
    return value


def _parse_canary(text: str) -> Canary:
    return parse_canary(Fields(_parse_object(text), "the canary's annotation", ""))


def _parse_figures(text: str) -> CanaryFigures:
    return parse_canary_figures(Fields(_parse_object(text), "the canary's figures", ""))


def _parse_receipts(text: str) -> tuple[Receipt, ...]:
    return tuple(
        parse_receipt(json.dumps(value).encode(), Target(value["environment"], value["index"]), value["generation"])
        for value in json.loads(text)
    )


def _parse_moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
