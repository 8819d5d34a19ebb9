"""The generated pipeline on Spinnaker's real orchestration engine: what it deploys, stops, refuses and undoes."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from manifests.metadata import COMMIT_GENERATION, INDEX_PREFIX
from model_repository.deployment import AnswerOutcome, DeploymentRequest
from model_repository.names import Target
from model_repository.programs.function_config import Config
from on_commit.webhook import HttpWebhook, WebhookAnswer
from tests.spinnaker.echo_stand_in import triggered
from tests.spinnaker.spinnaker_scene import (
    INSTALLATION,
    PATIENCE,
    SERVED_GENERATION,
    TARGET,
    Gate,
    Refused,
    Run,
    Spinnaker,
    request_for,
)

pytestmark = [pytest.mark.spinnaker, pytest.mark.timeout(900)]

DEPLOYMENT, SERVICE = "deployment home-store", "service home-store"
NEXT = 1763683200000001
"""A generation as buckets give them."""


def held(spinnaker: Spinnaker) -> tuple[threading.Event, threading.Event]:
    """Every Deploy of a Deployment says, by the first event, that it has begun, and waits for the second."""
    deploying, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        deploying.set()
        go_on.wait(PATIENCE)

    spinnaker.cluster.while_deploying = hold
    return deploying, go_on


def serving(spinnaker: Spinnaker) -> str:
    """The generation that the pods of the Deployment would carry."""
    template = spinnaker.cluster.live(DEPLOYMENT)["spec"]["template"]
    return str(template["metadata"]["annotations"][COMMIT_GENERATION])


def record(spinnaker: Spinnaker) -> tuple[str | None, str | None]:
    """What was asked for last, and what served last."""
    read = spinnaker.cluster.annotation
    return read(SERVICE, COMMIT_GENERATION), read(SERVICE, SERVED_GENERATION)


def rollouts(spinnaker: Spinnaker) -> list[str]:
    """The generations of the Deployments that were handed to the cluster, in order."""
    deployments = [each for each in spinnaker.cluster.deployed if each["kind"] == "Deployment"]
    return [each["metadata"]["annotations"][COMMIT_GENERATION] for each in deployments]


def message(run: Run, stage: str) -> str:
    """What a check says that didn't pass."""
    parent = run.stage(stage)["id"]
    failed = [each for each in run.fields["stages"] if each.get("parentStageId") == parent]
    (found,) = (each for each in failed if each["status"] in {"TERMINAL", "STOPPED"})
    return str(found["context"]["context"]["failureMessage"])


def test_what_the_function_sends_is_deployed(spinnaker: Spinnaker, gate: Gate) -> None:
    function = HttpWebhook(Config("acme.models", gate.url, {}))
    answer = function.send(request_for(NEXT))
    (posted,) = gate.posted
    assert posted is not None
    assert answer == WebhookAnswer(AnswerOutcome.ACCEPTED, event_id=posted.event_id)
    run = spinnaker.orca.finished(posted.refs[0])
    assert run.status == "SUCCEEDED"
    assert run.fields["trigger"]["eventId"] == answer.event_id  # by which the run is found
    assert serving(spinnaker) == str(NEXT)
    assert record(spinnaker) == (str(NEXT), str(NEXT))
    bound = run.fields["trigger"]["resolvedExpectedArtifacts"][0]["boundArtifact"]
    assert bound["reference"] == "gs://acme.models/indexes/home-store/20261121t1200z/index.json#1763683200000000"


def test_the_sender_is_not_told_that_nothing_will_happen(spinnaker: Spinnaker, gate: Gate) -> None:
    function = HttpWebhook(Config("acme.models", gate.url, {}))
    for nobody in (Target("production", "home-store-2"), Target("staging", "home-store")):
        answer = function.send(request_for(NEXT, target=nobody))
        assert answer.said is AnswerOutcome.ACCEPTED
    assert [posted.refs for posted in gate.posted if posted] == [[], []]
    assert spinnaker.cluster.operations == []


