"""What to do about a request: the whole rule, as a function of values."""

from __future__ import annotations

from dataclasses import dataclass

from cd_webhook.state import Deployed, Rollout
from manifests.canary import Canary
from manifests.metadata import MANAGER
from model_repository.deployment import DeploymentRequest


@dataclass(frozen=True, slots=True)
class Situation:
    """What a decision rests on besides the request, all of it read before.

    deployed: what the cluster was last asked for. foreign: the Deployment of that name isn't this project's.
    serving: how many pods are ready, of whatever build.
    canary: the rules by which the environment wants new builds tried out first; None: it doesn't.
    live_generation: of the commit object in the bucket, as it is now; None: nobody looked. It decides nothing yet.
    """

    deployed: Deployed
    foreign: bool = False
    serving: int = 0
    canary: Canary | None = None
    live_generation: int | None = None


@dataclass(frozen=True, slots=True)
class Deploy:
    """Roll it out."""


@dataclass(frozen=True, slots=True)
class TryOut:
    """Make a canary of it, beside the pods that serve."""

    rules: Canary


@dataclass(frozen=True, slots=True)
class TakeBack:
    """End the rollout that goes on, go back to what served last, and make a canary of the request beside that."""

    rules: Canary


@dataclass(frozen=True, slots=True)
class AlreadyDeployed:
    """The same upload was handled before, whatever became of it: a duplicate delivery, or a sweep."""

    how: str


@dataclass(frozen=True, slots=True)
class Superseded:
    """A newer upload got there first; acting now would put an old build live."""

    by_generation: int


@dataclass(frozen=True, slots=True)
class Refuse:
    """It can never be applied. what: the object that is in the way. why: what is wrong with it, and the mend."""

    what: str
    why: str


Decision = Deploy | TryOut | TakeBack | AlreadyDeployed | Superseded | Refuse


def decide(request: DeploymentRequest, situation: Situation) -> Decision:
    """Say what `request` asks for.

    Only generations are compared. An older build under a newer generation is a rollback and deploys; the same build
    under a newer generation is a forced redeploy and deploys too; a generation that was undone is not tried again.

    A canary comes first where the environment asks for one and something serves that it can be compared with. When no
    pod serves there is nothing to compare with, and nothing to protect: the mend must not wait for it.
    """
    deployed = situation.deployed
    if situation.foreign:
        mend = f"isn't managed by {MANAGER}; rename the index, or delete that Deployment"
        return Refuse(f"Deployment {request.target.index}", mend)
    if request.generation == deployed.generation:
        how = f"commit {deployed.generation}: {deployed.rollout.value}: {deployed.detail}".removesuffix(": ")
        return AlreadyDeployed(how)
    if request.generation < deployed.generation:
        return Superseded(deployed.generation)
    if situation.canary is None or deployed.last_good_spec is None or not situation.serving:
        return Deploy()
    return TakeBack(situation.canary) if deployed.rollout is Rollout.IN_PROGRESS else TryOut(situation.canary)


def check_addressee(request: DeploymentRequest, environment: str, bucket: str) -> Refuse | None:
    """Refuse what is meant for another environment's webhook; nothing of it concerns this one's indexes or receipts."""
    if request.target.environment != environment:
        return Refuse(
            "parameters",
            f"environment {request.target.environment!r}: this webhook deploys {environment!r}; "
            "point the sender at the other environment's webhook",
        )
    if request.bucket != bucket:
        return Refuse("parameters", f"bucket {request.bucket!r}: this webhook's Model Repository is {bucket!r}")
    return None
