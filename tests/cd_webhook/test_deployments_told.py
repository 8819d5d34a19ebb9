"""GET /v1/deployments: what is asked for, what serves, how it goes, and to whom that is told."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from cd_webhook.cluster import Object
from cd_webhook.state import Rollout
from model_repository.documents.receipts.canary_figures import CanaryFigures
from model_repository.fields import Fields
from model_repository.records import read
from tests.cd_webhook import fake_cluster as pods
from tests.cd_webhook.app_scene import Stage, post
from tests.cd_webhook.canary_scene import serving
from tests.cd_webhook.fake_pods import Behaviour
from tests.cd_webhook.webhook_scene import VALUES, Scene, request
from tests.cd_webhook.webhook_scene import values as some_values


def test_a_person_sees_what_was_asked_for_what_serves_and_how_it_goes(stage: Stage) -> None:
    post(stage, 1)
    stage.until(1, "served")
    stage.scene.cluster.fates["2"] = pods.ended(75, "bucket: 503")
    post(stage, 2)
    stage.scene.cluster.tick()
    (found,) = stage.client.get("/v1/deployments").json()["deployments"]
    assert found == stage.client.get("/v1/deployments/home-store").json()
    assert (found["rollout"], found["requested"]["generation"], found["last_good"]["generation"]) == (
        "in-progress", "2", "1",
    )  # fmt: skip
    assert found["detail"].endswith("pull tries again: bucket: 503")
    assert found["serving"] == [{"generation": "1", "index_prefix": "indexes/home-store/b1", "pods": 1}]
    assert found["drift"] == []


def test_how_rollouts_go_is_told_with_the_pods_of_the_new_build_alone() -> None:
    scene = Scene()
    scene.configure(some_values(VALUES.replace("replicas: 1", "replicas: 3")))
    stage = Stage(scene)  # which watches nothing: it isn't started
    scene.serve(1)
    assert stage.client.get("/v1/rollouts").json() == {"environment": "test", "rollouts": []}
    scene.cluster.fates["2"] = pods.ended(75, "bucket: 503")
    scene.deliver(request(2))
    scene.cluster.tick()
    scene.clock.moment += timedelta(seconds=42)
    (found,) = stage.client.get("/v1/rollouts").json()["rollouts"]
    assert (found["index"], found["generation"], found["canary"]) == ("home-store", "2", False)
    assert found["pods"] == {"wanted": 3, "ready": 0}  # those that are ready are of the old build
    assert found["seconds"] == 42
    assert found["detail"].endswith("pull tries again: bucket: 503")


def test_of_a_canary_its_own_pods_are_told() -> None:
    scene = Scene()
    scene.configure(some_values(VALUES.replace("replicas: 1", "replicas: 3\ncanary: {replicas: 2}")))
    stage = Stage(scene)
    scene.serve(1)
    scene.deliver(request(2))
    scene.delivery.advance("home-store")
    scene.cluster.tick()
    (found,) = stage.client.get("/v1/rollouts").json()["rollouts"]
    assert (found["generation"], found["canary"], found["pods"]) == ("2", True, {"wanted": 2, "ready": 2})
    assert found["comparison"] is None, "nobody has compared it yet"


def test_what_a_canary_shows_is_told_while_it_runs_and_until_its_rollout_has_ended() -> None:
    scene = serving()
    stage = Stage(scene)
    scene.pods.behaviours["2"] = Behaviour(seconds=0.03)
    scene.commit(2)
    scene.look(12)
    (found,) = stage.client.get("/v1/rollouts").json()["rollouts"]
    # a canary's deadline of 60 s, once more for its pod, twice its 30 s and a minute; six seconds of that are over
    assert (found["seconds"], found["given_up_in"]) == (6.0, 60 * 2 + 2 * 30 + 60 - 6)
    said = found["comparison"]
    figures = said["figures"]
    assert said["seconds_left"] == 30 - figures["seconds"] > 0
    assert said["rules"] == {
        "replicas": 1, "seconds": 30, "max_error_rate": 0.01, "max_latency_ratio": 2.0, "latency_floor_ms": 20.0,
    }  # fmt: skip
    assert said["so_far"] == "worse"
    assert said["why"].startswith("95 % of its answers came within 30.0 ms, of the stable pods' within 4.0 ms")
    assert (figures["canary"]["p95_ms"], figures["stable"]["p95_ms"]) == (30.0, 4.0)
    assert figures["canary"]["probes"] == figures["stable"]["probes"] > 40
    assert read(CanaryFigures, Fields(figures, "figures")) == scene.delivery.canaries.figures("home-store", 2)

    scene.pods.behaviours["3"] = Behaviour(callers=100, callers_failed=0)
    scene.commit(3)
    while scene.deployed().rollout is not Rollout.IN_PROGRESS:
        scene.look(1)
    (found,) = stage.client.get("/v1/rollouts").json()["rollouts"]
    assert (found["generation"], found["canary"]) == ("3", False)
    assert (found["comparison"]["so_far"], found["comparison"]["figures"]["promoted"]) == ("promoted", True)
    scene.finish()
    assert stage.client.get("/v1/rollouts").json()["rollouts"] == []


def test_who_asks_how_rollouts_go_is_no_sweep_and_is_checked() -> None:
    stage = Stage(Scene(), token="s3cret")
    assert stage.client.get("/v1/rollouts").status_code == 401
    before = stage.client.get("/metrics").text
    right = {"authorization": "Bearer s3cret"}
    stage.scene.clock.moment += timedelta(seconds=500)
    assert stage.client.get("/v1/rollouts", headers=right).status_code == 200
    assert 'indexpush_sweep_age_seconds{environment="test"} 500.0' in stage.client.get("/metrics").text, before


def test_what_somebody_changed_by_hand_is_reported(stage: Stage) -> None:
    post(stage, 1)
    stage.until(1, "served")

    def change(live: Object) -> None:
        pod = live["spec"]["template"]["spec"]
        pod["containers"][0]["image"] = "mine:2"
        pod["volumes"].append({"name": "extra", "hostPath": {"path": "/"}})

    stage.scene.cluster.by_hand("home-store", change)
    assert stage.client.get("/v1/deployments/home-store").json()["drift"] == [
        "template.spec.volumes[extra]: added: {'name': 'extra', 'hostPath': {'path': '/'}}",
        "template.spec.containers[search-server].image: 'indexpush:1' was applied, 'mine:2' is there",
    ]


@pytest.mark.parametrize("name", ["nothing", "..%2Fx", "A"])
def test_an_unknown_index_is_not_found(stage: Stage, name: str) -> None:
    assert stage.client.get(f"/v1/deployments/{name}").status_code == 404


def test_a_sweep_that_asks_what_is_deployed_is_told_of(stage: Stage) -> None:
    stage.scene.clock.moment += timedelta(hours=1)
    assert 'indexpush_sweep_age_seconds{environment="test"} 3600.0' in stage.client.get("/metrics").text
    assert stage.client.get("/v1/deployments").status_code == 200
    assert 'indexpush_sweep_age_seconds{environment="test"} 0.0' in stage.client.get("/metrics").text


def test_the_status_of_all_indexes_costs_three_requests_to_the_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene()
    for number in range(20):
        scene.deliver(request(1, index=f"index-{number}"))
        scene.look_until_finished(name=f"index-{number}")
    stage = Stage(scene)  # which watches nothing: it isn't started
    calls: list[str] = []

    def count(name: str) -> None:
        inner = getattr(scene.cluster, name)

        def counted(*arguments: Any) -> Any:
            calls.append(name)
            return inner(*arguments)

        monkeypatch.setattr(scene.cluster, name, counted)

    for name in ("deployments", "deployment", "pods", "all_pods", "services"):
        count(name)
    found = stage.client.get("/v1/deployments").json()["deployments"]
    assert sorted(calls) == ["all_pods", "deployments", "services"]
    assert [(each["service"], each["serving"][0]["pods"]) for each in found] == [(True, 1)] * 20
