"""A pod: init containers one after the other, then its containers for ever, until it is deleted."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

from local_stack.cluster import translation
from local_stack.cluster.addresses import NoPodAddresses
from local_stack.cluster.changes import timestamp
from local_stack.cluster.container_run import ContainerRun
from local_stack.cluster.node import NODE, Node
from local_stack.cluster.specification import Json, PodTemplate

_TEMPLATE_HASH = "pod-template-hash"


class Pod:
    """One pod. changed: called after every change that a status shows."""

    def __init__(
        self, deployment: str, namespace: str, template: PodTemplate, node: Node, changed: Callable[[], None]
    ) -> None:
        self.name = f"{deployment}-{template.hash}-{uuid4().hex[:5]}"
        self.template = template
        self.labels = {**template.labels, _TEMPLATE_HASH: template.hash}
        self.address = ""
        self.deleting = False
        self.finished = False
        self.ready_since: float | None = None
        self._deployment = deployment
        self._namespace = namespace
        self._node = node
        self._notify = changed
        self._uid = str(uuid4())
        self._created = timestamp()
        self._deleted_at = ""
        self._version = node.changes.tick()
        self._home = node.options.pods / self.name
        self._conditions: dict[str, tuple[bool, str]] = {}
        self._stop = asyncio.Event()
        self._inits = [self._container_run(spec.name) for spec in template.init_containers]
        self._mains = [self._container_run(spec.name) for spec in template.containers]
        self._update_conditions()
        self._life = asyncio.create_task(self._live())
        node.record(deployment, self.name, "PodCreated")

    # What others see

    @property
    def ready(self) -> bool:
        """Whether it may get requests."""
        return self._conditions["Ready"][0]

    @property
    def port_names(self) -> dict[str, int]:
        """All named ports of its containers."""
        return {name: port for spec in self.template.containers for name, port in spec.ports.items()}

    @property
    def pids(self) -> list[int]:
        """Its processes."""
        return [run.pid for run in (*self._inits, *self._mains) if run.pid is not None]

    def log_file(self, container: str | None) -> Path:
        """The log of one of its containers, by default of the first main one; raises KeyError."""
        name = container or self._mains[0].spec.name
        return {run.spec.name: run.log for run in (*self._inits, *self._mains)}[name]

    def manifest(self) -> Json:
        """The pod as the API shows it."""
        metadata: Json = {
            "name": self.name,
            "namespace": self._namespace,
            "uid": self._uid,
            "resourceVersion": self._version,
            "creationTimestamp": self._created,
            "labels": self.labels,
            "annotations": dict(self.template.annotations),
            "ownerReferences": [
                {
                    "apiVersion": "apps/v1",
                    "kind": "ReplicaSet",
                    "name": f"{self._deployment}-{self.template.hash}",
                    "controller": True,
                }
            ],
        }
        if self.deleting:
            metadata |= {"deletionTimestamp": self._deleted_at, "deletionGracePeriodSeconds": self.template.grace}
        spec = {**self.template.raw["spec"], "nodeName": NODE}
        return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": self._status()}

    # What others do

    def delete(self) -> None:
        """Begin to end it, with the grace of its template."""
        if not self.deleting:
            self.deleting = True
            self._deleted_at = timestamp()
            self._node.record(self._deployment, self.name, "Killing")
            self._stop.set()
            self._changed()

    async def gone(self) -> None:
        """Return when it is gone, with its folder."""
        await asyncio.wait([self._life])

    async def end_at_once(self, grace: float) -> None:
        """The machine is being shut down: SIGTERM now, SIGKILL after `grace` seconds."""
        self.deleting = True
        self._stop.set()
        await asyncio.gather(*(run.stop(grace, pre_stop=False) for run in (*self._inits, *self._mains)))
        await self.gone()

    # Its life

    async def _live(self) -> None:
        running = asyncio.create_task(self._run())
        stopping = asyncio.create_task(self._stop.wait())
        await asyncio.wait([running, stopping], return_when=asyncio.FIRST_COMPLETED)
        if not self._stop.is_set():  # containers run for ever: only a defect of ours ends them
            self._node.record(self._deployment, self.name, "Failed", message=repr(running.exception() or "not started"))
            await self._stop.wait()
        await asyncio.gather(*(run.stop(self.template.grace) for run in (*self._inits, *self._mains)))
        with contextlib.suppress(Exception):
            await running
        stopping.cancel()
        await asyncio.to_thread(shutil.rmtree, self._home, ignore_errors=True)
        self.finished = True
        self._node.record(self._deployment, self.name, "Gone")
        self._changed()

    async def _run(self) -> None:
        specs = (*self.template.init_containers, *self.template.containers)
        try:
            self.address = self._node.addresses.take({port for spec in specs for port in spec.ports.values()})
        except NoPodAddresses as error:
            self._mains[0].wait_for("CreateContainerError", str(error))
            return
        for volume in self.template.volumes:
            (self._home / "volumes" / volume).mkdir(parents=True)
        for run in self._mains:
            run.wait_for("PodInitializing")
        for run in self._inits:
            await self._keep_running(run, until_success=True)
        await asyncio.gather(*(self._keep_running(run, until_success=False) for run in self._mains))

    async def _keep_running(self, run: ContainerRun, *, until_success: bool) -> None:
        interpreter = translation.interpreter_of(run.spec.image, self._node.options.images)
        if interpreter is None:
            known = ", ".join(sorted(self._node.options.images))
            run.wait_for("ErrImagePull", f"there is no image {run.spec.image!r} on this machine; there are: {known}")
            await self._stop.wait()
        while not self._stop.is_set() and interpreter is not None:
            self._node.record(self._deployment, self.name, "Started", container=run.spec.name)
            code = await self._run_once(run, interpreter)
            self._node.record(self._deployment, self.name, "Ended", container=run.spec.name, exitCode=run.exit_code)
            if until_success and code == 0:
                run.ready = True
                return
            wait = self._node.restart_wait(run.restarts + 1)
            if wait and not self._stop.is_set():
                message = f"back-off {wait:g}s restarting failed container={run.spec.name} pod={self.name}"
                run.wait_for("CrashLoopBackOff", message)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), wait)
            run.restarts += 1  # as kubelet: counted when it starts again

    async def _run_once(self, run: ContainerRun, interpreter: str) -> int:
        places = {mount: self._home / "volumes" / volume for mount, volume in run.spec.mounts.items()}
        places[translation.TERMINATION_LOG] = self._last_words(run.spec.name)
        facts = translation.PodFacts(self.name, self.address, self._home, self._fields())
        environment = translation.process_environment(run.spec, facts, places, interpreter)
        command = translation.process_command(run.spec, environment, places, interpreter)
        folder = self._home / "containers" / run.spec.name
        folder.mkdir(parents=True, exist_ok=True)
        return await run.run(command, environment, folder, self.address)

    def _container_run(self, container: str) -> ContainerRun:
        spec = next(s for s in (*self.template.init_containers, *self.template.containers) if s.name == container)
        self._node.options.logs.mkdir(parents=True, exist_ok=True)
        last_words = self._last_words(container)
        last_words.parent.mkdir(parents=True, exist_ok=True)
        log = self._node.options.logs / f"{self.name}_{container}.log"
        return ContainerRun(spec, log, last_words, self.template.grace, self._changed)

    def _last_words(self, container: str) -> Path:
        return self._home / "last-words" / container

    def _fields(self) -> dict[str, str]:
        return {
            "metadata.name": self.name,
            "metadata.namespace": self._namespace,
            "metadata.uid": self._uid,
            "status.podIP": self.address,
            "spec.nodeName": NODE,
        }

    # Its status

    def _changed(self) -> None:
        self._update_conditions()
        self._version = self._node.changes.tick()
        self._notify()

    def _update_conditions(self) -> None:
        initialized = all(run.exit_code == 0 for run in self._inits)
        ready = initialized and all(run.ready for run in self._mains)
        states = {"PodScheduled": True, "Initialized": initialized, "ContainersReady": ready, "Ready": ready}
        for kind, state in states.items():
            if kind not in self._conditions or self._conditions[kind][0] != state:
                self._conditions[kind] = (state, timestamp())
                if kind == "Ready":
                    self.ready_since = asyncio.get_running_loop().time() if state else None
                    if state:
                        self._node.record(self._deployment, self.name, "Ready")

    def _status(self) -> Json:
        begun = any("waiting" not in run.state or run.last_state for run in self._mains)
        status: Json = {
            "phase": "Running" if begun else "Pending",
            "conditions": [
                {"type": kind, "status": str(state), "lastTransitionTime": since}
                for kind, (state, since) in self._conditions.items()
            ],
            "startTime": self._created,
            "hostIP": "127.0.0.1",
            "containerStatuses": [run.status() for run in self._mains],
        }
        if self._inits:
            status["initContainerStatuses"] = [run.status() for run in self._inits]
        if self.address:
            status |= {"podIP": self.address, "podIPs": [{"ip": self.address}]}
        return status