def test_an_older_commit_that_arrives_late_is_stopped(spinnaker: Spinnaker) -> None:
    spinnaker.deliver(request_for(NEXT + 5, "new"))
    run = spinnaker.deliver(request_for(NEXT, "old"))
    assert run.stage("Only newer")["status"] == "STOPPED"
    assert message(run, "Only newer") == f"commit {NEXT} is not newer than {NEXT + 5}, which was asked for before"
    assert run.stage("Deploy")["status"] == "NOT_STARTED"
    assert run.status == "SUCCEEDED", "late deliveries are ordinary: nobody is woken"
    assert rollouts(spinnaker) == [str(NEXT + 5)]


def test_generations_are_compared_as_numbers(spinnaker: Spinnaker) -> None:
    spinnaker.deliver(request_for(999_999_999_999_999))
    spinnaker.deliver(request_for(1_000_000_000_000_000))
    spinnaker.deliver(request_for(999_999_999_999_998))
    assert rollouts(spinnaker) == ["999999999999999", "1000000000000000"]


def test_an_older_build_under_a_newer_commit_is_a_rollback(spinnaker: Spinnaker) -> None:
    spinnaker.deliver(request_for(NEXT, "b2"))
    spinnaker.deliver(request_for(NEXT + 1, "b1"))
    live = spinnaker.cluster.live(DEPLOYMENT)["metadata"]["annotations"]
    assert live[INDEX_PREFIX] == "indexes/home-store/b1"
    assert rollouts(spinnaker) == [str(NEXT), str(NEXT + 1)]


def test_two_deliveries_of_one_commit_run_once(spinnaker: Spinnaker) -> None:
    deploying, go_on = held(spinnaker)
    first = spinnaker.send(request_for(NEXT))
    assert deploying.wait(PATIENCE)
    assert spinnaker.send(request_for(NEXT)) == first
    go_on.set()
    assert spinnaker.orca.finished(first).status == "SUCCEEDED"
    again = spinnaker.deliver(request_for(NEXT))
    assert again.statuses()["Only newer"] == "STOPPED"
    assert rollouts(spinnaker) == [str(NEXT)]


def test_of_commits_that_wait_the_newest_serves_whatever_came_last(spinnaker: Spinnaker) -> None:
    deploying, go_on = held(spinnaker)
    refs = [spinnaker.send(request_for(NEXT))]
    assert deploying.wait(PATIENCE)
    refs += [spinnaker.send(request_for(NEXT + more)) for more in (7, 3, 5)]
    assert {spinnaker.orca.look(ref).status for ref in refs[1:]} <= {"NOT_STARTED", "BUFFERED"}
    go_on.set()
    assert {spinnaker.orca.finished(ref).status for ref in refs} == {"SUCCEEDED"}
    assert serving(spinnaker) == str(NEXT + 7)
    assert rollouts(spinnaker) == sorted(rollouts(spinnaker))


def test_a_request_without_its_artifact_starts_nothing(spinnaker: Spinnaker) -> None:
    without = {**request_for(NEXT).to_payload(), "artifacts": []}
    another = {**without, "artifacts": [{"type": "gcs/object", "name": "gs://acme.models/indexes/other/b1/index.json"}]}
    assert spinnaker.post(INSTALLATION.source, without).refs == []
    assert spinnaker.post(INSTALLATION.source, another).refs == []


def test_orca_itself_refuses_a_run_without_the_artifact(spinnaker: Spinnaker) -> None:
    saved = spinnaker.pipelines[0]
    started = triggered([saved], INSTALLATION.source, request_for(NEXT).to_payload(), "an-event")[0]
    with pytest.raises(Refused) as refused:
        spinnaker.orca.start({**started, "receivedArtifacts": []})
    assert refused.value.status == 400
    assert "index-json" in refused.value.body


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"bucket": "another"}, "are for another index, environment or bucket"),
        ({"environment": "staging"}, "are for another index, environment or bucket"),
        ({"generation": "latest"}, "doesn't have its form"),
        ({"memory_mib": "1400Mi"}, "doesn't have its form"),
        ({"index_prefix": "indexes/home-store/../other"}, "doesn't have its form"),
        ({"index_prefix": "indexes/home-store/another-build"}, "is not the index.json that the parameters name"),
        ({"index_generation": "1"}, "is not the index.json that the parameters name"),
    ],
)
def test_parameters_that_disagree_fail_the_run_before_anything_happens(
    spinnaker: Spinnaker, changes: dict[str, str], complaint: str
) -> None:
    payload = request_for(NEXT).to_payload()
    payload["parameters"] |= changes
    (ref,) = spinnaker.post(INSTALLATION.source, payload).refs
    run = spinnaker.orca.finished(ref)
    assert run.status == "TERMINAL"
    assert complaint in run.messages()
    assert run.statuses()["Service"] == "NOT_STARTED"
    assert spinnaker.cluster.operations == []


