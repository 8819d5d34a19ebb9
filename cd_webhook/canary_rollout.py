"""Keeps the canary's Deployment as the stable one's annotations want it, and watches it.

What is wanted stands on the stable Deployment alone. The canary's own is made from it as often as it is missing or
another commit's, and removed as soon as nothing wants it; so whichever step a webhook dies after, the next one ends at
the same place, and two of them do no harm to each other.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from cd_webhook import canary as judgement
from cd_webhook.canary import Aborted, Judgement, Watching
from cd_webhook.cluster import Cluster, Object, version_of
from cd_webhook.deployed import Deployed
from cd_webhook.golden import Question, questions
from cd_webhook.observe import Observation
from cd_webhook.pod_client import PodClient
from cd_webhook.rollout import Failed, Progressing, judge, new_pods
from manifests import metadata as marks
from manifests.canary import Canary, canary_of
from model_repository.canary_figures import CanaryFigures
from model_repository.deployment import DeploymentRequest
from model_repository.digests import sha256_digest
from model_repository.errors import PermanentError
from model_repository.repository import read_index_manifest
from model_repository.store import Store


@dataclass(slots=True)
class _Watched:
    generation: int
    observation: Observation
    figures: CanaryFigures | None = None


class Canaries:
    """The canaries of one environment."""

    def __init__(self, cluster: Cluster, store: Store, client: PodClient) -> None:
        self._cluster = cluster
        self._store = store
        self._client = client
        self._lock = threading.Lock()
        self._watched: dict[str, _Watched] = {}

    def look(  # noqa: PLR0917 - one state
        self, live: Object, deployed: Deployed, request: DeploymentRequest, rules: Canary, spec: Object, now: datetime
    ) -> Judgement:
        """Look at the canary that the stable Deployment `live` wants: make it, wait for it, or watch it.

        rules, spec: of the canary. Raises as the cluster and the bucket do.
        """
        index = request.target.index
        watched = self._of(index, request.generation)
        if now - deployed.started > judgement.limit(spec, rules):
            return judgement.undecided(watched.figures if watched else None)
        wanted = canary_of(_stable(live, request, spec), rules.replicas)
        canary = self._cluster.deployment(marks.canary_name(index))
        if canary is None:
            self._cluster.create(wanted)
            return Watching("canary: created")
        found = _generation(canary)
        if found != request.generation:
            if found < request.generation:
                self._cluster.apply(wanted, resource_version=version_of(canary))
            return Watching(f"canary: commit {found}'s is replaced")
        pods = self._cluster.pods(marks.canary_name(index))
        verdict = judge(canary, pods, started=deployed.started, now=now)
        if isinstance(verdict, Failed):
            failed = Failed(verdict.code, f"canary: {verdict.sentence}")
            return Aborted(failed, watched.figures if watched else None)
        if watched is None:
            if isinstance(verdict, Progressing):
                return Watching(f"canary: {verdict.sentence}", version_of(canary))
            watched = self._begin(request, deployed.last_good, now)
        stable = self._cluster.pods(index)
        figures = watched.observation.look(new_pods(canary["spec"], pods), new_pods(live["spec"], stable), now)
        watched.figures = figures
        found_so_far = judgement.judge_canary(figures, rules)
        return replace(found_so_far, version=version_of(canary)) if isinstance(found_so_far, Watching) else found_so_far

    def remove(self, index: str) -> None:
        """Remove the index's canary if there is one; raises `Conflict` if somebody writes to it meanwhile."""
        with self._lock:
            self._watched.pop(index, None)
        canary = self._cluster.deployment(marks.canary_name(index))
        if canary is not None:
            self._cluster.delete(canary)

    def _of(self, index: str, generation: int) -> _Watched | None:
        with self._lock:
            watched = self._watched.get(index)
            if watched and watched.generation != generation:
                watched = None
                del self._watched[index]
            return watched

    def _begin(self, request: DeploymentRequest, good: DeploymentRequest | None, now: datetime) -> _Watched:
        mine = self._questions(request)
        try:
            theirs = self._questions(good) if good else mine
        except PermanentError:  # that build is no longer in the bucket: what both have is asked
            theirs = mine
        watched = _Watched(request.generation, Observation(self._client, mine, theirs, now))
        with self._lock:
            self._watched[request.target.index] = watched
        return watched

    def _questions(self, request: DeploymentRequest) -> tuple[Question, ...]:
        manifest, stored = read_index_manifest(self._store, request.index_prefix)
        return questions(manifest) if sha256_digest(stored.data) == request.index_digest else ()


def _stable(live: Object, request: DeploymentRequest, spec: dict[str, Any]) -> Object:
    """The Deployment that a promotion would make, less the state of its rollout."""
    head = {key: live["metadata"][key] for key in ("name", "namespace", "labels") if key in live["metadata"]}
    annotations = {
        marks.COMMIT_GENERATION: str(request.generation),
        marks.INDEX_PREFIX: str(request.index_prefix),
        marks.INDEX_DIGEST: request.index_digest,
        marks.MODEL_DIGEST: request.model_digest,
    }
    metadata = {**head, "annotations": annotations}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}


def _generation(canary: Object) -> int:
    text = (canary["metadata"].get("annotations") or {}).get(marks.COMMIT_GENERATION, "")
    return int(text) if text.isascii() and text.isdigit() else 0
