"""The batch on Argo Workflows in the test's cluster: what is installed for it, its runs, and who kills their pods."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Any

import yaml

from manifests import metadata as marks
from manifests.argo.values import EACH, STEPS, parse_batch_values
from manifests.argo.workflow import workflow_objects
from model_repository.names import Target
from tests.kubernetes.installation import BUCKET, ENVIRONMENT, documents
from tests.kubernetes.kube import Kube, Object, processes_of, until

BATCHES = "indexpush-batch"
BATCH_IMAGE = os.environ.get("INDEXPUSH_BATCH_IMAGE", "localhost/indexpush-batch:0.1.0")
_MANIFESTS = Path(__file__).resolve().parents[2] / "manifests" / "batch"
_PATH = f"/apis/argoproj.io/v1alpha1/namespaces/{BATCHES}"
_SMALL = {"cpu": "50m", "cpu_limit": "2", "memory_mib": 512, "disk_mib": 512}
"""What a step of a test needs; a small node has many of them."""


_A_WHILE = 1.5
"""Seconds."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One pod of a step. what: the shard or part, or nothing; exit_code: None where nobody learnt it.

    A pod that was deleted soon after it began isn't one: Argo makes it again, under the same name.
    """

    step: str
    what: str
    pod: str
    phase: str
    exit_code: str | None
    message: str


class Run:
    """One workflow."""

    def __init__(self, kube: Kube, name: str) -> None:
        self.name = name
        self._kube = kube

    @property
    def workflow(self) -> Object:
        return dict(self._kube.api.get(f"{_PATH}/workflows/{self.name}"))

    def _labels(self) -> dict[str, str]:
        return self.workflow["metadata"].get("labels") or {}

    @property
    def build(self) -> str:
        """The name of its build."""
        return str(until(lambda: self._labels().get(marks.BUILD), f"{self.name} to begin"))

    @property
    def attempts(self) -> list[Attempt]:
        """Every pod, in the order in which they began."""
        nodes = self.workflow.get("status", {}).get("nodes") or {}
        pods = [node for node in nodes.values() if node["type"] == "Pod"]
        return [self._attempt(node) for node in sorted(pods, key=lambda node: (node["startedAt"], node["displayName"]))]

    def _attempt(self, node: Object) -> Attempt:
        given = {one["name"]: one["value"] for one in node.get("inputs", {}).get("parameters", [])}
        step = str(node["templateName"])
        return Attempt(
            step=step,
            what=str(given.get(EACH.get(step, ""), "")),
            pod=f"{self.name}-{step}-{str(node['id']).rpartition('-')[2]}",
            phase=str(node["phase"]),
            exit_code=node.get("outputs", {}).get("exitCode"),
            message=str(node.get("message", "")),
        )

    def of(self, step: str) -> list[Attempt]:
        return [attempt for attempt in self.attempts if attempt.step == step]

    def pods(self) -> list[Object]:
        return self._kube.pods(BATCHES, {"workflows.argoproj.io/workflow": self.name})

    def ended(self, within: float) -> str:
        """Wait until it ended, its report included; gives the phase."""

        def look() -> str | None:
            done = self._labels().get("workflows.argoproj.io/completed") == "true"
            return str(self.workflow["status"]["phase"]) if done else None

        return until(look, f"the end of {self.name}", within)

    def said(self) -> str:
        """What became of each pod, for whoever reads a failed test."""
        return "\n".join(f"{a.step} {a.what} {a.phase} {a.exit_code} {a.message[:1500]}" for a in self.attempts)


class Batches:
    """The namespace of the batches."""

    def __init__(self, kube: Kube) -> None:
        self.kube = kube

    def install(self) -> None:
        """Put what is shipped into the cluster, and wait until the executor's token is there."""
        kube = self.kube
        assert kube.deployment("argo", "workflow-controller"), (
            "no Argo Workflows in namespace argo: see README.md beside"
        )
        shipped = [one for path in sorted(_MANIFESTS.glob("*.yaml")) for one in documents(path)]
        kube.apply(*(one for one in shipped if one["kind"] == "Namespace"))
        kube.apply(*(one for one in shipped if one["kind"] != "Namespace"))
        secret = f"/api/v1/namespaces/{BATCHES}/secrets/{BATCHES}-executor.service-account-token"
        until(lambda: kube.api.get(secret).get("data"), "the executor's token")

    def apply(self, index: str, **values: Any) -> None:
        """Put the workflow of an index into the cluster as `indexpush argo-workflow` prints it."""
        steps = {step: _SMALL | values.get("steps", {}).get(step, {}) for step in STEPS}
        chosen: dict[str, Any] = {
            "namespace": BATCHES,
            "image": BATCH_IMAGE,
            "retry_seconds": 1,
            "env": {"STORAGE_EMULATOR_HOST": os.environ["STORAGE_EMULATOR_HOST"]},
            **values,
            "steps": steps,
        }
        read = parse_batch_values(yaml.safe_dump(chosen), f"{index}.yaml", {})
        self.kube.apply(*workflow_objects(Target(ENVIRONMENT, index), BUCKET, read))

    def start(self, index: str) -> Run:
        """Begin a run now."""
        value = {
            "apiVersion": "argoproj.io/v1alpha1",
            "kind": "Workflow",
            "metadata": {"generateName": f"{index}-", "namespace": BATCHES},
            "spec": {"workflowTemplateRef": {"name": index}},
        }
        made = self.kube.kubectl("create", "-o", "jsonpath={.metadata.name}", "-f", "-", stdin=yaml.safe_dump(value))
        return Run(self.kube, made)

    def runs(self, index: str) -> dict[str, Run]:
        """All runs of an index by name."""
        found = self.kube.api.get(f"{_PATH}/workflows", labelSelector=f"{marks.INSTANCE}={index}")["items"]
        return {one["metadata"]["name"]: Run(self.kube, one["metadata"]["name"]) for one in found}

    def suspend(self, index: str) -> None:
        """Stop the schedule of an index; what runs goes on."""
        self._patch(index, '{"spec": {"suspend": true}}')

    def resume(self, index: str) -> None:
        """Start its schedule."""
        self._patch(index, '{"spec": {"suspend": false}}')

    def _patch(self, index: str, patch: str) -> None:
        self.kube.kubectl("-n", BATCHES, "patch", "cronworkflow", index, "--type", "merge", "-p", patch)


