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

    deployed: what the cluster was last asked for. exists: there is a Deployment of that name; foreign: it isn't this
    project's.
    live_generation: of the commit object, read from the bucket after the Deployment was; None: there is no commit.
    serving: how many pods are ready, of whatever build. late: what goes on should have ended by now.
    canary: the rules by which the environment wants new builds tried out first; None: it doesn't.
    """

    deployed: Deployed
    live_generation: int | None
    exists: bool = True
    foreign: bool = False
    serving: int = 0
    late: bool = False
    canary: Canary | None = None


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
class Wait:
    """Take it up when the rollout that goes on has ended."""

    behind: int


@dataclass(frozen=True, slots=True)
class AlreadyDeployed:
    """The same upload was handled before, whatever became of it: a duplicate delivery, or a sweep."""

    how: str


@dataclass(frozen=True, slots=True)
class Superseded:
    """It isn't the live commit; acting on it would put an old build live. by: what is; None: nothing."""

    by: int | None


@dataclass(frozen=True, slots=True)
class Refuse:
    """It can never be applied. what: the object that is in the way. why: what is wrong with it, and the mend."""

    what: str
    why: str


Decision = Deploy | TryOut | TakeBack | Wait | AlreadyDeployed | Superseded | Refuse


def decide(request: DeploymentRequest, situation: Situation) -> Decision:
    """Say what `request` asks for.

    A generation is the name of an upload, unique within one commit object of one bucket, and no number: Google doesn't
    promise that they grow. So it is only compared for being the same. A request is deployed exactly when its upload is
    the live one and isn't what the cluster was last asked for: an older build under the live generation is a rollback,
    the same build under it a redeploy; a generation that was undone is not tried again.

    A rollout that goes on is replaced at once, so that a mend doesn't wait for what it mends. One that has itself
    replaced another may finish, in its time: else nothing would ever serve where commits come faster than rollouts end.

    A canary comes first where the environment asks for one and something serves that it can be compared with. When no
    pod serves there is nothing to compare with, and nothing to protect: the mend must not wait for it.
    """
    if refused := _in_the_way(request, situation):
        return refused
    if request.restores is not None:
        return _restore(request.restores, situation)
    if handled := _handled(request, situation):
        return handled
    deployed = situation.deployed
    if deployed.pending and deployed.displaced and not situation.late:
        return Wait(deployed.generation)
    if situation.canary is None or deployed.last_good_spec is None or not situation.serving:
        return Deploy()
    return TakeBack(situation.canary) if deployed.rollout is Rollout.IN_PROGRESS else TryOut(situation.canary)


def _handled(request: DeploymentRequest, situation: Situation) -> AlreadyDeployed | Superseded | None:
    deployed = situation.deployed
    # What can't be read any more was perhaps never finished: then the same upload is deployed again.
    if request.generation == deployed.generation and deployed.rollout is not Rollout.UNKNOWN:
        how = f"commit {deployed.generation}: {deployed.rollout.value}: {deployed.detail}".removesuffix(": ")
        return AlreadyDeployed(how)
    # The bucket keeps the first receipt of a commit, so nobody may be quicker than what is decided and on its way.
    if owed := next((each for each in deployed.owed if each.generation == request.generation), None):
        return AlreadyDeployed(f"commit {owed.generation}: {owed.outcome}: {owed.detail}")
    if request.generation != situation.live_generation:
        return Superseded(situation.live_generation)
    waits = deployed.waiting is not None and deployed.waiting.generation == request.generation
    if waits and deployed.pending and not situation.late:
        return AlreadyDeployed(f"commit {request.generation}: waits for commit {deployed.generation}")
    return None


def _restore(restores: int, situation: Situation) -> Decision:
    deployed = situation.deployed
    stopped = deployed.rollout is Rollout.UNDONE and deployed.last_good is None and not situation.serving
    if situation.exists and not stopped:
        return AlreadyDeployed("the Deployment is there: nothing to restore")
    return Deploy() if restores == situation.live_generation else Superseded(situation.live_generation)


def _in_the_way(request: DeploymentRequest, situation: Situation) -> Refuse | None:
    what = f"Deployment {request.target.index}"
    if situation.foreign:
        return Refuse(what, f"isn't managed by {MANAGER}; rename the index, or delete that Deployment")
    asked = situation.deployed.request
    if asked is not None and (asked.bucket, asked.target) != (request.bucket, request.target):
        theirs = f"gs://{asked.bucket}/{asked.target.commit_name}"
        return Refuse(what, f"serves {theirs}, another commit object; rename the index, or delete that Deployment")
    return None


def check_addressee(request: DeploymentRequest, environment: str, bucket: str) -> Refuse | None:
    """Refuse what is meant for another environment's webhook; nothing of it concerns this one's indexes or receipts."""
    if request.target.environment != environment:
        return Refuse(
            "parameters",
            f"environment {request.target.environment!r}: this webhook deploys {environment!r}; "
            "point the sender at the other environment's webhook",
        )
    if request.bucket != bucket:
        return Refuse(
            "parameters",
            f"bucket {request.bucket!r}: this webhook's Model Repository is {bucket!r}; "
            "point the sender at that bucket's webhook",
        )
    return None
