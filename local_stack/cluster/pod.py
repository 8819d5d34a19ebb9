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
from local_stack.cluster.manifest import Container, Json, Metadata, PodTemplate
from local_stack.cluster.node import NODE, Node, NoPodAddresses, timestamp


class Pod:
    """One pod. owner: its Deployment's. changed: called after every change that a status shows."""

    def __init__(self, owner: Metadata, template: PodTemplate, node: Node, changed: Callable[[], None]) -> None:
        self.name = f"{owner.name}-{template.hash}-{uuid4().hex[:5]}"
        self.template = template
        self.labels = {**template.labels, "pod-template-hash": template.hash}
        self.address = ""
        self.deleting = False
        self.finished = False
        self.ready_since: float | None = None
        self._owner = owner
        self._node = node
        self._notify = changed
        self._uid = str(uuid4())
        self._created = timestamp()
        self._deleted = ""
        self._version = node.next_version()
        self._home = node.options.pods / self.name
        self._conditions: dict[str, tuple[bool, str]] = {}
        self._stop = asyncio.Event()
        node.options.logs.mkdir(parents=True, exist_ok=True)
        self._inits = [self._runs(spec, init=True) for spec in template.init_containers]
        self._mains = [self._runs(spec, init=False) for spec in template.containers]
        self._update_conditions()
        self._life = asyncio.create_task(self._live())
        self._record("PodCreated")

    @property
    def ready(self) -> bool:
        """Whether it may get requests."""
        return self.ready_since is not None

    def port(self, name_or_number: str | int) -> int | None:
        """The number of one of its containers' ports."""
        if isinstance(name_or_number, int):
            return name_or_number
        return next((s.ports[name_or_number] for s in self.template.containers if name_or_number in s.ports), None)

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
        await asyncio.gather(*(runs.stop(grace, pre_stop=False) for runs in (*self._inits, *self._mains)))
        await asyncio.wait([self._life])

    # Its life

    async def _live(self) -> None:
        running = asyncio.create_task(self._run())
        stopping = asyncio.create_task(self._stop.wait())
        await asyncio.wait([running, stopping], return_when=asyncio.FIRST_COMPLETED)
        if not self._stop.is_set():  # containers run for ever: only a defect of ours, or no address, ends them
            self._record("Failed", message=repr(running.exception() or "not started"))
            await self._stop.wait()
        await asyncio.gather(*(runs.stop(self.template.grace) for runs in (*self._inits, *self._mains)))
        with contextlib.suppress(Exception):
            await running
        stopping.cancel()
        await asyncio.to_thread(shutil.rmtree, self._home, ignore_errors=True)
        self.finished = True
        self._record("Gone")
        self._changed()

    async def _run(self) -> None:
        specs = (*self.template.init_containers, *self.template.containers)
        try:
            self.address = self._node.address({port for spec in specs for port in spec.ports.values()})
        except NoPodAddresses as error:
            self._mains[0].wait_for("CreateContainerError", str(error))
            return
        for volume in self.template.volumes:
            (self._home / "volumes" / volume).mkdir(parents=True)
        for runs in self._mains:
            runs.wait_for("PodInitializing")
        for runs in self._inits:
            await self._keep_running(runs, until_success=True)
        await asyncio.gather(*(self._keep_running(runs, until_success=False) for runs in self._mains))

    async def _keep_running(self, runs: ContainerRuns, *, until_success: bool) -> None:
        name, images = runs.spec.name, self._node.options.images
        interpreter = translation.interpreter_of(runs.spec.image, images)
        if interpreter is None:
            known = ", ".join(sorted(images))
            runs.wait_for("ErrImagePull", f"there is no image {runs.spec.image!r} on this machine; there are: {known}")
            await self._stop.wait()
            return
        while not self._stop.is_set():
            self._record("Started", container=name)
            code = await self._run_once(runs, interpreter)
            self._record("Ended", container=name, exitCode=runs.exit_code)
            if until_success and code == 0:
                return
            wait = self._node.options.restart_wait(runs.restarts + 1)
            if wait and not self._stop.is_set():
                message = f"back-off {wait:g}s restarting failed container={name} pod={self.name}"
                runs.wait_for("CrashLoopBackOff", message)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), wait)
            runs.restarts += 1  # as kubelet: counted when it starts again

    async def _run_once(self, runs: ContainerRuns, interpreter: str) -> int:
        places = {mount: self._home / "volumes" / volume for mount, volume in runs.spec.mounts.items()}
        places[translation.TERMINATION_LOG] = runs.last_words
        facts = translation.PodFacts(self.name, self.address, self._home, self._fields())
        environment = translation.process_environment(runs.spec, facts, places, interpreter)
        command = translation.process_command(runs.spec, environment, places, interpreter)
        folder = self._home / "containers" / runs.spec.name
        folder.mkdir(parents=True, exist_ok=True)
        return await runs.run(command, environment, folder, self.address)

    def _runs(self, spec: Container, *, init: bool) -> ContainerRuns:
        last_words = self._home / "last-words" / spec.name
        last_words.parent.mkdir(parents=True, exist_ok=True)
        log: Path = self._node.options.logs / f"{self.name}_{spec.name}.log"
        return ContainerRuns(spec, log, last_words, init=init, grace=self.template.grace, changed=self._changed)

    def _fields(self) -> dict[str, str]:
        return {
            "metadata.name": self.name,
            "metadata.namespace": self._owner.namespace,
            "metadata.uid": self._uid,
            "status.podIP": self.address,
            "spec.nodeName": NODE,
        }

    def _record(self, reason: str, **more: object) -> None:
        self._node.record(self._owner.name, self.name, reason, **more)

    # Its status

    def _changed(self) -> None:
        self._update_conditions()
        self._version = self._node.next_version()
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
        owner["name"] = f"{self._owner.name}-{self.template.hash}"
        metadata: Json = {
            "name": self.name,
            "namespace": self._owner.namespace,
            "uid": self._uid,
            "resourceVersion": self._version,
            "creationTimestamp": self._created,
            "labels": self.labels,
            "annotations": dict(self.template.annotations),
            "ownerReferences": [owner],
        }
        if self.deleting:
            metadata |= {"deletionTimestamp": self._deleted, "deletionGracePeriodSeconds": self.template.grace}
        spec = {**self.template.raw["spec"], "nodeName": NODE}
        begun = any("waiting" not in runs.state or runs.restarts for runs in self._mains)
        status: Json = {
            "phase": "Running" if begun else "Pending",
            "conditions": [
                {"type": kind, "status": str(state), "lastTransitionTime": since}
                for kind, (state, since) in self._conditions.items()
            ],
            "startTime": self._created,
            "hostIP": "127.0.0.1",
            "containerStatuses": [runs.status() for runs in self._mains],
        }
        if self._inits:
            status["initContainerStatuses"] = [runs.status() for runs in self._inits]
        if self.address:
            status |= {"podIP": self.address, "podIPs": [{"ip": self.address}]}
        return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": status}
