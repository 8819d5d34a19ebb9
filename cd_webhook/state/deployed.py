"""What a cluster was last asked to serve, and how that went: all the state that the CD side has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

from cd_webhook.cluster import Object
from manifests.canary import Canary
from model_repository.deployment import DeploymentRequest
from model_repository.documents.receipts.canary_figures import CanaryFigures
from model_repository.documents.receipts.receipt import Receipt

NEVER = datetime(1970, 1, 1, tzinfo=UTC)


class Rollout(StrEnum):
    """How the newest request stands."""

    CANARY = "canary"
    """It is tried out beside what serves."""
    IN_PROGRESS = "in-progress"
    SERVED = "served"
    UNDONE = "undone"
    REWOUND = "rewound"
    """Somebody put an older revision back (kubectl rollout undo); it serves on until another commit comes."""
    UNKNOWN = "unknown"
    """Nothing was ever asked for, or somebody removed the annotation; the next deploy writes it."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A canary that goes on: by what rules it is judged, and the spec that it tries out."""

    rules: Canary
    spec: Object


@dataclass(frozen=True, slots=True)
class Deployed:
    """One index on the cluster; as it stands here, nothing was ever asked for.

    generation: of the newest request; 0: none, or somebody removed it. request: None likewise.
    started: when that request was taken up.
    spec: of the Deployment as it was last applied.
    last_good, last_good_spec: what served last, and the spec that it served with; None: nothing ever did.
    owed: receipts that are decided and perhaps not in the bucket yet.
    traces: by generation, the traceparent of the delivery of those among them whose rollout is to be a span.
    detail: how the newest request ended, in one sentence; empty while it is pending.
    accepted: the Deployment's spec as the cluster made it of `spec`: defaults and what admission wrote included; None:
        nobody has looked since it was applied.
    displaced: the newest request took the place of one of which nobody knew yet how it ends.
    waiting: what is taken up when the newest request has ended; None: nothing.
    trial: while `rollout` is `CANARY`. figures, promoted: what the newest request's canary showed, and when it was
        promoted; None: it was not.
    """

    generation: int = 0
    request: DeploymentRequest | None = None
    rollout: Rollout = Rollout.UNKNOWN
    started: datetime = NEVER
    spec: Object | None = None
    last_good: DeploymentRequest | None = None
    last_good_spec: Object | None = None
    owed: tuple[Receipt, ...] = ()
    detail: str = ""
    trial: Trial | None = None
    figures: CanaryFigures | None = None
    promoted: datetime | None = None
    displaced: bool = False
    waiting: DeploymentRequest | None = None
    accepted: Object | None = None
    traces: Mapping[int, str] = field(default_factory=dict)

    @property
    def pending(self) -> bool:
        """Whether it isn't known yet how the newest request ends."""
        return self.rollout in {Rollout.CANARY, Rollout.IN_PROGRESS}

    @property
    def unfinished(self) -> bool:
        """Whether somebody must look at it again."""
        return self.pending or bool(self.owed) or self.waiting is not None or self.unaccepted

    @property
    def unaccepted(self) -> bool:
        """Whether nobody has looked yet what the cluster made of `spec`, since that was applied."""
        known = self.spec is not None and self.rollout not in {Rollout.REWOUND, Rollout.UNKNOWN}
        return known and self.accepted is None
