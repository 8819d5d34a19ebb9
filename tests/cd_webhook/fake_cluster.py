"""A cluster in memory that behaves: versions, conflicts, a controller, pods with fates."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

import orjson

from cd_webhook.cluster import ClusterRefused, Conflict, Object
from cd_webhook.state.annotations import ROLLOUT
from manifests import metadata as marks

_MOST_ANNOTATIONS = 256 * 1024
"""Bytes, as Kubernetes has it."""


def _copy(value: Any) -> Any:
    """As it travels to and from a real one; ten times as fast as `copy.deepcopy`."""
    return orjson.loads(orjson.dumps(value))


Fate = Callable[[], dict[str, Any]]
"""What a new pod's status becomes."""


def ready() -> dict[str, Any]:
    return {
        "phase": "Running",
        "conditions": [{"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": "True"}],
        "containerStatuses": [{"name": "search-server", "ready": True, "restartCount": 0, "state": {"running": {}}}],
    }


def ended(
    exit_code: int, message: str = "", *, container: str = "pull", restarts: int = 0, reason: str = "Error"
) -> Fate:
    def status() -> dict[str, Any]:
        last = {"exitCode": exit_code, "reason": reason, "message": message}
        kind = "initContainerStatuses" if container == "pull" else "containerStatuses"
        state = {"waiting": {"reason": "CrashLoopBackOff"}}
        entry = {"name": container, "ready": False, "restartCount": restarts, "state": state}
        entry["lastState"] = {"terminated": last}
        return {"phase": "Pending", "conditions": [{"type": "Ready", "status": "False"}], kind: [entry]}

    return status


def waiting(reason: str, message: str = "", started: str = "2026-11-21T12:00:00Z") -> Fate:
    entry = {"name": "pull", "restartCount": 0, "state": {"waiting": {"reason": reason, "message": message}}}
    return lambda: {"phase": "Pending", "startTime": started, "initContainerStatuses": [_copy(entry)]}


def unschedulable(message: str) -> Fate:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    return lambda: {"phase": "Pending", "conditions": [dict(condition)]}


def starting() -> dict[str, Any]:
    return {"phase": "Pending", "conditions": [{"type": "Ready", "status": "False"}]}


