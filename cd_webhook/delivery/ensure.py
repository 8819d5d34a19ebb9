"""What stands beside a Deployment: its Service and its PodDisruptionBudget."""

from __future__ import annotations

from contextlib import suppress

from cd_webhook.cluster import BeingDeleted, Cluster, Conflict, Object, name_of, version_of
from manifests.metadata import MANAGER, is_ours
from model_repository.errors import DocumentMalformed

_TRIES = 10


def ensure(cluster: Cluster, value: Object) -> None:
    """Have the object as it is rendered; raises `DocumentMalformed` where somebody else's has its name, `BeingDeleted`.

    Nothing is decided on what it was before, so whoever writes to it meanwhile (Kubernetes does, a new budget's status)
    is no reason to decide anything anew.
    """
    for _ in range(_TRIES - 1):
        with suppress(Conflict):
            _ensure_once(cluster, value)
            return
    _ensure_once(cluster, value)


def owned(value: Object, deployment: Object | None) -> Object:
    """The object as one that goes with the Deployment; before there is one, it stands by itself."""
    if deployment is None or "uid" not in deployment["metadata"]:
        return value
    metadata = deployment["metadata"]
    owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": metadata["name"], "uid": metadata["uid"]}
    return {**value, "metadata": {**value["metadata"], "ownerReferences": [owner]}}


def _ensure_once(cluster: Cluster, value: Object) -> None:
    kind, name = value["kind"], name_of(value)
    found = cluster.read(kind, name)
    if found is None:
        cluster.create(value)
    elif found["metadata"].get("deletionTimestamp"):
        raise BeingDeleted(f"{kind} {name} is being deleted; it is made again after that")
    elif is_ours(found):
        cluster.apply(value, resource_version=version_of(found))
    else:
        mend = f"isn't managed by {MANAGER}; rename the index, or delete that {kind}"
        raise DocumentMalformed(f"{kind} {name}", mend)