@dataclass
class Killer:
    """Kills one pod of every step of a run while it works, in turns by SIGKILL and by deleting it.

    A pod is frozen before it is deleted, so that none is done before its end comes.
    """

    kube: Kube
    run: Run
    killed: dict[str, str] = field(default_factory=dict)
    """Step -> the pod that was killed, by its uid."""
    seen: dict[str, dict[str, float]] = field(default_factory=dict)
    """Step -> the pods that worked, by uid, and when they were first seen to."""
    _ended: bool = False

    @contextmanager
    def at_work(self) -> Iterator[None]:
        thread = Thread(target=self._work, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ended = True
            thread.join(30)

    def _work(self) -> None:
        while not self._ended:
            for pod in self.run.pods():
                if not _works(pod):
                    continue
                step, uid = _step(pod), str(pod["metadata"]["uid"])
                of_step = self.seen.setdefault(step, {})
                began = of_step.setdefault(uid, time.monotonic())
                # the first of several works for a while; who comes after it, or is the only one, is killed at once
                patience = _A_WHILE if step in EACH and next(iter(of_step)) == uid else 0.0
                if step not in self.killed and time.monotonic() >= began + patience:
                    self._kill(pod, by_deleting=len(self.killed) % 2 == 1)
                    self.killed[step] = uid
            time.sleep(0.1)

    def _kill(self, pod: Object, *, by_deleting: bool) -> None:
        processes = processes_of(pod, b"embedding_batch")
        for process in processes:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGSTOP if by_deleting else signal.SIGKILL)
        if by_deleting or not processes:  # none: the cluster's node is elsewhere
            arguments = ("delete", "pod", pod["metadata"]["name"], "--force", "--grace-period=0", "--wait=false")
            self.kube.kubectl("-n", BATCHES, *arguments)


def _step(pod: Object) -> str:
    """The step of a pod, whose name is <run>-<step>-<number>."""
    return str(pod["metadata"]["name"]).rsplit("-", 2)[1]


def _works(pod: Object) -> bool:
    """Whether a step's command has begun, and not ended."""
    statuses = pod["status"].get("containerStatuses") or []
    running = any(one["name"] == "main" and "running" in one["state"] for one in statuses)
    return running and not pod["metadata"].get("deletionTimestamp")
