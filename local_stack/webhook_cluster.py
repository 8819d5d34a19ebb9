"""The local stack's cluster of process pods as the CD webhook sees a cluster, over its HTTP interface.

For one machine and one webhook, which loads it by ``CLUSTER=local_stack.webhook_cluster:connect``; and for the stack
itself, which looks at it the same way.
"""

from __future__ import annotations

import http.client
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlencode

from cd_webhook.cluster import ClusterRefused, ClusterUnavailable, Conflict, Object, name_of
from local_stack.cluster.service import ADDRESS
from model_repository.programs.environment import Environment
from model_repository.telemetry.log import Log

_TIMEOUT_SECONDS = 10.0
_MAY_PASS = frozenset({408, 429, 500, 502, 503, 504})


def connect(variables: Mapping[str, str], namespace: str, log: Log) -> LocalCluster:  # noqa: ARG001 - as all of them
    """The cluster at LOCAL_CLUSTER_URL; raises `Misconfigured`."""
    read = Environment(variables)
    url = read.required("LOCAL_CLUSTER_URL", "http://127.0.0.1:<port>")
    if url and not url.startswith("http://"):
        read.expected("LOCAL_CLUSTER_URL", "http://127.0.0.1:<port>")
    read.done()
    return LocalCluster(url)


class LocalCluster:
    """Implements `cluster.Cluster`."""

    def __init__(self, url: str) -> None:
        """url: ``http://127.0.0.1:<port>``."""
        self._url = url.rstrip("/")
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # never leaves this machine
        self._creating = threading.Lock()
        self._seen = "0"

    def rights(self) -> tuple[list[str], list[str]]:
        """See `cluster.Cluster.rights`: this one asks nobody."""
        return [], []

    def version(self) -> tuple[int, int] | None:
        """See `cluster.Cluster.version`."""
        return None

    def deployments(self) -> list[Object]:
        """See `cluster.Cluster.deployments`."""
        items: list[Object] = self._call("GET", "/deployments")["items"]
        return sorted(items, key=name_of)

    def deployment(self, name: str) -> Object | None:
        """See `cluster.Cluster.deployment`."""
        return self._call_or_none("GET", f"/deployments/{quote(name, safe='')}")

    def pods(self, name: str) -> list[Object]:
        """See `cluster.Cluster.pods`."""
        found = self._call_or_none("GET", f"/deployments/{quote(name, safe='')}/pods") or {"items": []}
        items: list[Object] = found["items"]
        return items

    def all_pods(self) -> list[Object]:
        """See `cluster.Cluster.all_pods`."""
        items: list[Object] = self._call("GET", "/pods")["items"]
        return items

    def read(self, kind: str, name: str) -> Object | None:
        """See `cluster.Cluster.read`. Nothing is ever drained here: disruption budgets are as good as absent."""
        return self._call_or_none("GET", f"/services/{quote(name, safe='')}") if kind == "Service" else None

    def url(self, service: str) -> str | None:
        """See `cluster.Cluster.url`: it listens on a port of its own."""
        found = self.read("Service", service)
        return None if found is None else f"http://{found['metadata']['annotations'][ADDRESS]}"

    def services(self) -> list[str]:
        """See `cluster.Cluster.services`."""
        return [name_of(found) for found in self._call("GET", "/services")["items"]]

    def validate(self, value: Object) -> None:
        """See `cluster.Cluster.validate`."""
        self._call("PATCH", "/apply?dryRun=All", value)

    def create(self, value: Object) -> Object:
        """See `cluster.Cluster.create`; the lock holds within this one webhook, which is all that there is."""
        if value["kind"] == "PodDisruptionBudget":
            return value
        with self._creating:
            name, kind = name_of(value), value["kind"]
            if (self.deployment(name) if kind == "Deployment" else self.read(kind, name)) is not None:
                raise Conflict(f"{value['kind']} {name_of(value)}: exists already; read it, then decide anew")
            return self.apply(value, resource_version=None)

    def apply(self, value: Object, *, resource_version: str | None) -> Object:
        """See `cluster.Cluster.apply`."""
        query = "" if resource_version is None else f"?{urlencode({'resourceVersion': resource_version})}"
        return self._call("PATCH", f"/apply{query}", value)

    def mark(self, name: str, metadata: dict[str, dict[str, str]], *, resource_version: str) -> Object:
        """See `cluster.Cluster.mark`: the live object is applied again with its metadata changed."""
        live = self.deployment(name)
        if live is None or live["metadata"]["resourceVersion"] != resource_version:
            raise Conflict(f"Deployment {name}: written by others; read it, then decide anew")
        kept = {key: live["metadata"][key] for key in ("name", "namespace") if key in live["metadata"]}
        for kind in ("labels", "annotations"):
            kept[kind] = {**(live["metadata"].get(kind) or {}), **metadata.get(kind, {})}
        value = {"apiVersion": live["apiVersion"], "kind": live["kind"], "metadata": kept, "spec": live["spec"]}
        return self.apply(value, resource_version=resource_version)

    def delete(self, value: Object) -> None:
        """See `cluster.Cluster.delete`."""
        query = urlencode({"resourceVersion": value["metadata"]["resourceVersion"]})
        self._call_or_none("DELETE", f"/deployments/{quote(name_of(value), safe='')}?{query}")

    def note(self, deployment: Object, reason: str, message: str, *, warning: bool) -> None:
        """See `cluster.Cluster.note`. Nobody describes a Deployment here: the receipts say it."""

    def wait_for_changes(self, timeout_s: float) -> frozenset[str] | None:
        """See `cluster.Cluster.wait_for_changes`."""
        query = urlencode({"resourceVersion": self._seen, "timeout": f"{timeout_s:g}"})
        found = self._call("GET", f"/changes?{query}", timeout=timeout_s)
        self._seen = found["resourceVersion"]
        return frozenset(found["deployments"])

    def events(self, deployment: str) -> list[Object]:
        """What happened to a Deployment's pods, oldest first; no part of `cluster.Cluster`.

        Each has time (seconds since the epoch), pod, reason (PodCreated, Started, Ended, Ready, Killing, Gone) and,
        where it is about one, container and exitCode.
        """
        items: list[Object] = self._call("GET", f"/events?{urlencode({'deployment': deployment})}")["items"]
        return items

    def _call_or_none(self, method: str, path: str) -> Object | None:
        try:
            return self._call(method, path)
        except _Missing:
            return None

    def _call(self, method: str, path: str, body: Object | None = None, *, timeout: float = 0.0) -> dict[str, Any]:
        request = urllib.request.Request(  # noqa: S310 - the configured address, checked to be http
            f"{self._url}{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
            method=method,
        )
        try:
            with self._opener.open(request, timeout=timeout + _TIMEOUT_SECONDS) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            raise _refusal(error, f"{method} {path}") from None
        except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
            raise ClusterUnavailable(f"{self._url}: no answer from the local cluster ({error}); it may pass") from error
        try:
            found: dict[str, Any] = json.loads(text) if text.strip() else {}
        except ValueError as error:
            raise ClusterUnavailable(f"{self._url}{path}: answered no JSON; is it the local cluster?") from error
        return found


class _Missing(ClusterRefused):
    """404."""


def _refusal(error: urllib.error.HTTPError, what: str) -> Exception:
    with error:
        said = " ".join(error.read(4000).decode(errors="replace").split())
    sentence = f"{what}: the local cluster answered {error.code}: {said}"
    if error.code == HTTPStatus.NOT_FOUND:
        return _Missing(sentence)
    if error.code == HTTPStatus.CONFLICT:
        return Conflict(sentence)
    return ClusterUnavailable(sentence) if error.code in _MAY_PASS else ClusterRefused(sentence)
