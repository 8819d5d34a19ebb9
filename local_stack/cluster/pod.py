"""A pod: init containers one after the other, then its containers for ever, until it is deleted."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

from local_stack.cluster import translation
from local_stack.cluster.container import ContainerRuns
from local_stack.cluster.manifest import Json, port_of
from local_stack.cluster.node import NODE, NoPodAddresses, timestamp
from local_stack.cluster.stored import Stored


class Pod(Stored):
    """One pod. owner: its Deployment. hash: of its template. changed: called after every change that a status shows."""

    def __init__(self, owner: Stored, template: Json, template_hash: str, changed: Callable[[], None]) -> None:
        marks: Json = template.get("metadata", {})
        super().__init__(
            owner.node,
            {
                "name": f"{owner.name}-{template_hash}-{uuid4().hex[:5]}",
                "namespace": owner.namespace,
                "labels": {**marks.get("labels", {}), "pod-template-hash": template_hash},
                "annotations": marks.get("annotations", {}),
            },
        )
        self.hash = template_hash
        self.address = ""
        self.deleting = False
        self.finished = False
        self.ready_since: float | None = None
        self._owner = owner
        self._spec: Json = template["spec"]
        self._grace: int = self._spec.get("terminationGracePeriodSeconds", 30)
        self._notify = changed
        self._deleted = ""
        self._home = owner.node.pods / self.name
        self._conditions: dict[str, tuple[bool, str]] = {}
        self._stop = asyncio.Event()
        owner.node.logs.mkdir(parents=True, exist_ok=True)
        self._inits = [self._runs(spec, init=True) for spec in self._spec.get("initContainers", [])]
        self._mains = [self._runs(spec, init=False) for spec in self._spec["containers"]]
        self._all = [*self._inits, *self._mains]
        self._update_conditions()
        self._life = asyncio.create_task(self._live())
        self._record("PodCreated")

    @property
    def ready(self) -> bool:
        """Whether it may get requests."""
        return self.ready_since is not None

    def port(self, name_or_number: str | int) -> int | None:
        """The number of one of its containers' ports."""
        found = (port_of(container, name_or_number) for container in self._spec["containers"])
        return next((number for number in found if number is not None), None)

    def delete(self) -> None:
        """Begin to end it, with the grace of its template."""
        if not self.deleting:
            self.deleting = True
            self._deleted = timestamp()
            self._record("Killing")
            self._stop.set()
            self._changed()

    async def end_at_once(self, grace: float) -> None:
        """The machine is being shut down: SIGTERM now, SIGKILL after `grace` seconds; returns when it is gone."""
        self.deleting = True
        self._stop.set()
        await asyncio.gather(*(runs.stop(grace, pre_stop=False) for runs in self._all))
        await asyncio.wait([self._life])

    # Its life

    async def _live(self) -> None:
        running = asyncio.create_task(self._run())
        stopping = asyncio.create_task(self._stop.wait())
        await asyncio.wait([running, stopping], return_when=asyncio.FIRST_COMPLETED)
        if not self._stop.is_set():  # containers run for ever: only a defect of ours, or no address, ends them
            self._record("Failed", message=repr(running.exception() or "not started"))
            await self._stop.wait()
        await asyncio.gather(*(runs.stop(self._grace) for runs in self._all))
        with contextlib.suppress(Exception):
            await running
        stopping.cancel()
        await asyncio.to_thread(shutil.rmtree, self._home, ignore_errors=True)
        self.finished = True
        self._record("Gone")
        self._changed()

    async def _run(self) -> None:
        ports = {port["containerPort"] for runs in self._all for port in runs.spec.get("ports", [])}
        try:
            self.address = self.node.address(ports)
        except NoPodAddresses as error:
            self._mains[0].wait_for("CreateContainerError", str(error))
            return
        for volume in self._spec.get("volumes", []):
            self._volume(volume["name"]).mkdir(parents=True)
        for runs in self._mains:
            runs.wait_for("PodInitializing")
        for runs in self._inits:
            await self._keep_running(runs, until_success=True)
        await asyncio.gather(*(self._keep_running(runs, until_success=False) for runs in self._mains))

    async def _keep_running(self, runs: ContainerRuns, *, until_success: bool) -> None:
        name, image, images = runs.spec["name"], runs.spec["image"], self.node.images
        interpreter = translation.interpreter_of(image, images)
        if interpreter is None:
            known = ", ".join(sorted(images))
            runs.wait_for("ErrImagePull", f"there is no image {image!r} on this machine; there are: {known}")
            await self._stop.wait()
            return
        while not self._stop.is_set():
            self._record("Started", container=name)
            code = await self._run_once(runs, interpreter)
            self._record("Ended", container=name, exitCode=code)
            if until_success and code == 0:
                return
            wait = self.node.restart_wait(runs.restarts + 1)
            if wait and not self._stop.is_set():
                message = f"back-off {wait:g}s restarting failed container={name} pod={self.name}"
                runs.wait_for("CrashLoopBackOff", message)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), wait)
            runs.restarts += 1  # as kubelet: counted when it starts again

    async def _run_once(self, runs: ContainerRuns, interpreter: str) -> int:
        mounts = runs.spec.get("volumeMounts", [])
        places = {mount["mountPath"].rstrip("/"): self._volume(mount["name"]) for mount in mounts}
        places[translation.TERMINATION_LOG] = runs.last_words
        command, environment = translation.process_of(runs.spec, self._fields(), self._home, places, interpreter)
        folder = self._home / "containers" / runs.spec["name"]
        folder.mkdir(parents=True, exist_ok=True)
        return await runs.run(command, environment, folder, self.address)

    def _volume(self, name: str) -> Path:
        return self._home / "volumes" / name

    def _runs(self, spec: Json, *, init: bool) -> ContainerRuns:
        last_words = self._home / "last-words" / spec["name"]
        last_words.parent.mkdir(parents=True, exist_ok=True)
        log: Path = self.node.logs / f"{self.name}_{spec['name']}.log"
        return ContainerRuns(spec, log, last_words, init=init, grace=self._grace, changed=self._changed)

    def _fields(self) -> dict[str, str]:
        return {
            "metadata.name": self.name,
            "metadata.namespace": self.namespace,
            "metadata.uid": self.uid,
            "status.podIP": self.address,
            "spec.nodeName": NODE,
        }

    def _record(self, reason: str, **more: object) -> None:
        self.node.record(self._owner.name, self.name, reason, **more)

    # Its status

    def _changed(self) -> None:
        self._update_conditions()
        self.touch()
        self._notify()

    def _update_conditions(self) -> None:
        initialized = all(runs.ready for runs in self._inits)
        ready = initialized and all(runs.ready for runs in self._mains)
        if ready != self.ready:
            self.ready_since = asyncio.get_running_loop().time() if ready else None
            if ready:
                self._record("Ready")
        states = {"PodScheduled": True, "Initialized": initialized, "ContainersReady": ready, "Ready": ready}
        for kind, state in states.items():
            if kind not in self._conditions or self._conditions[kind][0] != state:
                self._conditions[kind] = (state, timestamp())

    def manifest(self) -> Json:
        """The pod as the API shows it."""
        owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "controller": True}
        owner["name"] = f"{self._owner.name}-{self.hash}"
        metadata = {**self.shown_metadata(), "ownerReferences": [owner]}
        if self.deleting:
            metadata |= {"deletionTimestamp": self._deleted, "deletionGracePeriodSeconds": self._grace}
        spec = {**self._spec, "nodeName": NODE}
        begun = any("waiting" not in runs.state or runs.restarts for runs in self._mains)
        status: Json = {
            "phase": "Running" if begun else "Pending",
            "conditions": [
                {"type": kind, "status": str(state), "lastTransitionTime": since}
                for kind, (state, since) in self._conditions.items()
            ],
            "startTime": self.created,
            "hostIP": "127.0.0.1",
            "containerStatuses": [runs.status() for runs in self._mains],
        }
        if self._inits:
            status["initContainerStatuses"] = [runs.status() for runs in self._inits]
        if self.address:
            status |= {"podIP": self.address, "podIPs": [{"ip": self.address}]}
        return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": status}
