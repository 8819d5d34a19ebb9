"""Where an index answers is told to the bucket with each commit that serves, and never at the cost of a receipt."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cd_webhook.cluster import ClusterUnavailable
from model_repository.documents.receipts.address import Address
from model_repository.errors import ObjectMissing
from model_repository.names import Target
from model_repository.repository import read_address
from tests.cd_webhook import fake_cluster as pods
from tests.cd_webhook.webhook_scene import TARGET, VALUES, Scene, request, values


def address(scene: Scene, generation: int, target: Target = TARGET) -> Address | None:
    try:
        return read_address(scene.store, target, generation)
    except ObjectMissing:
        return None


def test_what_serves_says_where_within_the_cluster() -> None:
    scene = Scene()
    scene.serve(1)
    assert address(scene, 1) == Address(TARGET, 1, "http://home-store.n.svc")


def test_the_values_say_where_it_is_reached_from_outside() -> None:
    scene = Scene()
    scene.configure(values(VALUES + "url: https://search.example/{index}\n"))
    scene.serve(1)
    assert address(scene, 1) == Address(TARGET, 1, "http://home-store.n.svc", "https://search.example/home-store")


def test_a_shadow_is_reached_by_its_service_alone() -> None:
    scene = Scene()
    scene.configure(values(VALUES + "url: https://search.example/{index}\n"))
    shadow = TARGET.shadow
    scene.deliver(replace(request(3, index=TARGET.index), target=shadow))
    scene.look_until_finished(name=shadow.index)
    assert address(scene, 3, shadow) == Address(shadow, 3, "http://home-store-shadow.n.svc")


def test_what_was_undone_answers_nowhere() -> None:
    scene = Scene()
    scene.cluster.fates["1"] = pods.ended(65, "the index is malformed")
    scene.serve(1)
    assert scene.outcomes() == {1: "undone"}
    assert address(scene, 1) is None


def test_a_cluster_that_does_not_say_where_holds_no_receipt_up(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene()

    def away(_: str) -> str:
        raise ClusterUnavailable("busy")

    monkeypatch.setattr(scene.cluster, "url", away)
    scene.serve(1)
    assert scene.outcomes() == {1: "served"}
    assert address(scene, 1) is None
    assert "where test/home-store answers isn't written: busy" in scene.lines.getvalue()
