"""A real Kubernetes, seen through one namespace."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cd_webhook.cluster.api import APPLY, JSON_PATCH, MERGE, InternalFault, KubernetesApi, Missing
from cd_webhook.cluster.feed import ChangeFeed
from cd_webhook.cluster.interface import ClusterRefused, Conflict, Object, name_of, version_of
from cd_webhook.cluster.managed_fields import taken_over
from manifests.metadata import MANAGED_BY, MANAGER, deployment_selector
from model_repository.digests import sha256_digest
from model_repository.fields import format_moment
from model_repository.programs.environment import Environment
from model_repository.telemetry.log import Log

_PAGE = "250"
_HTTP: Final = 80


def connect(variables: Mapping[str, str], namespace: str, log: Log) -> KubernetesCluster:
    """The cluster that KUBECONFIG names, or else the one that this pod runs in; see `connect.Connect`."""
    kubeconfig = Environment(variables).text("KUBECONFIG")
    return KubernetesCluster(KubernetesApi.connect(Path(kubeconfig) if kubeconfig else None), namespace, log)


@dataclass(frozen=True, slots=True)
class Right:
    """A verb on a resource of this namespace, as a Role names them."""

    verb: str
    resource: str
    group: str = ""
    subresource: str = ""

    def __str__(self) -> str:
        """As kubectl says it: patch deployments.apps."""
        what = f"{self.resource}/{self.subresource}" if self.subresource else self.resource
        return f"{self.verb} {what}.{self.group}" if self.group else f"{self.verb} {what}"


NEEDED: Final = (
    *(Right(verb, "deployments", "apps") for verb in ("get", "list", "watch", "create", "patch")),
    *(Right(verb, "services") for verb in ("get", "list", "create", "patch")),
    *(Right(verb, "poddisruptionbudgets", "policy") for verb in ("get", "create", "patch")),
    *(Right(verb, "pods") for verb in ("list", "watch")),
    Right("create", "events"),
)
"""As manifests/webhook/role.yaml has it, but for deleting: without canaries and shadows it may be missing."""
NEEDLESS: Final = (
    *(Right(verb, "secrets") for verb in ("get", "list")),
    Right("create", "pods", subresource="exec"),
    *(Right("create", kind, "rbac.authorization.k8s.io") for kind in ("roles", "rolebindings")),
)
"""What would make of the webhook's token the namespace's."""
_EVENT_MESSAGE = 1000
"""Characters; Kubernetes takes 1,024."""


class KubernetesCluster:
    """Implements `cluster.Cluster`."""

    def __init__(self, api: KubernetesApi, namespace: str, log: Log) -> None:
        self._api = api
        self._namespace = namespace
        self._deployments = f"/apis/apps/v1/namespaces/{namespace}/deployments"
        self._budgets = f"/apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets"
        self._services = f"/api/v1/namespaces/{namespace}/services"
        self._pods = f"/api/v1/namespaces/{namespace}/pods"
        self._events = f"/api/v1/namespaces/{namespace}/events"
        self._managed = f"{MANAGED_BY}={MANAGER}"
        self._feed = ChangeFeed(api, (self._deployments, self._pods), self._managed, log)

    def version(self) -> tuple[int, int] | None:
        """See `cluster.Cluster.version`."""
        found = self._api.get("/version")
        return int(found["major"]), int(str(found["minor"]).rstrip("+"))

    def rights(self) -> tuple[list[str], list[str]]:
        """See `cluster.Cluster.rights`."""
        missing = [right for right in NEEDED if not self._may(right)]
        needless = [right for right in NEEDLESS if self._may(right)]
        return [str(right) for right in missing], [str(right) for right in needless]

    def _may(self, right: Right) -> bool:
        asked = {
            "namespace": self._namespace,
            "verb": right.verb,
            "group": right.group,
            "resource": right.resource,
            "subresource": right.subresource,
        }
        said = self._api.post(
            "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
            {
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SelfSubjectAccessReview",
                "spec": {"resourceAttributes": asked},
            },
        )
        return bool(said["status"]["allowed"])

    def deployments(self) -> list[Object]:
        """See `cluster.Cluster.deployments`."""
        return self._list(self._deployments, self._managed, "apps/v1", "Deployment")

    def deployment(self, name: str) -> Object | None:
        """See `cluster.Cluster.deployment`."""
        try:
            return self._api.get(f"{self._deployments}/{name}")
        except Missing:
            return None

    def pods(self, name: str) -> list[Object]:
        """See `cluster.Cluster.pods`."""
        selector = ",".join(f"{key}={value}" for key, value in deployment_selector(name).items())
        return self._list(self._pods, selector, "v1", "Pod")

    def all_pods(self) -> list[Object]:
        """See `cluster.Cluster.all_pods`."""
        return self._list(self._pods, self._managed, "v1", "Pod")

    def read(self, kind: str, name: str) -> Object | None:
        """See `cluster.Cluster.read`."""
        try:
            return self._api.get(f"{self._collection(kind)}/{name}")
        except Missing:
            return None

    def url(self, service: str) -> str | None:
        """See `cluster.Cluster.url`: the name that the cluster's DNS gives it."""
        found = self.read("Service", service)
        if found is None:
            return None
        port = found["spec"]["ports"][0]["port"]
        return f"http://{service}.{self._namespace}.svc{'' if port == _HTTP else f':{port}'}"

    def services(self) -> list[str]:
        """See `cluster.Cluster.services`."""
        return [name_of(found) for found in self._list(self._services, self._managed, "v1", "Service")]

    def validate(self, value: Object) -> None:
        """See `cluster.Cluster.validate`: a create that the API server only tries out."""
        with suppress(Conflict):  # there is such an object, so nothing else was wrong
            self._api.post(self._collection(value["kind"]), value, dryRun="All", fieldValidation="Strict")

    def create(self, value: Object) -> Object:
        """See `cluster.Cluster.create`."""
        return self._api.post(self._collection(value["kind"]), value, fieldManager=MANAGER, fieldValidation="Strict")

    def apply(self, value: Object, *, resource_version: str | None) -> Object:
        """See `cluster.Cluster.apply`.

        The version goes into the applied object, where the API server takes it as a precondition (409).
        """
        path = f"{self._collection(value['kind'])}/{name_of(value)}"
        if resource_version is not None:
            owned = value["kind"] == "Deployment"
            version = self._take_over(path, resource_version) if owned else resource_version
            value = {**value, "metadata": {**value["metadata"], "resourceVersion": version}}
        try:
            return self._api.patch(path, value, APPLY, fieldManager=MANAGER, force="true")
        except InternalFault:
            self._refuse_unknown_fields(value)
            raise

    def _refuse_unknown_fields(self, value: Object) -> None:
        """Raise `ClusterRefused` if the server doesn't know a field: to an apply it says that with 500, as of a fault.

        See https://github.com/kubernetes/kubernetes/issues/139253; a create that only validates says 400.
        """
        metadata = {key: found for key, found in value["metadata"].items() if key != "resourceVersion"}
        self.validate({**value, "metadata": metadata})

    def mark(self, name: str, metadata: dict[str, dict[str, str]], *, resource_version: str) -> Object:
        """See `cluster.Cluster.mark`."""
        body = {"metadata": {**metadata, "resourceVersion": resource_version}}
        try:
            return self._api.patch(f"{self._deployments}/{name}", body, MERGE, fieldManager=MANAGER)
        except Missing as error:
            raise Conflict(str(error)) from error

    def delete(self, value: Object) -> None:
        """See `cluster.Cluster.delete`: the pods go with their own grace, after the Deployment."""
        held = {"uid": value["metadata"]["uid"], "resourceVersion": version_of(value)}
        options = {"propagationPolicy": "Background", "preconditions": held}
        with suppress(Missing):
            self._api.delete(f"{self._deployments}/{name_of(value)}", options)

    def note(self, deployment: Object, reason: str, message: str, *, warning: bool) -> None:
        """See `cluster.Cluster.note`: an Event, which Kubernetes keeps for an hour; what is said names it."""
        metadata, now = deployment["metadata"], format_moment(datetime.now(UTC).replace(microsecond=0))
        name = sha256_digest(f"{metadata['uid']} {reason} {message}".encode())[-16:]
        about = {"apiVersion": "apps/v1", "kind": "Deployment", "name": metadata["name"], "uid": metadata["uid"]}
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{metadata['name']}.{name}", "namespace": metadata["namespace"]},
            "involvedObject": {**about, "namespace": metadata["namespace"]},
            "reason": reason,
            "message": message[:_EVENT_MESSAGE],
            "type": "Warning" if warning else "Normal",
            "source": {"component": MANAGER},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        with suppress(Conflict):  # it was told
            self._api.post(self._events, event, fieldManager=MANAGER)

    def wait_for_changes(self, timeout_s: float) -> frozenset[str] | None:
        """See `cluster.Cluster.wait_for_changes`."""
        return self._feed.wait(timeout_s)

    def _take_over(self, path: str, version: str) -> str:
        """See `managed_fields`; returns the version that the Deployment has then."""
        try:
            live = self._api.get(path)
        except Missing as error:
            raise Conflict(str(error)) from error
        if version_of(live) != version:
            raise Conflict(f"{path}: written by others; read it, then decide anew")
        managed = taken_over(live["metadata"].get("managedFields") or [])
        if managed is None:
            return version
        patch = [
            {"op": "replace", "path": "/metadata/managedFields", "value": managed},
            {"op": "replace", "path": "/metadata/resourceVersion", "value": version},
        ]
        return version_of(self._api.patch(path, patch, JSON_PATCH, fieldManager=MANAGER))

    def _collection(self, kind: str) -> str:
        paths = {"Deployment": self._deployments, "Service": self._services, "PodDisruptionBudget": self._budgets}
        try:
            return paths[kind]
        except KeyError:
            raise ClusterRefused(f"a {kind} is nothing that this webhook applies") from None

    def _list(self, path: str, selector: str, api_version: str, kind: str) -> list[Object]:
        items: list[Object] = []
        query = {"labelSelector": selector, "limit": _PAGE}
        while True:
            page = self._api.get(path, **query)
            items += page["items"]
            more = (page.get("metadata") or {}).get("continue")
            if not more:
                # the items of a list don't say what they are
                return [{"apiVersion": api_version, "kind": kind, **item} for item in items]
            query["continue"] = more
