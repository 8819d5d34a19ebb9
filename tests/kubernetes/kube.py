"""The cluster as a test sees it: an administrator's requests, and kubectl for what takes more than a request."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar

from cd_webhook.cluster.api import KubernetesApi, Missing
from cd_webhook.state.annotations import ROLLOUT
from manifests import metadata as marks

Object = dict[str, Any]
T = TypeVar("T")


class Kube:
    """One cluster."""

    def __init__(self, kubeconfig: Path) -> None:
        self.api = KubernetesApi.connect(kubeconfig)

    # Objects

    def apply(self, *objects: Object) -> None:
        """Create or change objects, as `kubectl apply` does."""
        together = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        self.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(together))

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        done = subprocess.run(["kubectl", *arguments], input=stdin, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    def deployment(self, namespace: str, name: str) -> Object | None:
        try:
            return self.api.get(f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}")
        except Missing:
            return None

    def service_address(self, namespace: str, name: str) -> str | None:
        """The ClusterIP, or None if there is no such Service."""
        try:
            return str(self.api.get(f"/api/v1/namespaces/{namespace}/services/{name}")["spec"]["clusterIP"])
        except Missing:
            return None

    def pods(self, namespace: str, labels: dict[str, str]) -> list[Object]:
        selector = ",".join(f"{key}={value}" for key, value in labels.items())
        return list(self.api.get(f"/api/v1/namespaces/{namespace}/pods", labelSelector=selector)["items"])

    def rolled_out(self, namespace: str, name: str, within: int = 90) -> None:
        self.kubectl("-n", namespace, "rollout", "status", f"deployment/{name}", f"--timeout={within}s")

    # Violence

    def kill(self, pods: list[Object]) -> None:
        """SIGKILL the processes of `pods`, all at once, and take the pods away, so that no back-off delays the next."""
        for pid in [pid for pod in pods for pid in processes_of(pod)]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for pod in pods:
            names = pod["metadata"]
            with suppress(AssertionError):  # gone already
                arguments = ("delete", "pod", names["name"], "--force", "--grace-period=0", "--wait=false")
                self.kubectl("-n", names["namespace"], *arguments)

    # History

    @contextmanager
    def recorded(self, namespace: str, name: str) -> Iterator[History]:
        """Everything that the Deployment `name` is while the context lasts."""
        history = History()
        path = f"/apis/apps/v1/namespaces/{namespace}/deployments"
        live = self.deployment(namespace, name)
        if live:
            history.add(live)
        version = str(self.api.get(path, limit="1")["metadata"]["resourceVersion"])
        thread = Thread(target=self._record, args=(path, name, version, history), daemon=True)
        thread.start()
        try:
            yield history
        finally:
            history.ended = True

    def _record(self, path: str, name: str, version: str, history: History) -> None:
        while not history.ended:
            events = self.api.watch(
                path,
                read_seconds=600,
                fieldSelector=f"metadata.name={name}",
                resourceVersion=version,
                timeoutSeconds="300",
            )
            for event in events:
                if history.ended:
                    return
                version = str(event["object"]["metadata"]["resourceVersion"])
                history.add(event["object"])


@dataclass
class History:
    """Versions of one Deployment, oldest first: (generation asked for, generation of the pods, rollout)."""

    versions: list[tuple[int, int, str]] = field(default_factory=list)
    ended: bool = False

    def add(self, deployment: Object) -> None:
        noted = deployment["metadata"].get("annotations") or {}
        template = deployment["spec"]["template"]["metadata"].get("annotations") or {}
        version = (
            int(noted.get(marks.COMMIT_GENERATION, 0)),
            int(template.get(marks.COMMIT_GENERATION, 0)),
            str(noted.get(ROLLOUT)),
        )
        if not self.versions or self.versions[-1] != version:
            self.versions.append(version)

    @property
    def asked(self) -> list[int]:
        """The generations asked for, each once, in the order in which they came."""
        return list(dict.fromkeys(asked for asked, _, _ in self.versions))

    def only_grew(self) -> bool:
        """Whether only newer generations ever replaced older ones."""
        asked = [asked for asked, _, _ in self.versions]
        return asked == sorted(asked)


def processes_of(pod: Object, command: bytes = b"") -> list[int]:
    """Processes of a pod on this machine, by their cgroup; none if the cluster's node is elsewhere.

    command: a part of the command line of those that are wanted.
    """
    pod_uid = str(pod["metadata"]["uid"])
    found = []
    for path in Path("/proc").glob("[0-9]*/cgroup"):
        with suppress(OSError):
            text = path.read_text()
            ours = pod_uid in text or pod_uid.replace("-", "_") in text
            if ours and command in path.with_name("cmdline").read_bytes():
                found.append(int(path.parent.name))
    return found


def until(look: Callable[[], T | None], what: str, within: float = 60.0) -> T:
    """What `look` gives as soon as it gives something; fails saying `what` was waited for."""
    deadline = time.monotonic() + within
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < deadline, f"waited {within:.0f} s for {what}"
        time.sleep(0.05)
