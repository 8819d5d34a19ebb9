"""Keeps the canary's Deployment as the stable one's annotations want it, watches it, and ends it.

What is wanted stands on the stable Deployment alone. The canary's own is made from it as often as it is missing or
another commit's, and removed as soon as nothing wants it; so whichever step a webhook dies after, the next one ends at
the same place, and two of them do no harm to each other.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial

from cd_webhook.canary import plan
from cd_webhook.canary.comparison import ROUND_SECONDS, Comparison
from cd_webhook.canary.golden import Question, questions
from cd_webhook.canary.judgement import Aborted, Judgement, Passed, Watching, judge_canary, limit, undecided
from cd_webhook.cluster import Cluster, Object, name_of, version_of
from cd_webhook.delivery.step import Step
from cd_webhook.pod_client import Ask, ask_pod
from cd_webhook.rules.plan import as_scaled, deployment_of, newest_of, with_annotations
from cd_webhook.rules.rollout import Failed, Progressing, judge, new_pods
from cd_webhook.state import Deployed, Trial, changed, read_deployed
from manifests.canary import Canary, canary_of
from manifests.metadata import MANAGER, build_annotations, canary_name, is_ours
from model_repository.bucket.store import Store
from model_repository.deployment import DeploymentRequest
from model_repository.documents.items.item_ids import hash_item
from model_repository.documents.receipts.canary_figures import CanaryFigures
from model_repository.errors import PermanentError
from model_repository.names import Target
from model_repository.repository import read_build, read_hidden, read_last_good_filter, read_live_filter
from model_repository.telemetry.log import Log

_FOREIGN = f"Deployment {{}} isn't managed by {MANAGER}, so no canary can be made; rename it, or the index"


class Canaries:
    """The canaries of one environment. rules: by which new builds are tried out; None: they aren't.

    Also where no new ones are asked for, those that go on are watched to their end.
    """

    def __init__(self, rules: Canary | None, cluster: Cluster, store: Store, log: Log, ask: Ask = ask_pod) -> None:
        self.rules = rules
        self._cluster = cluster
        self._store = store
        self._ask = ask
        self._log = log
        self._comparisons: dict[str, Comparison] = {}
        """By index; each operation on it is atomic."""

    def advance(self, live: Object, deployed: Deployed, watched: timedelta, now: datetime) -> tuple[Object, Step]:
        """Make the canary that the stable Deployment `live` wants, wait for it, watch it, promote or remove it.

        watched: for how long this process has watched this trial.

        Gives the stable Deployment as it is then. Raises as the cluster and the bucket do, also `Conflict`.
        """
        index = name_of(live)
        if deployed.trial is None:  # `read_deployed` calls that unknown
            raise ValueError("a canary without its rules")
        request = newest_of(deployed)
        about = {"index": index, "generation": str(request.generation), "prefix": str(request.index_prefix)}
        match self._judge(live, deployed, deployed.trial, watched, now):
            case Watching(sentence):
                return live, Step(finished=False, sentence=sentence, pause=ROUND_SECONDS)
            case Passed(sentence, figures):
                after = deployment_of(live, plan.promoted(deployed, deployed.trial, figures, now))
                after["spec"] = as_scaled(after["spec"], deployed, live)
                live = self._cluster.apply(after, resource_version=version_of(live))
                self._log.info(f"promoted: {request.index_prefix}: {sentence}", **about)
                return live, Step(finished=False, sentence=sentence, version=version_of(live))
            case Aborted(failed, figures):
                noted = changed(live, plan.aborted(deployed, live, failed, figures, now))
                live = self._cluster.mark(index, noted, resource_version=version_of(live))
                self._log.error(f"aborted: {request.index_prefix}: {failed.sentence}", code=failed.code, **about)
                self.remove(index)
                return live, Step(finished=True, sentence=failed.sentence)

    def figures(self, index: str, generation: int) -> CanaryFigures | None:
        """What the canary of a commit shows so far; None: this process doesn't compare it, or not yet."""
        found = self._comparisons.get(index)
        return found.figures if found and found.generation == generation else None

    def remove(self, index: str) -> None:
        """Remove the index's canary if there is one; raises `Conflict` if somebody writes to it meanwhile."""
        self._comparisons.pop(index, None)
        canary = self._cluster.deployment(canary_name(index))
        if canary is not None and is_ours(canary):
            self._cluster.delete(canary)

    def _judge(self, live: Object, deployed: Deployed, trial: Trial, watched: timedelta, now: datetime) -> Judgement:
        try:
            return self._look(live, deployed, trial, watched, now)
        except PermanentError as error:  # its build is gone, or the cluster takes no such pods: no look does better
            figures = self.figures(name_of(live), deployed.generation)
            return Aborted(Failed(error.code, f"canary: {error}"), figures)

    def _look(self, live: Object, deployed: Deployed, trial: Trial, watched: timedelta, now: datetime) -> Judgement:
        index, request = name_of(live), newest_of(deployed)
        comparison = self._comparisons.get(index)
        if comparison and comparison.generation != request.generation:
            comparison = None
        figures = comparison.figures if comparison else None
        passed = figures is not None and isinstance(judge_canary(figures, trial.rules), Passed)
        if (
            watched > limit(trial) and not passed
        ):  # one that passed, and that a policy keeps from its promotion, is judged
            return undecided(figures)
        name = canary_name(index)
        canary = self._cluster.deployment(name)
        if canary is not None and not is_ours(canary):
            return Aborted(Failed("not-ours", _FOREIGN.format(name)), figures)
        if canary is None or read_deployed(canary).generation != request.generation:
            wanted = with_annotations(live, build_annotations(request), trial.spec)
            return self._make(canary_of(wanted, trial.rules.replicas), canary, live)
        pods = self._cluster.pods(name)
        # what was ready once has met its deadline; a pod in the place of a drained one takes its time
        verdict = judge(canary, pods) if comparison else judge(canary, pods, watched=watched, now=now)
        if isinstance(verdict, Failed):
            return Aborted(Failed(verdict.code, f"canary: {verdict.sentence}"), figures)
        if comparison is None:
            if isinstance(verdict, Progressing):
                return Watching(f"canary: {verdict.sentence}")
            comparison = self._comparisons[index] = self._begin(request, deployed.last_good, now)
        beside = self._cluster.pods(index)
        figures = comparison.ask(new_pods(canary["spec"], pods), new_pods(live["spec"], beside), now)
        return judge_canary(figures, trial.rules)

    def _make(self, wanted: Object, canary: Object | None, live: Object) -> Watching:
        """Create the canary, or put it in the place of another commit's."""
        if canary is None:
            self._cluster.create(wanted)
            return Watching("canary: created")
        stable = self._cluster.deployment(name_of(live))  # read after the canary: what it wants now is no older
        if stable is not None and version_of(stable) == version_of(live):
            self._cluster.apply(wanted, resource_version=version_of(canary))
        return Watching(f"canary: commit {read_deployed(canary).generation}'s is replaced")

    def _begin(self, request: DeploymentRequest, good: DeploymentRequest | None, now: datetime) -> Comparison:
        mine = self._questions(request)
        try:
            theirs = self._questions(good) if good else mine
        except PermanentError:  # that build is no longer in the bucket: what both have is asked
            theirs = mine
        hidden = partial(self._hidden, request.target)
        return Comparison(self._ask, request.generation, mine, theirs, now, hidden)

    def _hidden(self, target: Target, items: frozenset[str]) -> frozenset[str]:
        """Those of `items` that some pod may hide: by the live filter, or by the one that every pod had before it."""
        found: set[str] = set()
        for read in (read_live_filter, read_last_good_filter):
            with suppress(PermanentError):  # there is none, or pods can't read it either
                hashes = read_hidden(self._store, read(self._store, target))
                found |= {item for item in items if _holds(hashes, hash_item(item))}
        return frozenset(found)

    def _questions(self, request: DeploymentRequest) -> tuple[Question, ...]:
        build = read_build(self._store, request.index_prefix)
        return questions(build.manifest) if build.digest == request.index_digest else ()


def _holds(ascending: array[int], number: int) -> bool:
    at = bisect_left(ascending, number)
    return at < len(ascending) and ascending[at] == number
