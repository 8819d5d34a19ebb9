"""What people do to a Deployment: it is named, and not silently undone; and what isn't ours stays byte for byte."""

from __future__ import annotations

import copy
from datetime import timedelta

import pytest

from cd_webhook.cluster import BeingDeleted, Object
from cd_webhook.delivery.deliver import Rejected
from cd_webhook.rules.drift import changes
from cd_webhook.state import Rollout
from cd_webhook.status import describe_one
from manifests.metadata import COMMIT_GENERATION
from model_repository.deployment import AnswerOutcome
from model_repository.names import IndexPrefix
from model_repository.notify import NotifyUnavailable
from tests import builds
from tests.cd_webhook import fake_cluster as pods
from tests.cd_webhook.canary_scene import NAME, serving
from tests.cd_webhook.webhook_scene import Scene, request


def live_of(scene: Scene, name: str = "home-store") -> Object:
    live = scene.cluster.deployment(name)
    assert live is not None
    return live


def rewind(scene: Scene, to: Object) -> None:
    """What `kubectl rollout undo` does: the template and the annotations of an older revision come back."""

    def undo(live: Object) -> None:
        live["spec"]["template"] = copy.deepcopy(to["spec"]["template"])
        live["metadata"]["annotations"] = copy.deepcopy(to["metadata"]["annotations"])

    scene.cluster.by_hand("home-store", undo)


def template_generation(scene: Scene) -> str:
    return str(live_of(scene)["spec"]["template"]["metadata"]["annotations"][COMMIT_GENERATION])


def test_what_somebody_put_back_serves_on_and_nothing_is_promoted_again_by_itself(scene: Scene) -> None:
    scene.serve(1)
    before = live_of(scene)
    scene.serve(2)
    rewind(scene, before)
    assert scene.deployed().rollout is Rollout.REWOUND
    answer = scene.delivery.deliver(request(2))  # a duplicate, or a sweep
    assert answer.outcome == "already-deployed"
    assert answer.detail == (
        "commit 2: rewound: rewound by hand (kubectl rollout undo): indexes/home-store/b1 (commit 1) serves on; "
        "commit again to deploy something else"
    )
    scene.look_until_finished()
    assert template_generation(scene) == "1"
    assert scene.outcomes() == {1: "served", 2: "served"}  # it did serve
    status = describe_one(scene.cluster, "test", "home-store")
    assert status is not None
    assert (status["rollout"], status["requested"]) == ("rewound", {"generation": "2"})


def test_a_commit_in_flight_that_somebody_takes_back_gets_its_receipt_and_is_told(scene: Scene) -> None:
    scene.serve(1)
    before = live_of(scene)
    scene.cluster.fates["2"] = pods.starting
    scene.deliver(request(2))
    scene.delivery.advance("home-store")
    rewind(scene, before)
    scene.notifier.failure = NotifyUnavailable("not now")
    with pytest.raises(NotifyUnavailable):
        scene.delivery.advance("home-store")
    scene.notifier.failure = None
    scene.look_until_finished()
    scene.look_until_finished(scene.webhook())
    assert (scene.receipt(2).outcome, scene.receipt(2).code) == ("undone", "rewound-by-hand")
    assert [notice.generation for notice in scene.notifier.notices] == [2]


def test_after_a_rewind_the_next_commit_is_deployed_and_undone_to_what_was_put_back(scene: Scene) -> None:
    scene.serve(1)
    before = live_of(scene)
    scene.serve(2)
    rewind(scene, before)
    scene.cluster.fates["3"] = pods.ended(65)
    scene.serve(3)
    assert template_generation(scene) == "1"
    scene.serve(4)
    assert template_generation(scene) == "4"
    assert scene.outcomes() == {1: "served", 2: "served", 3: "undone", 4: "served"}


def test_a_canary_that_was_going_on_is_removed_after_a_rewind() -> None:
    scene = serving()
    before = live_of(scene)
    scene.commit(2)
    scene.look(3)
    assert scene.names == ["home-store", NAME]
    rewind(scene, before)
    scene.finish()
    assert scene.names == ["home-store"]
    assert scene.outcomes()[2] == "undone"


def test_a_pause_is_named(scene: Scene) -> None:
    scene.serve(1)
    scene.cluster.by_hand("home-store", lambda live: live["spec"].update(paused=True))
    scene.cluster.fates["2"] = pods.starting
    scene.deliver(request(2))
    scene.cluster.by_hand("home-store", lambda live: live["spec"].update(paused=True))  # as it stays on a real cluster
    step = scene.delivery.advance("home-store")
    assert step.sentence == "somebody paused the Deployment; kubectl rollout resume lets it go on"


