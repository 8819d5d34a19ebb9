"""A Deployment: keeps the pods that its manifest wants, and replaces them by a rolling swap.

The rules are those of Kubernetes' Deployment controller with maxUnavailable 0: pods belong to the hash of their
template, there may be maxSurge more than wanted, an old one goes when a new one is available, unhealthy old ones first.
So a return to the old template finds the old pods, if they are still there.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from datetime import UTC, datetime

from local_stack.cluster.manifest import Json, ManifestRefused, surge_of, template_hash
from local_stack.cluster.node import Node, timestamp
from local_stack.cluster.pod import Pod
from local_stack.cluster.progress import EXCEEDED, UPDATED, Counts, Progress, progress
from local_stack.cluster.stored import Stored


class Deployment(Stored):
    """One Deployment and its pods, those being deleted included."""

    def __init__(self, manifest: Json, node: Node) -> None:
        super().__init__(node, manifest["metadata"])
        self.pods: list[Pod] = []
        self._want(manifest)
        self._generation = 1
        self._replicas: int = self._spec.get("replicas", 1)
        self._counts = Counts()
        self._progress = Progress(UPDATED, time.time())
        self._status: Json = {}
        self._look = asyncio.Event()
        self._deleted = self._closed = False
        self._controller = asyncio.create_task(self._control())

    def apply(self, manifest: Json) -> None:
        """Want something else from now on; raises `ManifestRefused` if that would change what can't change."""
        metadata, spec = manifest["metadata"], manifest["spec"]
        if spec["selector"] != self._spec["selector"]:
            raise ManifestRefused("spec.selector", "can't be changed once a Deployment is there")
        # As server-side apply has it: replicas that we set and now leave out fall back to the default.
        replicas: int = spec.get("replicas", 1 if self._spec.get("replicas") else self._replicas)
        before, shown = self._shown_spec(), {**spec, "replicas": replicas}
        if (metadata, spec, shown) == (self.metadata, self._spec, before):
            return
        if shown != before:
            self._generation += 1
        if spec["template"] != self._spec["template"]:
            self._progress = Progress(UPDATED, time.time())
        self._want(manifest)
        self._replicas = replicas
        self._changed()

    def _want(self, manifest: Json) -> None:
        self.metadata: Json = manifest["metadata"]
        self._spec: Json = manifest["spec"]
        self._hash = template_hash(self._spec)
        self._min_ready: int = self._spec.get("minReadySeconds", 0)
        self._deadline: int = self._spec.get("progressDeadlineSeconds", 600)

    def wind_down(self) -> None:
        """Want no pods any more, and end with the last of them: it is deleted."""
        self._deleted, self._replicas = True, 0
        self._changed()

    async def close(self, grace: float) -> None:
        """The machine is being shut down."""
        self._closed = True
        self._look.set()
        await asyncio.gather(*(pod.end_at_once(grace) for pod in self.pods))
        await self._controller

    # The controller

    def _changed(self) -> None:
        self.pods = [pod for pod in self.pods if not pod.finished]
        self.touch()
        self._look.set()

    async def _control(self) -> None:
        while not self._closed and not (self._deleted and not self.pods):
            self._look.clear()
            self._replace_pods()
            self._update_status()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._next_look()):
                    await self._look.wait()

    def _replace_pods(self) -> None:
        wanted = self._replicas
        active = [pod for pod in self.pods if not pod.deleting]
        new = sorted((pod for pod in active if pod.hash == self._hash), key=_worth)
        old = sorted((pod for pod in active if pod.hash != self._hash), key=_worth)
        surplus = len(new) - wanted
        for pod in new[: max(0, surplus)]:
            pod.delete()
        for _ in range(min(wanted + surge_of(self._spec, wanted) - len(active), -surplus)):
            new.append(Pod(self, self._spec["template"], self._hash, self._changed))
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
        return asyncio.get_running_loop().time() >= pod.ready_since + self._min_ready

    def _update_status(self) -> None:
        active = [pod for pod in self.pods if not pod.deleting]
        counts = Counts(
            wanted=self._replicas,
            replicas=len(active),
            updated=sum(pod.hash == self._hash for pod in active),
            ready=sum(pod.ready for pod in active),
            available=sum(self._is_available(pod) for pod in active),
        )
        self._progress = progress(self._progress, self._counts, counts, time.time(), self._deadline)
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
            self.touch()

    def _next_look(self) -> float | None:
        """Seconds until something changes by itself: the deadline, or a pod that will have been ready long enough."""
        now = asyncio.get_running_loop().time()
        waits = [pod.ready_since + self._min_ready - now for pod in self.pods if pod.ready_since is not None]
        waits = [wait for wait in waits if wait > 0]
        deadline = self._progress.deadline(self._deadline)
        if deadline is not None:
            waits.append(max(0.0, deadline - time.time()) + 0.001)
        return min(waits, default=None)

    def _shown_spec(self) -> Json:
        return {**self._spec, "replicas": self._replicas}

    def manifest(self) -> Json:
        """The Deployment as the API shows it."""
        metadata = {**self.shown_metadata(), "generation": self._generation}
        shown = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata}
        return {**shown, "spec": self._shown_spec(), "status": self._status}


def _worth(pod: Pod) -> tuple[bool, float]:
    """Less goes first: what isn't ready, then what is ready for the shortest time."""
    return pod.ready, -(pod.ready_since or 0.0)
