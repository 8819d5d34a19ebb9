"""What to do about a request: the whole rule, as a function of values."""

from __future__ import annotations

from dataclasses import dataclass

from model_repository.deployment import DeploymentRequest


@dataclass(frozen=True, slots=True)
class Deploy:
    """Roll `request` out."""

    request: DeploymentRequest


@dataclass(frozen=True, slots=True)
class AlreadyDeployed:
    """The same upload was handled before, whatever became of it: a duplicate delivery, or a sweep."""

    generation: int


@dataclass(frozen=True, slots=True)
class Superseded:
    """A newer upload got there first; acting now would put an old build live."""

    by_generation: int


Decision = Deploy | AlreadyDeployed | Superseded


def decide(request: DeploymentRequest, deployed_generation: int | None) -> Decision:
    """Say what `request` asks of a cluster that was last asked for `deployed_generation` (None: never).

    Only generations are compared. An older build under a newer generation is a rollback and deploys; the same build
    under a newer generation is a forced redeploy and deploys too; a generation that was undone is not tried again.
    """
    if deployed_generation is None or request.generation > deployed_generation:
        return Deploy(request)
    if request.generation == deployed_generation:
        return AlreadyDeployed(deployed_generation)
    return Superseded(by_generation=deployed_generation)
