"""An environment whose values ask for a canary, and nine builds in its bucket."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

from cd_webhook.delivery.deliver import Delivery
from manifests.metadata import COMMIT_GENERATION
from model_repository.deployment import AnswerOutcome, DeploymentRequest
from model_repository.digests import sha256_digest
from model_repository.documents.index_manifest import format_index_manifest
from model_repository.names import IndexPrefix
from tests import builds
from tests.cd_webhook import webhook_scene as scenes
from tests.cd_webhook.fake_pods import QUERIES
from tests.cd_webhook.webhook_scene import Scene, request

CANARY = scenes.VALUES + "canary: {replicas: 1, seconds: 30}\n"
NAME = "home-store.canary"


class CanaryScene(Scene):
    """An environment whose values ask for a canary, with the builds b1 to b9 in the bucket."""

    def __init__(self) -> None:
        super().__init__()
        self.configure(scenes.values(CANARY))
        self.digests = {number: self._publish(IndexPrefix("home-store", f"b{number}")) for number in range(1, 10)}

    def _publish(self, prefix: IndexPrefix) -> str:
        parts = (builds.partition(category="all"),)
        data = format_index_manifest(builds.index_manifest(prefix, partitions=parts, golden_queries=QUERIES))
        self.store.write(prefix.manifest, data, if_generation_match=0)
        return sha256_digest(data)

    def request(self, generation: int) -> DeploymentRequest:
        return dataclasses.replace(request(generation), index_digest=self.digests[generation])

    def commit(self, generation: int, delivery: Delivery | None = None) -> AnswerOutcome:
        return self.deliver(self.request(generation), delivery).outcome

    def serve(self, generation: int) -> None:
        self.commit(generation)
        self.finish()

    def finish(self, delivery: Delivery | None = None, looks: int = 600) -> str:
        """Look as the watcher does, half a second apart, until the rollout is finished."""
        for _ in range(looks):
            look = (delivery or self.delivery).advance("home-store")
            if look.finished:
                return look.sentence
            self.pass_seconds(0.5)
        raise AssertionError(f"still in progress: {look.sentence}")

    def look(self, times: int) -> None:
        for _ in range(times):
            assert not self.delivery.advance("home-store").finished
            self.pass_seconds(0.5)

    def pass_seconds(self, seconds: float) -> None:
        self.clock.moment += timedelta(seconds=seconds)

    @property
    def names(self) -> list[str]:
        return [found["metadata"]["name"] for found in self.cluster.deployments()]

    def stable_generation(self) -> str:
        live = self.cluster.deployment("home-store")
        assert live is not None
        return str(live["spec"]["template"]["metadata"]["annotations"][COMMIT_GENERATION])


def serving() -> CanaryScene:
    """Commit 1 serves; it had nothing to be compared with."""
    scene = CanaryScene()
    scene.serve(1)
    return scene
