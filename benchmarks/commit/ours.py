"""One commit through indexpush: event, function, webhook, rollout, pull, proof."""

from __future__ import annotations

import os
import time

from benchmarks.commit.lab import Lab, Uploaded
from benchmarks.commit.meter import Meter
from benchmarks.commit.node import disk_bytes
from benchmarks.commit.pods import watched
from benchmarks.commit.results import OURS, Idle, Run
from benchmarks.made_index import INDEX
from manifests import metadata as marks
from model_repository.documents.receipts.receipt import Outcome
from tests.kubernetes.installation import NAMESPACE

_LISTS_A_DAY = 0


class Ours:
    """The design of this repository, as tests/kubernetes installs it."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab

    def commit(self, build: Uploaded) -> Run:
        """Commit the build (a redeploy pulls all of it as a new build does) and measure."""
        lab, labels = self._lab, marks.selector(INDEX)
        images, load = lab.node.image_bytes(), os.getloadavg()[0]
        parts = {"bucket": lab.bucket_pods(), "function": lab.function_pods(), "webhook": lab.webhook_pods()}
        with watched(lab.kube, NAMESPACE, labels) as moments:
            meter, began = Meter(lab.node, parts), time.time()
            generation = lab.scene.commit(build.prefix)
            answered = lab.answered(NAMESPACE, generation)
            uid, seen = moments.last()
            spent = meter.spent(uid)
        run = Run(
            size=build.size,
            design=OURS,
            seconds=answered - began,
            steps={
                "commit to pod": seen["made"] - began,
                "pull": seen["initialized"] - seen["made"],
                "proof and ready": answered - seen["initialized"],
            },
            cpu=spent,
            registry=0,
            image_store=lab.node.image_bytes() - images,
            volume=disk_bytes(lab.node.volume(uid, "data")),
            load=load,
        )
        receipt = lab.scene.receipt(INDEX, generation)
        if receipt.outcome is not Outcome.SERVED:
            raise RuntimeError(f"the commit was not served: {receipt.detail}")
        lab.alone(NAMESPACE, labels, build.item)
        return run

    def idle(self, seconds: float, spent: list[float]) -> Idle:
        """What stands around the clock: the webhook. spent: its CPU seconds over `seconds`."""
        memory = sum(self._lab.node.pod_memory(uid) for uid in self._lab.webhook_pods())
        return Idle(OURS, "CD webhook, two replicas", seconds, sum(spent), memory, _LISTS_A_DAY)