def test_a_scale_by_hand_is_kept_and_named_until_somebody_takes_it_back(scene: Scene) -> None:
    scene.serve(1)
    scene.cluster.by_hand("home-store", lambda live: live["spec"].update(replicas=5))
    scene.serve(2)
    assert live_of(scene)["spec"]["replicas"] == 5
    assert scene.receipt(2).detail.endswith("b2 serves; scaled by hand to 5 pods, where the values say 1")
    scene.cluster.fates["3"] = pods.ended(65)
    scene.serve(3)
    assert live_of(scene)["spec"]["replicas"] == 5
    scene.cluster.by_hand("home-store", lambda live: live["spec"].update(replicas=1))
    status = describe_one(scene.cluster, "test", "home-store")
    assert status is not None
    assert status["drift"] == []
    scene.serve(4)
    assert scene.receipt(4).detail == "indexes/home-store/b4 serves"


def test_what_is_undone_while_no_pod_runs_does_not_say_that_anything_serves(scene: Scene) -> None:
    scene.serve(1)
    scene.cluster.by_hand("home-store", lambda live: live["spec"].update(replicas=0))
    scene.deliver(request(2))
    scene.look_until_finished(pause=timedelta(seconds=30))
    assert scene.receipt(2).outcome == "undone"
    assert scene.receipt(2).detail.endswith(
        "replicas is 0, so no pod can prove the build: scale the Deployment up; "
        "indexes/home-store/b1 (commit 1) stays, and no pod of it is ready"
    )


def test_a_foreign_service_of_an_indexs_name_is_refused_by_name_and_stays_as_it_is(scene: Scene) -> None:
    foreign = {"kind": "Service", "metadata": {"name": "home-store"}, "spec": {"selector": {"app": "theirs"}}}
    scene.cluster.create(foreign)
    before = scene.cluster.read("Service", "home-store")
    with pytest.raises(Rejected, match="Service home-store: isn't managed by indexpush; rename the index"):
        scene.deliver(request(1))
    assert scene.receipt(1).outcome == "rejected"
    assert scene.cluster.read("Service", "home-store") == before
    assert scene.cluster.deployments() == []


def test_a_foreign_deployment_of_a_canarys_name_is_left_alone_and_named() -> None:
    scene = serving()
    foreign = copy.deepcopy(live_of(scene))
    foreign["metadata"] = {"name": NAME, "labels": {"app": "theirs"}, "annotations": {}}
    scene.cluster.create(foreign)
    before = scene.cluster.deployment(NAME)
    scene.commit(2)
    scene.finish()
    assert (scene.receipt(2).outcome, scene.receipt(2).code) == ("undone", "not-ours")
    assert "Deployment home-store.canary isn't managed by indexpush" in scene.receipt(2).detail
    scene.finish()
    assert scene.cluster.deployment(NAME) == before


def test_a_deployment_that_is_being_deleted_is_waited_for(scene: Scene) -> None:
    scene.serve(1)
    scene.cluster.by_hand(
        "home-store", lambda live: live["metadata"].update(deletionTimestamp="2026-11-21T12:00:00Z", finalizers=["f"])
    )
    with pytest.raises(BeingDeleted, match="is being deleted, and waits for f; it is made again after that"):
        scene.deliver(request(2))
    scene.cluster.delete(live_of(scene))
    scene.serve(2)
    assert scene.outcomes() == {1: "served", 2: "served"}


def test_a_service_that_is_being_deleted_is_waited_for_so_that_no_deployment_lacks_one(scene: Scene) -> None:
    scene.serve(1)
    service = scene.cluster.others["Service", "home-store"]
    service["metadata"]["deletionTimestamp"] = "2026-11-21T12:00:00Z"
    with pytest.raises(BeingDeleted, match="Service home-store is being deleted; it is made again after that"):
        scene.deliver(request(2))
    del scene.cluster.others["Service", "home-store"]
    scene.serve(2)
    assert scene.outcomes() == {1: "served", 2: "served"}
    assert scene.cluster.services() == ["home-store"]


def test_nothing_is_said_of_a_rollout_whose_deployment_is_being_deleted(scene: Scene) -> None:
    scene.serve(1)
    scene.cluster.fates["2"] = pods.starting
    scene.deliver(request(2))
    scene.cluster.by_hand(
        "home-store", lambda live: live["metadata"].update(deletionTimestamp="2026-11-21T12:00:00Z", finalizers=["f"])
    )
    for _ in range(10):
        step = scene.delivery.advance("home-store")
        assert not step.finished
        assert step.sentence == "Deployment home-store is being deleted, and waits for f"
        scene.clock.moment += timedelta(minutes=1)
    scene.cluster.delete(live_of(scene))
    assert scene.delivery.advance("home-store").finished
    scene.cluster.fates.clear()
    scene.serve(2)
    assert scene.outcomes() == {1: "served", 2: "served"}


def test_a_canary_that_nobody_can_reach_is_said_within_its_time_with_the_likely_cause() -> None:
    scene = serving()
    scene.pods.unreachable = True
    scene.commit(2)
    began = scene.clock.moment
    scene.finish()
    assert (scene.clock.moment - began).total_seconds() <= 30 + 15
    assert scene.receipt(2).code == "canary-unreachable"
    assert "neither its pods nor the stable ones answered the webhook on port 8080" in scene.receipt(2).detail
    assert "NetworkPolicy" in scene.receipt(2).detail