class FakeCluster:
    """Implements `cluster.Cluster`; may be shared by threads.

    fates: by commit generation (default: ready). Every write is remembered in `history` as (generation, rollout), but
    those of canaries.
    alive: the controller moves at each look, as if time had passed.
    """

    def __init__(self, *, alive: bool = True) -> None:
        self.fates: dict[str, Fate] = {}
        self.alive = alive
        self.history: list[tuple[int, str]] = []
        self.most_old_pods_stopped = 0
        self.others: dict[tuple[str, str], Object] = {}
        """Services and disruption budgets, by kind and name."""
        self.notes: list[tuple[str, str, str, bool]] = []
        """Events: the Deployment, the reason, the message, and whether it warns."""
        self._deployments: dict[str, Object] = {}
        self._pods: dict[str, list[Object]] = {}
        self._versions = itertools.count(1)
        self._addresses = 0
        self._moved: set[str] = set()
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)

    def rights(self) -> tuple[list[str], list[str]]:
        """See `cluster.Cluster.rights`: this one asks nobody."""
        return [], []

    def version(self) -> tuple[int, int] | None:
        return None

    def deployments(self) -> list[Object]:
        with self._lock:
            return [_copy(self._deployments[name]) for name in sorted(self._deployments)]

    def deployment(self, name: str) -> Object | None:
        with self._lock:
            if self.alive:
                self.tick()
            return _copy(self._deployments.get(name))

    def pods(self, name: str) -> list[Object]:
        with self._lock:
            return _copy(self._pods.get(name, []))

    def all_pods(self) -> list[Object]:
        with self._lock:
            return _copy([pod for pods in self._pods.values() for pod in pods])

    def read(self, kind: str, name: str) -> Object | None:
        with self._lock:
            return _copy(self.others.get((kind, name)))

    def url(self, service: str) -> str | None:
        return f"http://{service}.n.svc" if self.read("Service", service) else None

    def services(self) -> list[str]:
        with self._lock:
            return sorted(name for kind, name in self.others if kind == "Service")

    def validate(self, value: Object) -> None:
        pass

    def create(self, value: Object) -> Object:
        with self._lock:
            name = value["metadata"]["name"]
            if value["kind"] != "Deployment":
                if (value["kind"], name) in self.others:
                    raise Conflict(f"{name} exists")
                return self._apply_other(value, None)
            if name in self._deployments:
                raise Conflict(f"{name} exists")
            stored = _copy(value)
            stored["metadata"] |= {"generation": 1, "uid": f"uid-{next(self._versions)}"}
            stored["spec"].setdefault("replicas", 1)
            return self._store(stored)

    def apply(self, value: Object, *, resource_version: str | None) -> Object:
        with self._lock:
            name = value["metadata"]["name"]
            if value["kind"] != "Deployment":
                return self._apply_other(value, resource_version)
            live = self._deployments.get(name)
            if live is None:
                if resource_version is not None:
                    raise Conflict(f"{name} is gone")
                return self.create(value)
            self._guard(live, resource_version)
            spec = _copy(value["spec"])
            spec.setdefault("replicas", live["spec"]["replicas"])
            moved = spec != live["spec"]
            live["spec"] = spec
            live["metadata"]["labels"] = dict(value["metadata"]["labels"])
            live["metadata"].setdefault("annotations", {}).update(value["metadata"]["annotations"])
            live["metadata"]["generation"] += moved
            return self._store(live)

    def mark(self, name: str, metadata: dict[str, dict[str, str]], *, resource_version: str) -> Object:
        with self._lock:
            live = self._deployments.get(name)
            if live is None:
                raise Conflict(f"{name} is gone")
            self._guard(live, resource_version)
            for kind, entries in metadata.items():
                live["metadata"].setdefault(kind, {}).update(entries)
            return self._store(live)

    def delete(self, value: Object) -> None:
        with self._lock:
            live = self._deployments.get(value["metadata"]["name"])
            if live is not None:
                self._guard(live, value["metadata"]["resourceVersion"])
                del self._deployments[value["metadata"]["name"]]
                self._pods.pop(value["metadata"]["name"], None)
                self._moved.add(marks.index_of(value["metadata"]["name"]))
                self._changed.notify_all()

    def note(self, deployment: Object, reason: str, message: str, *, warning: bool) -> None:
        said = (deployment["metadata"]["name"], reason, message, warning)
        self.notes += [] if said in self.notes else [said]

    def wait_for_changes(self, timeout_s: float) -> frozenset[str] | None:
        with self._changed:
            self._changed.wait_for(lambda: bool(self._moved), min(timeout_s, 0.01))
            found, self._moved = frozenset(self._moved), set()
            return found

    # What others do

    def by_hand(self, name: str, change: Callable[[Object], None]) -> None:
        """Somebody edits the Deployment."""
        with self._lock:
            change(self._deployments[name])
            self._deployments[name]["metadata"]["generation"] += 1
            self._store(self._deployments[name])

    def tick(self) -> None:
        """The controller moves: pods of the present template come, and old ones go once a new one is ready."""
        with self._lock:
            for name, live in self._deployments.items():
                self._control(name, live)

    def _control(self, name: str, live: Object) -> None:
        template, wanted = live["spec"]["template"], int(live["spec"]["replicas"])
        generation = template["metadata"]["annotations"][marks.COMMIT_GENERATION]
        pods = self._pods.setdefault(name, [])
        new = [pod for pod in pods if pod["metadata"]["annotations"] == template["metadata"]["annotations"]]
        old = [pod for pod in pods if pod not in new]
        while len(new) < wanted and not self._full():
            new.append(self._pod(name, template))
        fate = self.fates.get(generation, ready)
        for pod in new:
            pod["status"] = fate() | {"podIP": pod["metadata"]["ip"]}
        new = new[:wanted]
        serving = [pod for pod in new if _is_ready(pod)]
        if len(serving) == wanted:
            old = []
        if wanted and not serving and not any(_is_ready(pod) for pod in old) and any(_is_ready(pod) for pod in pods):
            self.most_old_pods_stopped += 1
        self._pods[name] = [*new, *old]
        status = {
            "observedGeneration": live["metadata"]["generation"],
            "replicas": len(new) + len(old),
            "updatedReplicas": len(new),
            "readyReplicas": len(serving) + sum(_is_ready(pod) for pod in old),
            "availableReplicas": len(serving) + sum(_is_ready(pod) for pod in old),
            "conditions": (live.get("status") or {}).get("conditions", []),
        }
        if status != live.get("status"):
            live["status"] = status
            self._touch(live)

    def _full(self) -> bool:
        """Whether a quota takes no more pods; here there is none."""
        return False

    def _pod(self, name: str, template: Object) -> Object:
        self._addresses += 1
        metadata = _copy(template["metadata"]) | {"name": f"{name}-{next(self._versions)}"}
        metadata["ip"] = f"10.0.0.{self._addresses}"
        return {"kind": "Pod", "metadata": metadata, "spec": _copy(template["spec"]), "status": {}}

    def _apply_other(self, value: Object, resource_version: str | None) -> Object:
        key = (value["kind"], value["metadata"]["name"])
        live = self.others.get(key)
        if resource_version is not None and live is None:
            raise Conflict("gone")
        if live is not None:
            self._guard(live, resource_version)
        self.others[key] = _copy(value)
        self.others[key]["metadata"]["resourceVersion"] = str(next(self._versions))
        return _copy(self.others[key])

    def _guard(self, live: Object, resource_version: str | None) -> None:
        if resource_version is not None and live["metadata"]["resourceVersion"] != resource_version:
            raise Conflict("written by others")

    def _store(self, value: Object) -> Object:
        annotations = value["metadata"].get("annotations") or {}
        if sum(len(f"{name}{text}".encode()) for name, text in annotations.items()) > _MOST_ANNOTATIONS:
            raise ClusterRefused("metadata.annotations: Too long: may not be more than 262144 bytes")
        self._deployments[value["metadata"]["name"]] = value
        self._touch(value)
        generation = annotations.get(marks.COMMIT_GENERATION, "0")
        if not marks.is_canary(value["metadata"]["name"]):
            self.history.append((int(generation), annotations.get(ROLLOUT, "")))
        return _copy(value)

    def _touch(self, value: Object) -> None:
        value["metadata"]["resourceVersion"] = str(next(self._versions))
        self._moved.add(marks.index_of(value["metadata"]["name"]))
        self._changed.notify_all()


def _is_ready(pod: Object) -> bool:
    conditions: Iterable[dict[str, Any]] = pod["status"].get("conditions") or []
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


class FakeClock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.moment = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)

    def now(self) -> datetime:
        return self.moment

    def sleep(self, seconds: float) -> None:
        pass