def test_a_parameter_that_is_missing_fails_the_run(spinnaker: Spinnaker) -> None:
    payload = request_for(NEXT).to_payload()
    del payload["parameters"]["memory_mib"]
    (ref,) = spinnaker.post(INSTALLATION.source, payload).refs
    assert spinnaker.orca.finished(ref).status == "TERMINAL"
    assert spinnaker.cluster.operations == []


def _with_a_wrong_expression(spinnaker: Spinnaker) -> dict[str, Any]:
    (deploy,) = (each for each in spinnaker.pipelines[0]["stages"] if each["name"] == "Deploy")
    container = deploy["manifests"][0]["spec"]["template"]["spec"]["containers"][0]
    container["resources"]["limits"]["memory"] = "${#toInt(trigger['parameters']['memory'])}Mi"
    return dict(deploy)


def test_a_wrong_expression_fails_the_run_before_anything_is_deployed(spinnaker: Spinnaker) -> None:
    text = json.dumps(spinnaker.pipelines[0])
    assert "#toInt(" in text
    spinnaker.pipelines = [json.loads(text.replace("#toInt(", "#toWhole("))]
    run = spinnaker.deliver(request_for(NEXT))
    assert run.status == "TERMINAL"
    assert "Failed Expression Evaluation" in str(run.stage("Compare")["context"]["exception"])
    assert rollouts(spinnaker) == []


def test_orca_notices_a_wrong_expression_only_after_the_stage_which_is_why_all_are_tried_before(
    spinnaker: Spinnaker,
) -> None:
    _with_a_wrong_expression(spinnaker)
    run = spinnaker.deliver(request_for(NEXT))
    assert run.status == "TERMINAL"
    assert "Failed Expression Evaluation" in str(run.stage("Deploy")["context"]["exception"])
    assert rollouts(spinnaker) == [str(NEXT)]


def test_by_default_a_wrong_expression_would_be_deployed_as_its_own_text(spinnaker: Spinnaker) -> None:
    _with_a_wrong_expression(spinnaker)
    for stage in spinnaker.pipelines[0]["stages"]:
        assert stage.pop("failOnFailedExpressions") is True
    assert spinnaker.deliver(request_for(NEXT)).status == "SUCCEEDED"
    container = spinnaker.cluster.deployed[-1]["spec"]["template"]["spec"]["containers"][0]
    assert container["resources"]["limits"]["memory"].startswith("${")


def test_a_rollout_that_fails_is_undone_and_not_tried_again(spinnaker: Spinnaker) -> None:
    spinnaker.cluster.never_ready = {str(NEXT + 1)}
    spinnaker.deliver(request_for(NEXT, "good"))
    run = spinnaker.deliver(request_for(NEXT + 1, "bad"))
    assert run.status == "TERMINAL"
    assert "exceeded its progress deadline" in str(run.stage("Deploy")["context"]["exception"])
    assert (run.statuses()["Undo"], run.statuses()["Stop"]) == ("SUCCEEDED", "SKIPPED")
    assert f"commit {NEXT + 1} did not go live" in message(run, "Outcome")
    assert serving(spinnaker) == str(NEXT)
    assert record(spinnaker) == (str(NEXT + 1), str(NEXT))
    again = spinnaker.deliver(request_for(NEXT + 1, "bad"))
    assert again.statuses()["Only newer"] == "STOPPED"
    assert spinnaker.deliver(request_for(NEXT + 2, "better")).status == "SUCCEEDED"
    assert serving(spinnaker) == str(NEXT + 2)


