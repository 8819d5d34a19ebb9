"""The one narrow interface to a cluster.

Objects are plain dicts as the Kubernetes API gives them. `kubernetes.KubernetesCluster` implements it, and so may
others, which CLUSTER names (see `connect`); all of them are held to one contract test.
"""

from __future__ import annotations

from typing import Any, Protocol

from model_repository.errors import SetupFault, TransientError

Object = dict[str, Any]


class Conflict(TransientError, code="cluster-conflict"):
    """The object is no longer the one that the decision was made on: read it again, then decide anew."""


class ClusterUnavailable(TransientError, code="cluster-unavailable"):
    """The cluster didn't answer, or answered something that is no verdict: that it is busy, or a proxy's page."""


class ClusterForbids(TransientError, code="cluster-forbids"):
    """The webhook may not do this (401, 403).

    Not the request is wrong but the cluster's set-up, or the cluster is just starting: a commit waits until the Role or
    the quota is mended, and isn't lost.
    """


class BeingDeleted(ClusterUnavailable, code="being-deleted"):
    """Somebody deleted the object, and it is on its way out: what is written to it is lost."""


class ClusterRefused(SetupFault, code="cluster-refused"):
    """The cluster understood, and said no: a policy of its own, or values that make no valid object.

    Nothing of that follows from a commit or its build, so it passes when somebody mends it.
    """


class Cluster(Protocol):
    """Deployments, Services and Pods of one namespace.

    Every method raises `ClusterUnavailable`, `ClusterForbids` or `ClusterRefused` when the cluster doesn't let it work.
    """

    def version(self) -> tuple[int, int] | None:
        """Kubernetes' own version, such as (1, 34); None: it isn't one."""
        ...

    def rights(self) -> tuple[list[str], list[str]]:
        """What this process may not do and has to, and what it may and must not, such as "patch deployments.apps"."""
        ...

    def deployments(self) -> list[Object]:
        """Every Deployment that this project manages, by name."""
        ...

    def deployment(self, name: str) -> Object | None:
        """The Deployment, or None."""
        ...

    def pods(self, name: str) -> list[Object]:
        """The pods of the Deployment `name`, those that are leaving too; none if there is no such Deployment."""
        ...

    def all_pods(self) -> list[Object]:
        """The pods of every Deployment that this project manages."""
        ...

    def read(self, kind: str, name: str) -> Object | None:
        """The Service or PodDisruptionBudget of that name, or None."""
        ...

    def url(self, service: str) -> str | None:
        """Where the Service of that name is reached from within the cluster; None if there is no such Service."""
        ...

    def services(self) -> list[str]:
        """The names of the Services that this project manages."""
        ...

    def validate(self, value: Object) -> None:
        """Ask whether an object of this kind could be created, and keep nothing of it.

        Raises `ClusterRefused` for what the cluster would not take, fields that it doesn't know included.
        """
        ...

    def create(self, value: Object) -> Object:
        """Create an object that must not exist yet; raises `Conflict` if it does."""
        ...

    def apply(self, value: Object, *, resource_version: str | None) -> Object:
        """Make the fields in `value` so, and leave the fields of others alone (server-side apply).

        resource_version: the live object must still have it, or `Conflict` is raised. None: whatever is there, also
        nothing.
        """
        ...

    def mark(self, name: str, metadata: dict[str, dict[str, str]], *, resource_version: str) -> Object:
        """Set labels and annotations of a Deployment, touch nothing else; raises `Conflict` as `apply` does.

        metadata: ``annotations``, ``labels``, or both.
        """
        ...

    def delete(self, value: Object) -> None:
        """Remove the Deployment `value`, as it was read, and its pods in their own time.

        Raises `Conflict` if it is no longer at that version; one that is gone is fine.
        """
        ...

    def note(self, deployment: Object, reason: str, message: str, *, warning: bool) -> None:
        """Have `kubectl describe` of the Deployment, as it was read, say so for an hour; reason: in CamelCase.

        What was said is said once, however often it is noted.
        """
        ...

    def wait_for_changes(self, timeout_s: float) -> frozenset[str] | None:
        """The Deployments, or their indexes, of which something, or one of whose pods, changed since the last call.

        Returns as soon as there is one, or when time is up (none). None: nobody can say, so anything may have changed.
        It may name one too many: look, don't conclude anything. For one caller at a time.
        """
        ...


def name_of(value: Object) -> str:
    """The object's name."""
    return str(value["metadata"]["name"])


def version_of(value: Object) -> str:
    """The version that a guarded write names."""
    return str(value["metadata"]["resourceVersion"])
