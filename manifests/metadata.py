"""What names an index's objects on Kubernetes: their names, labels and selectors, and which build they are of.

Nowhere else are they spelled out. The annotations that hold the state of a rollout are `cd_webhook.state`'s.
"""

from __future__ import annotations

from typing import Any, Protocol

PREFIX = "indexpush.dev/"

# Annotations of the Deployment and of its pod template: what is asked for, and what this pod serves.
COMMIT_GENERATION = f"{PREFIX}commit-generation"
INDEX_PREFIX = f"{PREFIX}index-prefix"
INDEX_DIGEST = f"{PREFIX}index-digest"

MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGER = "indexpush"
"""The value of `MANAGED_BY`, and the field manager of every write."""
NAME = "app.kubernetes.io/name"
INSTANCE = "app.kubernetes.io/instance"
COMPONENT = "app.kubernetes.io/component"
PART_OF = "app.kubernetes.io/part-of"
STATE = f"{PREFIX}state"
"""A label of the Deployment: ``<generation>.<digest>`` of the state in its annotations, which `kubectl rollout undo`
rewinds while it leaves labels alone."""
SEARCH = "indexpush-search"
"""The value of `NAME` on everything that belongs to an index."""
BUILD = f"{PREFIX}build"
"""A label of a run of the batch: the name of its build."""
BATCH = "indexpush-batch"
"""The value of `NAME` on everything that belongs to a batch."""
SAFE_TO_EVICT = {"cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes": "data"}
"""An annotation of pods: what is in their volume can be pulled anew, so it must not keep a node from being removed."""
TRACK = f"{PREFIX}track"
"""Tells an index's canary from what serves: `STABLE` or `CANARY_TRACK`."""
STABLE = "stable"
CANARY_TRACK = "canary"
_CANARY_SUFFIX = ".canary"
"""With a dot, which no index's name may have: so no index's Deployment is another one's canary."""


def selector(index: str) -> dict[str, str]:
    """The labels that find all pods of an index, a canary's too: the Service's."""
    return {NAME: SEARCH, INSTANCE: index}


def deployment_selector(deployment: str) -> dict[str, str]:
    """The labels that find the pods of one Deployment, by its name. They never change: the selector is immutable."""
    return {**selector(index_of(deployment)), TRACK: CANARY_TRACK if is_canary(deployment) else STABLE}


def canary_name(index: str) -> str:
    """The name of the Deployment of an index's canary."""
    return f"{index}{_CANARY_SUFFIX}"


def is_canary(deployment: str) -> bool:
    """Whether a Deployment of that name is a canary's."""
    return deployment.endswith(_CANARY_SUFFIX)


def index_of(deployment: str) -> str:
    """The index that a Deployment of that name serves."""
    return deployment.removesuffix(_CANARY_SUFFIX)


def labels(index: str) -> dict[str, str]:
    """The recommended labels of the objects of an index."""
    return {**selector(index), MANAGED_BY: MANAGER, COMPONENT: "search-server", PART_OF: "indexpush"}


def batch_labels(index: str) -> dict[str, str]:
    """The recommended labels of what builds an index."""
    return {NAME: BATCH, INSTANCE: index, MANAGED_BY: MANAGER, COMPONENT: "embedding-batch", PART_OF: "indexpush"}


def is_ours(value: dict[str, Any]) -> bool:
    """Whether an object of the cluster is this project's: whatever lacks these labels is somebody else's."""
    found = value["metadata"].get("labels") or {}
    return {MANAGED_BY: MANAGER, INSTANCE: index_of(value["metadata"]["name"])}.items() <= found.items()


class Build(Protocol):
    """A build as a request names it: by values, or by a Spinnaker's expressions for them."""

    @property
    def generation(self) -> object:
        """Of the commit."""

    @property
    def index_prefix(self) -> object:
        """Where it stands in the bucket."""

    @property
    def index_digest(self) -> str:
        """Of index.json."""


def build_annotations(build: Build) -> dict[str, str]:
    """What a Deployment and its pods say of the build that they serve."""
    return {
        COMMIT_GENERATION: str(build.generation),
        INDEX_PREFIX: str(build.index_prefix),
        INDEX_DIGEST: build.index_digest,
    }
