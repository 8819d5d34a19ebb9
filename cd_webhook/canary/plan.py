"""How the state of an index goes on where a canary comes first; `rules.plan` has the rest."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from cd_webhook.cluster import Object
from cd_webhook.rules.plan import begun, given_up, serves_on
from cd_webhook.rules.rollout import Failed
from cd_webhook.state import Deployed, Rollout, Trial
from model_repository.deployment import DeploymentRequest
from model_repository.documents.receipts.canary_figures import CanaryFigures


def tried_out(
    before: Deployed, request: DeploymentRequest, trial: Trial, stable: Object | None, now: datetime
) -> Deployed:
    """The state when `request` begins with a canary. stable: the spec of the Deployment that it is compared with."""
    accepted = before.accepted if stable == before.spec else None  # else it is applied anew
    after = begun(before, request, trial.spec, now)
    return replace(after, rollout=Rollout.CANARY, spec=stable, trial=trial, accepted=accepted)


def promoted(before: Deployed, trial: Trial, figures: CanaryFigures, now: datetime) -> Deployed:
    """The state when the canary was no worse than what serves, and what it tried out rolls out."""
    return replace(
        before, rollout=Rollout.IN_PROGRESS, spec=trial.spec, trial=None, figures=figures, promoted=now, accepted=None
    )


def aborted(before: Deployed, live: Object, failed: Failed, figures: CanaryFigures | None, now: datetime) -> Deployed:
    """The state when the canary was worse; the pods that serve, those of the Deployment `live`, were never touched."""
    return given_up(before, failed, serves_on(before.last_good, live), figures, now)