def test_after_failures_in_a_row_the_last_good_one_still_serves(spinnaker: Spinnaker) -> None:
    spinnaker.cluster.never_ready = {str(NEXT + more) for more in (1, 2)}
    for more in (0, 1, 2):
        spinnaker.deliver(request_for(NEXT + more))
    assert serving(spinnaker) == str(NEXT)
    assert record(spinnaker) == (str(NEXT + 2), str(NEXT))


def test_when_nothing_ever_served_the_failing_pods_are_stopped(spinnaker: Spinnaker) -> None:
    spinnaker.cluster.never_ready = {str(NEXT), str(NEXT + 1)}
    for more in (0, 1):
        run = spinnaker.deliver(request_for(NEXT + more))
        assert run.status == "TERMINAL"
        assert (run.statuses()["Undo"], run.statuses()["Stop"]) == ("SKIPPED", "SUCCEEDED")
        assert spinnaker.cluster.live(DEPLOYMENT)["spec"]["replicas"] == 0
    assert spinnaker.deliver(request_for(NEXT + 2)).status == "SUCCEEDED"
    assert spinnaker.cluster.live(DEPLOYMENT)["spec"]["replicas"] == 3


def test_nothing_is_undone_where_kubernetes_refused_the_deployment(spinnaker: Spinnaker) -> None:
    spinnaker.deliver(request_for(NEXT))
    spinnaker.deliver(request_for(NEXT + 1))
    spinnaker.cluster.refused = {str(NEXT + 2)}
    run = spinnaker.deliver(request_for(NEXT + 2))
    assert run.status == "TERMINAL"
    assert "exceeded quota" in str(run.stage("Deploy")["context"]["exception"])
    assert (run.statuses()["Undo"], run.statuses()["Stop"]) == ("SKIPPED", "SKIPPED")
    assert serving(spinnaker) == str(NEXT + 1)


def test_a_first_deployment_that_kubernetes_refuses_ends_in_a_failed_run(spinnaker: Spinnaker) -> None:
    spinnaker.cluster.refused = {str(NEXT)}
    run = spinnaker.deliver(request_for(NEXT))
    assert run.status == "TERMINAL"
    assert (run.statuses()["Undo"], run.statuses()["Stop"]) == ("SKIPPED", "SKIPPED")
    assert DEPLOYMENT not in spinnaker.cluster.objects


def test_a_cluster_that_cannot_be_asked_fails_the_run_and_the_next_delivery_deploys(spinnaker: Spinnaker) -> None:
    spinnaker.cluster.down = True
    assert spinnaker.deliver(request_for(NEXT)).status == "TERMINAL"
    assert rollouts(spinnaker) == []
    spinnaker.cluster.down = False
    assert spinnaker.deliver(request_for(NEXT)).status == "SUCCEEDED"
    assert serving(spinnaker) == str(NEXT)


def test_what_a_person_wrote_into_a_commit_is_not_evaluated(spinnaker: Spinnaker) -> None:
    written: DeploymentRequest = request_for(
        NEXT, reason="saves ${600000 + 66666} euros", by="${#fromUrl('http://127.0.0.1:9')}"
    )
    run = spinnaker.deliver(written)
    assert run.status == "SUCCEEDED"
    assert run.fields["trigger"]["parameters"]["reason"] == "saves $ {600000 + 66666} euros"
    assert "666666" not in str(run.fields["trigger"])


def test_slack_is_told_what_failed_and_what_serves(spinnaker: Spinnaker) -> None:
    run = spinnaker.deliver(request_for(NEXT))
    (failed,) = run.fields["notifications"]
    assert (failed["type"], failed["address"], failed["when"]) == ("slack", "indexes", ["pipeline.failed"])
    which = f"{TARGET}: commit {NEXT} (indexes/home-store/20261121t1200z)"
    assert failed["message"]["pipeline.failed"]["text"] == f"{which} did not go live"
    (serves,) = run.stage("Note what serves")["context"]["notifications"]
    text = f"{TARGET}: indexes/home-store/20261121t1200z serves (commit {NEXT})"
    assert serves["message"]["stage.complete"]["text"] == text
