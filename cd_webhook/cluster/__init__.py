"""One narrow interface to a cluster, and Kubernetes behind it.

The door is `interface`, with the errors that it names; `connect` finds the implementation that CLUSTER asks for.
`kubernetes` is one, made of `api` (requests), `feed` (what changed) and `managed_fields` (who owns what).
"""

from __future__ import annotations

from cd_webhook.cluster.connect import load_connect
from cd_webhook.cluster.interface import (
    BeingDeleted,
    Cluster,
    ClusterForbids,
    ClusterRefused,
    ClusterUnavailable,
    Conflict,
    Object,
    name_of,
    version_of,
)

__all__ = [
    "BeingDeleted",
    "Cluster",
    "ClusterForbids",
    "ClusterRefused",
    "ClusterUnavailable",
    "Conflict",
    "Object",
    "load_connect",
    "name_of",
    "version_of",
]
