"""What a sweep makes of one index: pure functions of what the bucket says and what the cluster says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from model_repository.errors import NameRefused
from model_repository.fields import Fields
from model_repository.names import IndexPrefix, parse_generation

STUCK = timedelta(minutes=30)
"""A rollout that is late by so much is told of: it should have been undone by then."""

SERVICE_GONE = "service-gone"
COMMIT_GONE = "commit-gone"
BUILD_GONE = "build-gone"
ROLLOUT_LATE = "rollout-late"
INDEX_STALE = "index-stale"
COMMIT_LOST = "served-commit-lost"
FINDINGS = frozenset({SERVICE_GONE, COMMIT_GONE, BUILD_GONE, ROLLOUT_LATE, INDEX_STALE, COMMIT_LOST})
"""The codes of what only a sweep finds."""


@dataclass(frozen=True, slots=True)
class IndexStatus:
    """What the cluster says of one index.

    generation: of the commit that it was last asked for; None: nobody knows. serving: the build that its pods should
    have; None likewise. service: its Service is there. late_from: a rollout that goes on then should have ended.
    shadow: it serves beside an index. taken_back: how that commit was undone, or taken back by hand; empty: it wasn't.
    """

    index: str
    generation: int | None
    serving: IndexPrefix | None
    service: bool
    late_from: datetime | None = None
    shadow: bool = False
    taken_back: str = ""


@dataclass(frozen=True, slots=True)
class Compared:
    """What is to be done about an index.

    look: its live commit is to be looked at. gone: the cluster has nothing of it. withdraw: it is a shadow that nobody
    wants any more. pending: a rollout goes on.
    taken_back: how what it was last asked for was taken back. stopped: so that no pod of it runs.
    findings: what a person should know, by code.
    """

    look: bool = False
    gone: bool = False
    withdraw: bool = False
    pending: bool = False
    taken_back: str = ""
    stopped: bool = False
    findings: Mapping[str, str] = field(default_factory=dict)


def compare(committed: int | None, status: IndexStatus | None, now: datetime) -> Compared:
    """Compare an index's live commit with its Deployment.

    committed: the generation of the live commit; None: there is none. status: None: the cluster has no such Deployment.
    """
    if status is None:
        return Compared(look=committed is not None, gone=True)
    if committed is None and status.shadow:
        return Compared(withdraw=True)
    findings: dict[str, str] = {}
    if committed is None:
        findings[COMMIT_GONE] = (
            f"{status.index} serves on without a commit; commit a build of it, or delete its Deployment and Service"
        )
    if not status.service:
        findings[SERVICE_GONE] = (
            f"the Service of {status.index} is gone, so nobody reaches its pods; redeploy it: indexpush redeploy"
        )
    if status.late_from is not None and now - status.late_from > STUCK:
        findings[ROLLOUT_LATE] = (
            f"the rollout of {status.index} should have ended at {status.late_from:%Y-%m-%d %H:%M} UTC; "
            "see the webhook's log and GET /v1/deployments"
        )
    return Compared(
        look=committed is not None and (status.generation != committed or bool(status.taken_back)),
        pending=status.late_from is not None,
        taken_back=status.taken_back,
        stopped=bool(status.taken_back) and status.serving is None,
        findings=findings,
    )


def read_statuses(value: Mapping[str, Any], environment: str) -> dict[str, IndexStatus]:
    """Read the answer to ``GET /v1/deployments``; raises `DocumentMalformed` if it isn't that."""
    fields = Fields(dict(value), f"/v1/deployments of {environment}")
    found = [_read_status(each) for each in fields.objects("deployments")]
    return {status.index: status for status in found}


def _read_status(fields: Fields) -> IndexStatus:
    index, requested, good = fields.text("index"), fields.take("requested", None), fields.take("last_good", None)
    rollout, late = fields.text("rollout", default=""), fields.take("late_from", None)
    known = isinstance(requested, dict) and rollout != "unknown"
    asked = requested if rollout == "served" else good
    return IndexStatus(
        index,
        _parsed(parse_generation, requested.get("generation")) if known else None,
        _parsed(IndexPrefix.parse, asked.get("index_prefix")) if isinstance(asked, dict) else None,
        service=bool(fields.take("service", True)),  # noqa: FBT003 - a webhook that doesn't say
        late_from=_parsed(datetime.fromisoformat, late),
        shadow=fields.take("shadow", False) is True,  # noqa: FBT003 - a webhook of before shadows
        taken_back=str(fields.take("detail", "") or rollout) if rollout in {"undone", "rewound"} else "",
    )


def _parsed(parse: Any, text: object) -> Any:  # noqa: ANN401 - one for each kind
    try:
        return parse(text) if isinstance(text, str) else None
    except (NameRefused, ValueError):
        return None
