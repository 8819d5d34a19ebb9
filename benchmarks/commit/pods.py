"""When a pod was made, pulled and ready, seen in a watch: the API's own times are whole seconds."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.kubernetes.kube import Kube


@dataclass
class Moments:
    """Of the pods that came after the watch began: pod uid -> step -> seconds since the epoch."""

    of: dict[str, dict[str, float]] = field(default_factory=dict)
    ended: bool = False

    def last(self) -> tuple[str, dict[str, float]]:
        """The pod that was made last, and its moments."""
        uid = max(self.of, key=lambda one: self.of[one]["made"])
        return uid, self.of[uid]

    def note(self, pod: dict[str, Any]) -> None:
        """Take in what a pod is now."""
        now, status = time.time(), pod["status"]
        seen = self.of.setdefault(pod["metadata"]["uid"], {"made": now})
        for condition in status.get("conditions") or []:
            if condition["status"] == "True" and condition["type"] in {"Initialized", "Ready"}:
                seen.setdefault(condition["type"].lower(), now)
        if any("running" in one.get("state", {}) for one in status.get("containerStatuses") or []):
            seen.setdefault("running", now)


@contextmanager
def watched(kube: Kube, namespace: str, labels: dict[str, str]) -> Iterator[Moments]:
    """The moments of new pods with these labels, while the context lasts."""
    moments = Moments()
    path = f"/api/v1/namespaces/{namespace}/pods"
    selector = ",".join(f"{key}={value}" for key, value in labels.items())
    listed = kube.api.get(path, labelSelector=selector)
    old = {pod["metadata"]["uid"] for pod in listed["items"]}

    def watch() -> None:
        events = kube.api.watch(
            path,
            read_seconds=1800,
            labelSelector=selector,
            resourceVersion=str(listed["metadata"]["resourceVersion"]),
            timeoutSeconds="1800",
        )
        for event in events:
            if moments.ended:
                return
            if event["type"] in {"ADDED", "MODIFIED"} and event["object"]["metadata"]["uid"] not in old:
                moments.note(event["object"])

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield moments
    finally:
        moments.ended = True
