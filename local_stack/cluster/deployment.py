"""A Deployment: keeps the pods that its manifest wants, and replaces them by rolling update.

The rules are those of Kubernetes' Deployment controller: ReplicaSets by the hash of the pod template, surplus from
maxSurge, never fewer available pods than maxUnavailable allows, unhealthy old pods first. So a return to the old
template finds the old pods, if they are still there.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from uuid import uuid4

from local_stack.cluster import progress
from local_stack.cluster.changes import timestamp
from local_stack.cluster.fields import ManifestRefused
from local_stack.cluster.node import Node
from local_stack.cluster.pod import Pod
from local_stack.cluster.specification import DeploymentSpec, Json

_REVISION = "deployment.kubernetes.io/revision"


class Deployment:
    """One Deployment and its pods, those being deleted included."""

    def __init__(self, spec: DeploymentSpec, node: Node) -> None:
        self.spec = spec
        self.pods: list[Pod] = []
        self.generation = 1
        self.version = node.changes.tick()
        self.replicas = 1 if spec.replicas is None else spec.replicas
        self._node = node
        self._uid = str(uuid4())
        self._created = timestamp()
        self._revisions: dict[str, int] = {}
        self._counts = progress.Counts()
        self._progressing: progress.Condition | None = None
        self._available: progress.Condition | None = None
        self._new_template = self._reused = False
        self._status: Json = {}
        self._look = asyncio.Event()
        self._look.set()
        self._closed = False
        self._controller = asyncio.create_task(self._control())

    def apply(self, spec: DeploymentSpec) -> None:
        """Want something else from now on; raises `ManifestRefused` if that would change what can't change."""
        if spec.selector != self.spec.selector:
            raise ManifestRefused("spec.selector", "can't be changed once a Deployment is there")
        if spec.namespace != self.spec.namespace:
            raise ManifestRefused(
                "metadata.namespace", f"the local cluster has one {spec.name!r}, and it is in {self.spec.namespace!r}"
            )
        # As server-side apply has it: replicas that we set and now leave out fall back to the default, those that
        # somebody else set (`scale`) stay as they are.
        owned = self.spec.replicas is not None
        replicas = spec.replicas if spec.replicas is not None else (1 if owned else self.replicas)
        if spec == self.spec and replicas == self.replicas:
            return
        if {**spec.raw_spec, "replicas": replicas} != {**self.spec.raw_spec, "replicas": self.replicas}:
            self.generation += 1
        self.spec, self.replicas = spec, replicas
        self._changed()

    def scale(self, replicas: int) -> None:
        """Want another number of pods, as an autoscaler does."""
        if replicas != self.replicas:
            self.replicas, self.generation = replicas, self.generation + 1
            self._changed()

    async def close(self, grace: float) -> None:
        """The machine is being shut down."""
        self._closed = True
        self._look.set()
        await asyncio.gather(*(pod.end_at_once(grace) for pod in self.pods))
        await self._controller

    def manifest(self) -> Json:
        """The Deployment as the API shows it."""
        revision = self._revisions.get(self.spec.template.hash)
        metadata: Json = {
            "name": self.spec.name,
            "namespace": self.spec.namespace,
            "uid": self._uid,
            "resourceVersion": self.version,
            "generation": self.generation,
            "creationTimestamp": self._created,
            "labels": dict(self.spec.labels),
            "annotations": {**self.spec.annotations, **({_REVISION: str(revision)} if revision else {})},
        }
        spec = {**self.spec.raw_spec, "replicas": self.replicas}
        return {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": metadata,
            "spec": spec,
            "status": self._status,
        }

    # The controller

    def _changed(self) -> None:
        self.version = self._node.changes.tick()
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
        self._note_template()
        template = self.spec.template
        self.pods = [pod for pod in self.pods if not pod.finished]
        active = [pod for pod in self.pods if not pod.deleting]
        new = [pod for pod in active if pod.template.hash == template.hash]
        old = [pod for pod in active if pod.template.hash != template.hash]
        surplus = len(new) - self.replicas
        for pod in sorted(new, key=self._worth)[: max(0, surplus)]:
            pod.delete()
        room = self.replicas + self.spec.max_surge.of(self.replicas, up=True) - len(active)
        for _ in range(min(room, -surplus)):
            new.append(pod := Pod(self.spec.name, self.spec.namespace, template, self._node, self._changed))
            self.pods.append(pod)
        self._take_old_away(old, [pod for pod in new if not pod.deleting])

    def _note_template(self) -> None:
        template, newest = self.spec.template.hash, max(self._revisions.values(), default=0)
        if self._revisions.get(template) != newest or not newest:
            self._new_template, self._reused = True, template in self._revisions
            self._revisions[template] = newest + 1

    def _take_old_away(self, old: list[Pod], new: list[Pod]) -> None:
        least = self._least_available()
        unavailable_new = sum(not self._is_available(pod) for pod in new)
        surplus = len(old) + len(new) - least - unavailable_new
        unhealthy = [pod for pod in old if not self._is_available(pod)]
        for pod in unhealthy[: max(0, surplus)]:
            pod.delete()
        healthy = sorted((pod for pod in old if self._is_available(pod)), key=self._worth)
        spare = len(healthy) + len(new) - unavailable_new - least
        for pod in healthy[: max(0, min(spare, surplus))]:
            pod.delete()

    def _worth(self, pod: Pod) -> tuple[bool, float]:
        """Less goes first: what isn't ready, then what is ready for the shortest time."""
        return pod.ready, -(pod.ready_since or 0.0)

    def _least_available(self) -> int:
        return max(0, self.replicas - self.spec.max_unavailable.of(self.replicas, up=False))

    def _is_available(self, pod: Pod) -> bool:
        if not pod.ready or pod.ready_since is None:
            return False
        return asyncio.get_running_loop().time() >= pod.ready_since + self.spec.min_ready

    def _update_status(self) -> None:
        counts = self._count()
        situation = progress.Situation(
            found=f"{self.spec.name}-{self.spec.template.hash}",
            now=time.time(),
            deadline=self.spec.deadline,
            least_available=self._least_available(),
            new_template=self._new_template,
            reused=self._reused,
        )
        self._progressing = progress.progressing(self._progressing, self._counts, counts, situation)
        self._available = progress.available(self._available, counts, situation)
        self._counts, self._new_template = counts, False
        status = progress.status_of(self.generation, counts)
        status["conditions"] = _conditions((self._available, self._progressing))
        if status != self._status:
            self._status = status
            self.version = self._node.changes.tick()

    def _count(self) -> progress.Counts:
        active = [pod for pod in self.pods if not pod.deleting]
        return progress.Counts(
            wanted=self.replicas,
            replicas=len(active),
            updated=sum(pod.template.hash == self.spec.template.hash for pod in active),
            ready=sum(pod.ready for pod in active),
            available=sum(self._is_available(pod) for pod in active),
        )

    def _next_look(self) -> float | None:
        """Seconds until something changes by itself: the deadline, or a pod that will have been ready long enough."""
        now = asyncio.get_running_loop().time()
        waits = [pod.ready_since + self.spec.min_ready - now for pod in self.pods if pod.ready_since is not None]
        waits = [wait for wait in waits if wait > 0]
        deadline = progress.deadline_of(self._progressing, self.spec.deadline)
        if deadline is not None:
            waits.append(max(0.0, deadline - time.time()) + 0.001)
        return min(waits, default=None)


def _conditions(conditions: Iterable[progress.Condition | None]) -> list[Json]:
    return [
        {
            "type": condition.kind,
            "status": str(condition.status),
            "reason": condition.reason,
            "message": condition.message,
            "lastUpdateTime": timestamp(datetime.fromtimestamp(condition.updated, UTC)),
            "lastTransitionTime": timestamp(datetime.fromtimestamp(condition.changed, UTC)),
        }
        for condition in conditions
        if condition is not None
    ]
