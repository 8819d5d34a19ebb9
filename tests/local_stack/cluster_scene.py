"""The local cluster as a process, a client of it, and manifests for it."""

from __future__ import annotations

import copy
import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WEB = str(Path(__file__).with_name("images") / "web.py")
Json = dict[str, Any]


@dataclass
class Client:
    url: str
    folder: Path

    def call(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    def get(self, path: str) -> Any:
        status, answer = self.call("GET", path)
        assert status == 200, answer
        return answer

    def apply(self, manifest: Json, version: str = "") -> Json:
        status, answer = self.call("PATCH", f"/apply?resourceVersion={version}", manifest)
        assert status == 200, answer
        return dict(answer)

    def pods(self, name: str) -> list[Json]:
        return list(self.get(f"/deployments/{name}/pods")["items"])

    def until(self, name: str, wanted: Callable[[Json, list[Json]], bool], timeout: float = 60.0) -> Json:
        deadline = time.monotonic() + timeout
        while True:
            deployment, pods = self.get(f"/deployments/{name}"), self.pods(name)
            if wanted(deployment, pods):
                return dict(deployment)
            assert time.monotonic() < deadline, json.dumps(
                [deployment["status"], [p["status"] for p in pods]], indent=1
            )
            self.get(f"/changes?timeout=1&resourceVersion={deployment['metadata']['resourceVersion']}")

    def until_served(self, name: str) -> Json:
        return self.until(name, lambda deployment, _pods: served(deployment))

    def address(self, name: str) -> str:
        return str(self.get(f"/services/{name}")["metadata"]["annotations"]["local-stack/address"])

    def ask(self, name: str, path: str = "/") -> str:
        return ask(self.address(name), path)


def ask(address: str, path: str = "/") -> str:
    connection = http.client.HTTPConnection(address, timeout=10)
    connection.request("GET", path)
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return body


def condition(deployment: Json, kind: str) -> Json:
    return next((c for c in deployment["status"].get("conditions", []) if c["type"] == kind), {})


def served(deployment: Json) -> bool:
    status, generation = deployment["status"], deployment["metadata"]["generation"]
    return bool(
        status.get("observedGeneration") == generation
        and condition(deployment, "Progressing").get("reason") == "NewReplicaSetAvailable"
        and status.get("updatedReplicas", 0) == deployment["spec"]["replicas"] == status.get("availableReplicas", 0)
    )


def restarted_and_ready(pod: Json) -> bool:
    (container,) = pod["status"]["containerStatuses"]
    return bool(container["restartCount"] == 1 and container["ready"])


def deployment(name: str, version: str = "1", *, replicas: int | None = 1, **more: Any) -> Json:
    labels = {"app": name, "app.kubernetes.io/managed-by": "indexpush"}
    probe = {"httpGet": {"path": "/readyz", "port": "http"}, "periodSeconds": 1, "failureThreshold": 60}
    container = {
        "name": "web",
        "image": "web:1.0",
        "command": ["python", WEB, "/data/current"],
        "env": [{"name": "VERSION", "value": version}, {"name": "PORT", "value": "8080"}]
        + [{"name": key, "value": value} for key, value in more.get("env", {}).items()],
        "ports": [{"name": "http", "containerPort": 8080}],
        "startupProbe": probe,
        "readinessProbe": {**probe, "failureThreshold": 1},
        "resources": {"requests": {"cpu": "1"}},
        "lifecycle": {"preStop": {"sleep": {"seconds": more.get("pre_stop", 0)}}},
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    pull = {
        "name": "pull",
        "image": "web:1.0",
        "command": ["python", "-c", more.get("pull", "pass")],
        "env": [{"name": "DESTINATION", "value": "/data/current"}],
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    pod = {
        "initContainers": [pull],
        "containers": [container],
        "volumes": [{"name": "data", "emptyDir": {"sizeLimit": "1Mi"}}],
        "terminationGracePeriodSeconds": more.get("grace", 5),
        "securityContext": {"runAsNonRoot": True},
    }
    spec = {
        "selector": {"matchLabels": {"app": name}},
        "progressDeadlineSeconds": more.get("deadline", 20),
        "minReadySeconds": more.get("min_ready", 0),
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "template": {"metadata": {"labels": labels}, "spec": pod},
    }
    if replicas is not None:
        spec["replicas"] = replicas
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": labels, "annotations": {"version": version}},
        "spec": spec,
    }


def service(name: str) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"type": "ClusterIP", "selector": {"app": name}, "ports": [{"port": 80, "targetPort": "http"}]},
    }


def set_in(manifest: Json, path: str, value: object) -> Json:
    changed = copy.deepcopy(manifest)
    inner: Any = changed
    *parents, last = path.replace("[", ".").replace("]", "").split(".")
    for part in parents:
        inner = inner[int(part)] if part.isdigit() else inner.setdefault(part, {})
    inner[int(last) if last.isdigit() else last] = value
    return changed
