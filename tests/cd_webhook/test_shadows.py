"""Shadows: a build beside its index, by the same rules; no caller of the index meets it; it goes with its commit."""

from __future__ import annotations

from dataclasses import replace

import pytest

from manifests.canary import Canary
from manifests.metadata import selector
from model_repository.errors import DocumentMalformed
from model_repository.names import IndexPrefix, Target
from model_repository.repository import list_receipts, write_filter
from tests.cd_webhook.test_filters import Pods
from tests.cd_webhook.webhook_scene import TARGET, Scene, request
from tests.cd_webhook.webhook_scene import values as some_values

SHADOW = "home-store-shadow"


def shadow_request(generation: int, build: str = "b2") -> object:
    return replace(request(generation), target=TARGET.shadow, index_prefix=IndexPrefix("home-store", build))


@pytest.fixture
def scene() -> Scene:
    scene = Scene()
    scene.serve(1)
    scene.deliver(shadow_request(5))  # type: ignore[arg-type]
    scene.look_until_finished(name=SHADOW)
    return scene


def test_a_shadow_is_a_deployment_of_one_pod_that_the_indexs_service_does_not_find(scene: Scene) -> None:
    live = scene.cluster.deployment(SHADOW)
    assert live is not None
    assert live["spec"]["replicas"] == 1
    labels = live["spec"]["template"]["metadata"]["labels"]
    assert not selector("home-store").items() <= labels.items()
    service = scene.cluster.read("Service", SHADOW)
    assert service is not None
    assert service["spec"]["selector"].items() <= labels.items()
    assert service["metadata"]["ownerReferences"][0]["name"] == SHADOW
    index_service = scene.cluster.read("Service", "home-store")
    assert index_service is not None
    assert "ownerReferences" not in index_service["metadata"]


def test_a_shadow_obeys_the_filter_of_its_index(scene: Scene) -> None:
    live = scene.cluster.deployment(SHADOW)
    assert live is not None
    (server,) = live["spec"]["template"]["spec"]["containers"]
    environment = {each["name"]: each.get("value") for each in server["env"]}
    assert environment["FILTER"] == "filters/test/home-store.json"


def test_the_pods_of_a_shadow_are_told_of_the_filter_of_its_index(scene: Scene) -> None:
    from cd_webhook.filters import Filters  # noqa: PLC0415

    pods, it = Pods(), scene.delivery
    its_clock = scene.clock
    filters = Filters(
        environment="test", cluster=scene.cluster, store=scene.store, clock=its_clock, log=it.log, tell=pods.tell
    )
    write_filter(scene.store, TARGET, ["a"])
    said = filters.apply("home-store")
    assert said is not None
    assert said.pods == len(scene.cluster.pods("home-store")) + len(scene.cluster.pods(SHADOW))


def test_a_shadow_has_receipts_of_its_own_and_the_index_is_not_touched(scene: Scene) -> None:
    assert list_receipts(scene.store, TARGET.shadow) == [5]
    assert scene.outcomes() == {1: "served"}
    assert scene.deployed().generation == 1
    assert scene.deployed(SHADOW).generation == 5


def test_a_shadow_is_tried_out_by_nobody_first() -> None:
    scene = Scene()
    scene.configure(replace(some_values(), canary=Canary()))
    for generation in (5, 6):
        scene.deliver(shadow_request(generation, f"b{generation}"))  # type: ignore[arg-type]
        assert scene.deployed(SHADOW).rollout == "in-progress"
        scene.look_until_finished(name=SHADOW)


def test_a_shadow_goes_once_its_commit_is_gone_and_not_before(scene: Scene) -> None:
    assert "stays" in scene.delivery.withdraw(SHADOW)
    assert scene.cluster.deployment(SHADOW) is not None
    scene.store.forget(TARGET.shadow.commit_name)
    assert "deleted" in scene.delivery.withdraw(SHADOW)
    assert scene.cluster.deployment(SHADOW) is None
    assert "nothing is there" in scene.delivery.withdraw(SHADOW)
    assert scene.deployed().generation == 1


def test_an_index_is_never_withdrawn(scene: Scene) -> None:
    scene.store.forget(TARGET.commit_name)
    with pytest.raises(DocumentMalformed, match="is no shadow's"):
        scene.delivery.withdraw("home-store")
    assert scene.cluster.deployment("home-store") is not None


def test_a_build_of_another_index_is_no_shadow() -> None:
    asked = replace(request(7), target=Target("test", "garden-shadow"))
    with pytest.raises(DocumentMalformed, match="another index"):
        type(asked).from_parameters(asked.to_payload()["parameters"])