ACCEPTED = {
    "paused": None,
    "template": {
        "metadata": {"annotations": {"a": "1"}},
        "spec": {"containers": [{"name": "pull", "image": "i:1", "resources": {"limits": {"cpu": "500m"}}}]},
    },
}


def test_additions_are_drift_and_what_admission_wrote_is_not() -> None:
    live = copy.deepcopy(ACCEPTED)
    assert changes(ACCEPTED, live) == []
    live["paused"] = True
    live["template"]["metadata"]["annotations"]["team"] = "x"  # type: ignore[index]
    live["template"]["spec"]["nodeSelector"] = {"pool": "gpu"}  # type: ignore[index]
    live["template"]["spec"]["imagePullSecrets"] = [{"name": "mine"}]  # type: ignore[index]
    live["template"]["spec"]["containers"].append({"name": "debug", "image": "d:1"})  # type: ignore[index]
    assert changes(ACCEPTED, live) == [
        "paused: added: True",
        "template.metadata.annotations.team: added: 'x'",
        "template.spec.containers[debug]: added: {'name': 'debug', 'image': 'd:1'}",
        "template.spec.nodeSelector: added: {'pool': 'gpu'}",
        "template.spec.imagePullSecrets: added: [{'name': 'mine'}]",
    ]
    del live["template"]["metadata"]["annotations"]["a"]  # type: ignore[index]
    assert "template.metadata.annotations.a: was applied, is gone" in changes(ACCEPTED, live)


def test_what_the_cluster_made_of_the_apply_is_no_drift(scene: Scene) -> None:
    scene.deliver(request(1))
    # admission: a LimitRange's defaults, an injected sidecar
    scene.cluster.by_hand("home-store", lambda live: live["spec"]["template"]["spec"].update(injected={"sidecar": 1}))
    scene.look_until_finished()
    status = describe_one(scene.cluster, "test", "home-store")
    assert status is not None
    assert status["drift"] == []


def test_what_a_sidecar_ends_with_says_nothing_of_the_build(scene: Scene) -> None:
    scene.serve(1)
    scene.cluster.fates["2"] = pods.ended(65, "mesh proxy", container="istio-proxy")
    scene.deliver(request(2))
    assert not scene.delivery.advance("home-store").finished


def test_each_index_has_a_disruption_budget_of_its_own_that_goes_with_it(scene: Scene) -> None:
    scene.serve(1)
    budget = scene.cluster.read("PodDisruptionBudget", "home-store")
    assert budget is not None
    assert budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
    assert budget["spec"]["selector"]["matchLabels"]["app.kubernetes.io/instance"] == "home-store"
    (owner,) = budget["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"]) == ("Deployment", live_of(scene)["metadata"]["uid"])
    scene.serve(2)
    again = scene.cluster.read("PodDisruptionBudget", "home-store")
    assert again is not None
    assert again["metadata"]["ownerReferences"] == [owner]


def test_kubernetes_writing_the_new_budgets_status_meanwhile_changes_no_answer(scene: Scene) -> None:
    read, written = scene.cluster.read, []

    def written_after_each_read(kind: str, name: str) -> Object | None:
        found = read(kind, name)
        if found is not None and len(written) < 3:
            written.append(scene.cluster.apply(found | {"status": {"read": len(written)}}, resource_version=None))
        return found

    scene.cluster.read = written_after_each_read  # type: ignore[method-assign]
    assert scene.deliver(request(1)).outcome is AnswerOutcome.ACCEPTED
    budget = read("PodDisruptionBudget", "home-store")
    assert len(written) == 3
    assert budget is not None
    assert [owner["kind"] for owner in budget["metadata"]["ownerReferences"]] == ["Deployment"]


def test_a_foreign_disruption_budget_is_refused_by_name(scene: Scene) -> None:
    scene.cluster.create({"kind": "PodDisruptionBudget", "metadata": {"name": "home-store"}, "spec": {}})
    with pytest.raises(Rejected, match="PodDisruptionBudget home-store: isn't managed by indexpush"):
        scene.deliver(request(1))
    assert scene.cluster.deployments() == []


def test_a_bad_commit_that_meets_a_deleted_deployment_ends_at_what_served_before() -> None:
    scene = serving()
    builds.publish_build(scene.store, IndexPrefix("home-store", "b1"))  # with all its files
    scene.cluster.delete(live_of(scene))
    scene.cluster.fates["2"] = pods.ended(65, "bad")
    scene.commit(2)
    scene.finish()
    assert scene.outcomes() == {1: "served", 2: "undone"}
    assert (scene.stable_generation(), live_of(scene)["status"]["readyReplicas"]) == ("1", 1)
