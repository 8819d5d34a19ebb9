"""A Deployment: keeps the pods that its manifest wants, and replaces them by a rolling swap.

The rules are those of Kubernetes' Deployment controller with maxUnavailable 0: pods belong to the hash of their
template, there may be maxSurge more than wanted, an old one goes when a new one is available, unhealthy old ones first.
So a return to the old template finds the old pods, if they are still there.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from uuid import uuid4

from local_stack.cluster.manifest import DeploymentSpec, Json, ManifestRefused
from local_stack.cluster.node import Node, timestamp
from local_stack.cluster.pod import Pod
from local_stack.cluster.progress import EXCEEDED, UPDATED, Counts, Progress, progress


class Deployment:
    """One Deployment and its pods, those being deleted included."""

    def __init__(self, spec: DeploymentSpec, node: Node) -> None:
        self.spec = spec
        self.pods: list[Pod] = []
        self.version = node.next_version()
        self._node = node
        self._generation = 1
        self._replicas = 1 if spec.replicas is None else spec.replicas
        self._uid = str(uuid4())
        self._created = timestamp()
        self._counts = Counts()
        self._progress = Progress(UPDATED, time.time())
        self._status: Json = {}
        self._look = asyncio.Event()
        self._look.set()
        self._closed = False
        self._controller = asyncio.create_task(self._control())

    def apply(self, spec: DeploymentSpec) -> None:
        """Want something else from now on; raises `ManifestRefused` if that would change what can't change."""
        if spec.selector != self.spec.selector:
            raise ManifestRefused("spec.selector", "can't be changed once a Deployment is there")
        if spec.metadata.namespace != self.spec.metadata.namespace:
            there = f"the local cluster has one {spec.metadata.name!r}, in {self.spec.metadata.namespace!r}"
            raise ManifestRefused("metadata.namespace", there)
        # As server-side apply has it: replicas that we set and now leave out fall back to the default.
        replicas = spec.replicas if spec.replicas is not None else (1 if self.spec.replicas else self._replicas)
        if spec == self.spec and replicas == self._replicas:
            return
        if {**spec.raw, "replicas": replicas} != {**self.spec.raw, "replicas": self._replicas}:
            self._generation += 1
        if spec.template.hash != self.spec.template.hash:
            self._progress = Progress(UPDATED, time.time())
        self.spec, self._replicas = spec, replicas
        self._changed()

    def wind_down(self) -> None:
        """Want no pods any more: it is deleted."""
        self._replicas = 0
        self._changed()

    async def close(self, grace: float) -> None:
        """The machine is being shut down."""
        self._closed = True
        self._look.set()
        await asyncio.gather(*(pod.end_at_once(grace) for pod in self.pods))
        await self._controller

    # The controller

    def _changed(self) -> None:
        self.version = self._node.next_version()
        self._look.set()

    async def _control(self) -> None:
        pause: float | None = None
        while not self._closed:
            try:
                async with asyncio.timeout(pause):
                    await self._look.wait()
            except TimeoutError:
                pass
            self._look.clear()
            if not self._closed:
                self._replace_pods()
                self._update_status()
                pause = self._next_look()

    def _replace_pods(self) -> None:
        template, wanted = self.spec.template, self._replicas
        self.pods = [pod for pod in self.pods if not pod.finished]
        active = [pod for pod in self.pods if not pod.deleting]
        new = sorted((pod for pod in active if pod.template.hash == template.hash), key=_worth)
        old = sorted((pod for pod in active if pod.template.hash != template.hash), key=_worth)
        surplus = len(new) - wanted
        for pod in new[: max(0, surplus)]:
            pod.delete()
        for _ in range(min(wanted + self.spec.surge(wanted) - len(active), -surplus)):
            new.append(Pod(self.spec.metadata, template, self._node, self._changed))
            self.pods.append(new[-1])
        # Old pods go, those first that aren't available, as long as enough of all pods are.
        available = sum(self._is_available(pod) for pod in (*old, *new) if not pod.deleting)
        unavailable_new = sum(not self._is_available(pod) for pod in new)
        spare = len(old) + len(new) - unavailable_new - wanted
        for pod in old[: max(0, spare)]:
            if self._is_available(pod):
                if available <= wanted:
                    break
                available -= 1
            pod.delete()

    def _is_available(self, pod: Pod) -> bool:
        if pod.ready_since is None:
            return False
        return asyncio.get_running_loop().time() >= pod.ready_since + self.spec.min_ready

    def _update_status(self) -> None:
        active = [pod for pod in self.pods if not pod.deleting]
        counts = Counts(
            wanted=self._replicas,
            replicas=len(active),
            updated=sum(pod.template.hash == self.spec.template.hash for pod in active),
            ready=sum(pod.ready for pod in active),
            available=sum(self._is_available(pod) for pod in active),
        )
        self._progress = progress(self._progress, self._counts, counts, time.time(), self.spec.deadline)
        self._counts = counts
        since = timestamp(datetime.fromtimestamp(self._progress.since, UTC))
        progressing = {
            "type": "Progressing",
            "status": str(self._progress.reason != EXCEEDED),
            "reason": self._progress.reason,
            "lastUpdateTime": since,
        }
        status = {**counts.status(self._generation), "conditions": [progressing]}
        if status != self._status:
            self._status = status
            self.version = self._node.next_version()

    def _next_look(self) -> float | None:
        """Seconds until something changes by itself: the deadline, or a pod that will have been ready long enough."""
        now = asyncio.get_running_loop().time()
        waits = [pod.ready_since + self.spec.min_ready - now for pod in self.pods if pod.ready_since is not None]
        waits = [wait for wait in waits if wait > 0]
        deadline = self._progress.deadline(self.spec.deadline)
        if deadline is not None:
            waits.append(max(0.0, deadline - time.time()) + 0.001)
        return min(waits, default=None)

    def manifest(self) -> Json:
        """The Deployment as the API shows it."""
        named = self.spec.metadata
        metadata: Json = {
            "name": named.name,
            "namespace": named.namespace,
            "uid": self._uid,
            "resourceVersion": self.version,
            "generation": self._generation,
            "creationTimestamp": self._created,
            "labels": dict(named.labels),
            "annotations": dict(named.annotations),
        }
        spec = {**self.spec.raw, "replicas": self._replicas}
        return {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": metadata,
            "spec": spec,
            "status": self._status,
        }


def _worth(pod: Pod) -> tuple[bool, float]:
    """Less goes first: what isn't ready, then what is ready for the shortest time."""
    return pod.ready, -(pod.ready_since or 0.0)
