"""Racing deliveries on a real API server: the newest generation wins, always."""

from __future__ import annotations

import io
import json
import random
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from cd_webhook.canary import Canaries
from cd_webhook.cluster.api import KubernetesApi
from cd_webhook.cluster.kubernetes import KubernetesCluster
from cd_webhook.delivery.deliver import Delivery
from cd_webhook.delivery.receipts import Receipts
from cd_webhook.state.annotations import REQUEST
from manifests import metadata as marks
from manifests.render import Rendered, render
from manifests.values import parse_values
from model_repository.bucket.gcs_store import GcsStore
from model_repository.clock import SystemClock
from model_repository.deployment import DeploymentRequest, Footprint
from model_repository.errors import TransientError
from model_repository.names import IndexPrefix, Target
from model_repository.telemetry.log import Log
from tests import builds
from tests.kubernetes.installation import BUCKET, ENVIRONMENT, NAMESPACE
from tests.kubernetes.kube import Kube
from tests.kubernetes.node_scene import INDEX, Scene

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(300)]

RACES = 200
LANES = 4
"""Races that run at a time, each lane on an index of its own."""
TRACK = "indexpush-races"
"""A namespace where nothing runs: an autoscaler has scaled every Deployment to 0."""


@pytest.fixture(scope="module")
def track(kube: Kube) -> Iterator[Kube]:
    kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": TRACK}})
    yield kube
    kube.kubectl("delete", "namespace", TRACK, "--wait=false")


def request(index: str, generation: int) -> DeploymentRequest:
    return builds.request(
        generation,
        Target(ENVIRONMENT, index),
        bucket=BUCKET,
        index_prefix=IndexPrefix(index, "b"),
        footprint=Footprint(memory_mib=300, volume_mib=100, deadline_seconds=3600),
    )


class Track:
    """What is rendered once for an index, as parsing YAML would be what the races measure."""

    def __init__(self) -> None:
        text = f"namespace: {TRACK}\nimage: localhost/none:1\nservice_account: default\nreplicas: null\n"
        self._values = parse_values(text, "values", ENVIRONMENT, {})
        self._rendered: dict[str, str] = {}

    def render(self, asked: DeploymentRequest) -> Rendered:
        index, generation = asked.target.index, str(asked.generation)
        if index not in self._rendered:
            first = render(request(index, 1), self._values)
            first.deployment["spec"]["replicas"] = 0
            self._rendered[index] = json.dumps([first.deployment, first.service, first.budget])
        deployment, service, budget = json.loads(self._rendered[index])
        for metadata in (deployment["metadata"], deployment["spec"]["template"]["metadata"]):
            metadata["annotations"][marks.COMMIT_GENERATION] = generation
        return Rendered(deployment, service, budget)

    def webhook(self, kubeconfig: Path) -> Delivery:
        """A replica with connections of its own."""
        log = Log(stream=io.StringIO())
        cluster, store = KubernetesCluster(KubernetesApi.connect(kubeconfig), TRACK, log), GcsStore(BUCKET)
        clock = SystemClock()
        receipts = Receipts(environment=ENVIRONMENT, cluster=cluster, store=store, clock=clock, log=log)
        return Delivery(
            environment=ENVIRONMENT,
            cluster=cluster,
            store=store,
            render=self.render,
            canaries=Canaries(None, cluster, store, log),
            clock=clock,
            log=log,
            receipts=receipts,
        )


def deliver(webhook: Delivery, index: str, generations: Iterable[int]) -> Callable[[], None]:
    """Deliver each until it is acknowledged, as the function does."""

    def act() -> None:
        for generation in generations:
            while True:
                try:
                    webhook.deliver(request(index, generation))
                    break
                except TransientError:
                    continue

    return act


def uploaded(scene: Scene, index: str, fresh: list[int]) -> Iterator[int]:
    """The commit that is there, and then one more, uploaded when the first was delivered."""
    yield fresh[0]
    fresh.append(scene.upload(IndexPrefix(index, "b")))
    yield fresh[1]


def together(acts: list[Callable[[], None]]) -> None:
    errors: list[BaseException] = []

    def run(act: Callable[[], None]) -> None:
        try:
            act()
        except BaseException as error:  # noqa: BLE001 - told to the test's own thread
            errors.append(error)

    threads = [threading.Thread(target=run, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(240)
    assert not errors, errors


def test_in_every_one_of_200_races_of_two_webhooks_the_newest_commit_wins(
    track: Kube, scene: Scene, kubeconfig: Path
) -> None:
    rounds = RACES // LANES
    replicas = Track()
    first, second = replicas.webhook(kubeconfig), replicas.webhook(kubeconfig)

    beaten: dict[str, list[int]] = defaultdict(list)
    """By index: all but the newest of each round, which still rolled out when it was removed."""

    def lane(index: str) -> Callable[[], None]:
        def act() -> None:
            chance = random.Random(index)
            with track.recorded(TRACK, index) as history:
                for _ in range(rounds):
                    fresh = [scene.upload(IndexPrefix(index, "b"))]
                    late = chance.choices((0, 1), k=3)  # the second is delivered once it is there
                    together(
                        [
                            deliver(first, index, uploaded(scene, index, fresh)),
                            deliver(second, index, (fresh[min(which, len(fresh) - 1)] for which in late)),
                        ]
                    )
                    beaten[index] += fresh[:-1]
                    live = track.deployment(TRACK, index)
                    assert live
                    template = live["spec"]["template"]["metadata"]["annotations"]
                    seen = live["metadata"]["annotations"][marks.COMMIT_GENERATION], template[marks.COMMIT_GENERATION]
                    assert seen == (str(fresh[-1]), str(fresh[-1])), (index, late)
                    assert json.loads(live["metadata"]["annotations"][REQUEST])["generation"] == str(fresh[-1])
                    track.kubectl("-n", TRACK, "delete", "deployment", index, "--cascade=foreground")
            assert history.only_grew(), history.versions

        return act

    lanes = [f"lane-{number}" for number in range(LANES)]
    together([lane(index) for index in lanes])
    for index in lanes:
        receipts = scene.receipts(index)
        assert set(receipts.values()) == {"superseded"}
        assert sorted(receipts) == beaten[index]
        assert {scene.times_written(index, generation) for generation in receipts} == {1}


def test_both_replicas_of_the_installed_webhook_are_told_of_racing_commits(scene: Scene) -> None:
    scene.settled(scene.build)
    addresses = [f"{pod['status']['podIP']}:8080" for pod in scene.webhooks()]
    assert len(addresses) == 2
    generations = [scene.upload(scene.build) for _ in range(6)]
    chance = random.Random(1)

    def sender(address: str) -> Callable[[], None]:
        order = chance.sample(generations, len(generations))

        def act() -> None:
            for generation in order:
                while not scene.post(scene.request(scene.build, generation), address)["eventProcessed"]:
                    continue

        return act

    with scene.kube.recorded(NAMESPACE, INDEX) as history:
        together([sender(address) for address in addresses])
        assert scene.receipt(INDEX, generations[-1]).outcome == "served"
    assert history.only_grew(), history.versions
    receipts = scene.receipts(INDEX)
    assert [receipts[generation] for generation in generations[:-1]] == ["superseded"] * 5
    assert {scene.times_written(INDEX, generation) for generation in generations} == {1}
