"""Bugs that the simulation must find: each replaces one function of the real parts by a wrong one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any
from unittest.mock import patch

from cd_webhook.cluster import ClusterRefused, Conflict, Object, name_of, version_of
from cd_webhook.delivery import deliver
from cd_webhook.delivery.deliver import Delivery, DeliveryResult
from cd_webhook.delivery.receipts import Receipts
from cd_webhook.rules import decide as rules
from cd_webhook.rules import plan, rollout
from cd_webhook.rules.decide import AlreadyDeployed, Decision, Situation, Superseded
from cd_webhook.rules.pods import condition
from cd_webhook.rules.rollout import Failed, Verdict
from cd_webhook.state import Deployed, changed, read_deployed
from embedding_batch.steps import committing
from manifests.metadata import build_annotations
from model_repository.deployment import AnswerOutcome, DeploymentRequest
from model_repository.documents.receipts.receipt import Outcome, Receipt
from model_repository.errors import DocumentMalformed
from model_repository.names import Target
from model_repository.notify import NoNotifier
from model_repository.repository import Live
from model_repository.telemetry.log import Log
from on_commit import deploy, webhook
from on_commit.deploy import Deployer
from on_commit.filters import FilterLooker
from on_commit.sweep import Sweeper
from on_commit.webhook import HttpAnswer, WebhookRefused
from tests import builds
from tests.simulation.cluster import Cluster
from tests.simulation.outside import Bucket

Bug = Callable[[], Any]
"""Makes a context in which the bug is there."""


def _generations_are_compared_by_size() -> Any:
    def decide(request: DeploymentRequest, situation: Situation) -> Decision:
        asked = situation.deployed.generation
        if request.generation < asked:
            return Superseded(asked)
        return rules.decide(request, replace(situation, live_generation=request.generation))

    return patch.object(deliver, "decide", decide)


def _the_live_commit_is_not_read() -> Any:
    def decide(request: DeploymentRequest, situation: Situation) -> Decision:
        return rules.decide(request, replace(situation, live_generation=request.generation))

    return patch.object(deliver, "decide", decide)


def _duplicates_are_deployed_again() -> Any:
    def decide(request: DeploymentRequest, situation: Situation) -> Decision:
        found = rules.decide(request, situation)
        return rules.Deploy() if isinstance(found, AlreadyDeployed) and request.restores is None else found

    return patch.object(deliver, "decide", decide)


def _writes_are_not_guarded() -> Any:
    inner = Cluster.__getattr__

    def unguarded(self: Cluster, method: str) -> Any:
        call = inner(self, method)
        if method not in {"apply", "annotate"}:
            return call

        def write(value: Any, *arguments: Any, resource_version: str | None) -> Any:  # noqa: ARG001
            name = value if isinstance(value, str) else value["metadata"]["name"]
            live = self._world.cluster.deployment(name)
            version = live["metadata"]["resourceVersion"] if live else None
            return call(value, *arguments, resource_version=version)

        return write

    return patch.object(Cluster, "__getattr__", unguarded)


def _the_receipt_comes_before_the_report() -> Any:
    def refuse(self: Deployer, receipt: Receipt, log: Log) -> None:
        deploy.write_receipt(self._store, receipt)
        self._tell(deploy.Notice.of_receipt(self._store.bucket, receipt), log, receipt.target)

    return patch.object(Deployer, "_refuse", refuse)


def _a_sweep_does_nothing() -> Any:
    return patch.object(Sweeper, "sweep", lambda *_: None)


def _a_fault_of_the_set_up_is_a_verdict() -> Any:
    inner = webhook.failure

    def failure(url: str, answer: HttpAnswer) -> Exception:
        found = inner(url, answer)
        return WebhookRefused(str(found)) if answer.status == 503 and answer.text("code") else found

    from tests.simulation import outside  # noqa: PLC0415 - it took the name over

    return patch.object(outside, "failure", failure)


def _an_undo_forgets_what_served() -> Any:
    def undone(before: Deployed, live: Object, failed: Failed, now: datetime) -> Deployed:
        return replace(plan.given_up(before, failed, "", None, now), spec={**live["spec"], "replicas": 0})

    return patch.object(plan, "undone", undone)


def _receipts_are_forgotten_before_they_are_written() -> Any:
    inner = Receipts.settle

    def settle(self: Receipts, live: Object) -> None:
        owed = read_deployed(live).owed
        if owed:
            forgotten = changed(live, replace(read_deployed(live), owed=()))
            live = self.cluster.mark(name_of(live), forgotten, resource_version=version_of(live))
        for receipt in owed:
            self.write(receipt)
        inner(self, live)

    return patch.object(Receipts, "settle", settle)


def _what_was_undone_is_not_told() -> Any:
    return patch.object(Receipts, "_tell", lambda *_, **__: NoNotifier())


def _events_pass_over_receipts() -> Any:
    return patch.object(Deployer, "_outcome", lambda *_: None)


def _a_hold_is_not_seen() -> Any:
    inner = committing.look

    def look(*arguments: Any) -> Any:
        found = inner(*arguments)
        if found.live is None:
            return found
        return replace(found, live=replace(found.live, commit=replace(found.live.commit, hold=False)))

    from tests.simulation import people  # noqa: PLC0415 - it took the name over

    return patch.object(people, "batch_look", look)


def _nothing_is_restored() -> Any:
    return patch.object(Deployer, "_restore", lambda *_: None)


def _the_events_commit_in_place_of_the_live_one() -> Any:
    inner, first = deploy.read_live, {}

    def read(store: Bucket, target: Target) -> Live:
        """What stood there when the function first heard of the index."""
        key = (store._world, target)
        if key not in first:
            first[key] = inner(store, target)
        return first[key]

    return patch.object(deploy, "read_live", read)


def _builds_are_not_checked() -> Any:
    from model_repository.repository import read_build  # noqa: PLC0415 - in place of the check

    return patch.object(deploy, "check_build", read_build)


def _a_superseded_commit_says_it_served() -> Any:
    inner = plan.superseded

    def superseded(*arguments: Any, **options: Any) -> Receipt:
        return replace(inner(*arguments, **options), outcome=Outcome.SERVED)

    return patch.object(plan, "superseded", superseded)


def _a_clusters_policy_is_a_verdict() -> Any:
    inner = Delivery._act

    def act(*arguments: Any) -> DeliveryResult:
        try:
            return inner(*arguments)
        except ClusterRefused as error:
            raise DocumentMalformed("the Deployment", str(error)) from error

    return patch.object(Delivery, "_act", act)


def _a_full_quota_is_a_verdict() -> Any:
    inner = rollout.judge

    def judge(deployment: Object, *arguments: Any, **options: Any) -> Verdict:
        full = condition(deployment.get("status") or {}, "ReplicaFailure", "True")
        return Failed("quota", "full") if full else inner(deployment, *arguments, **options)

    return patch.object(deliver, "judge", judge)


def _a_scale_by_hand_is_lost() -> Any:
    return patch.object(plan, "as_scaled", lambda spec, *_: spec)


def _a_conflict_counts_as_done() -> Any:
    inner = Delivery._deliver_once

    def once(self: Delivery, request: DeploymentRequest) -> DeliveryResult:
        try:
            return inner(self, request)
        except Conflict:
            return DeliveryResult(AnswerOutcome.ACCEPTED, "others wrote")

    return patch.object(Delivery, "_deliver_once", once)


def _what_somebody_restarts_is_given_up() -> Any:
    inner = rollout.judge

    def judge(deployment: Object, *arguments: Any, **options: Any) -> Verdict:
        edited = set(deployment["spec"]["template"]["metadata"]["annotations"]) - set(
            build_annotations(builds.request())
        )
        return Failed("edited", "by hand") if edited else inner(deployment, *arguments, **options)

    return patch.object(deliver, "judge", judge)


def _a_sweep_passes_over_filters() -> Any:
    return patch.object(FilterLooker, "owed", lambda *_: ())


def _a_shadow_stays_when_its_commit_is_gone() -> Any:
    return patch.object(Sweeper, "_withdraw", lambda *_: None)


BUGS: dict[str, Bug] = {
    "generations are compared by size": _generations_are_compared_by_size,
    "the live commit is not read": _the_live_commit_is_not_read,
    "duplicates are deployed again": _duplicates_are_deployed_again,
    "writes are not guarded": _writes_are_not_guarded,
    "the receipt comes before the report": _the_receipt_comes_before_the_report,
    "a sweep does nothing": _a_sweep_does_nothing,
    "a fault of the set-up is a verdict": _a_fault_of_the_set_up_is_a_verdict,
    "an undo forgets what served": _an_undo_forgets_what_served,
    "receipts are forgotten before they are written": _receipts_are_forgotten_before_they_are_written,
    "what was undone is not told": _what_was_undone_is_not_told,
    "events pass over receipts": _events_pass_over_receipts,
    "a hold is not seen": _a_hold_is_not_seen,
    "nothing is restored": _nothing_is_restored,
    "the event's commit in place of the live one": _the_events_commit_in_place_of_the_live_one,
    "builds are not checked": _builds_are_not_checked,
    "a superseded commit says that it served": _a_superseded_commit_says_it_served,
    "a cluster's policy is a verdict": _a_clusters_policy_is_a_verdict,
    "a full quota is a verdict": _a_full_quota_is_a_verdict,
    "a scale by hand is lost": _a_scale_by_hand_is_lost,
    "a conflict counts as done": _a_conflict_counts_as_done,
    "what somebody restarts is given up": _what_somebody_restarts_is_given_up,
    "a sweep passes over filters": _a_sweep_passes_over_filters,
    "a shadow stays when its commit is gone": _a_shadow_stays_when_its_commit_is_gone,
}


@contextmanager
def planted(name: str) -> Iterator[None]:
    """Within this, the bug of that name is there."""
    with BUGS[name]():
        yield
