"""Watches a canary beside the stable pods: asks both the golden queries, and reads what both counted.

A comparison is a process' own. A webhook that is killed forgets it, and the next one begins anew: the pods' counters
go on, and nothing of the old comparison is needed to judge a new one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from prometheus_client.parser import text_string_to_metric_families

from cd_webhook.canary.golden import Question, is_right
from cd_webhook.canary.judgement import LEAST_SAMPLES
from cd_webhook.cluster import Object
from cd_webhook.pod_client import NO_REPLY, Ask, Reply, address_of
from cd_webhook.rules.pods import OUR_CONTAINERS, is_ready
from model_repository.documents.receipts.canary_figures import CanaryFigures, TrackFigures

ROUND_SECONDS = 0.5
"""Between two rounds of questions."""
_QUESTIONS = 5
"""To each pod in each round."""
_MOST_PODS = 8
"""Of each side; comparing needs no more, and every look waits for them."""
_SCRAPE_EVERY = timedelta(seconds=5)
"""A pod makes its metrics on the thread that answers callers: not in every round."""
_OK, _SERVER_ERROR = 200, 500
_ROUTES = frozenset({"similar", "search", "find-neighbors"})
"""What callers come for; probes and metrics don't count."""
_PERCENTILE = 0.95


@dataclass(frozen=True, slots=True)
class _Counts:
    """A pod's counters since its start."""

    requests: float = 0.0
    errors: float = 0.0
    seconds: float = 0.0


Hidden = Callable[[frozenset[str]], frozenset[str]]
"""Which of some items a filter hides."""


@dataclass(slots=True)
class _Track:
    """One side, as it adds up. last: each pod's newest counters. hidden: of what was recorded, what a filter hid."""

    questions: tuple[Question, ...]
    find_hidden: Hidden
    hidden: frozenset[str] = frozenset()
    pods: int = 0
    probes: int = 0
    failed: int = 0
    wrong: int = 0
    times: list[float] = field(default_factory=list)
    requests: float = 0.0
    errors: float = 0.0
    seconds: float = 0.0
    last: dict[str, _Counts] = field(default_factory=dict)

    def add(self, asked: Sequence[Question], replies: Sequence[Reply]) -> None:
        for question, reply in zip(asked, replies, strict=True):
            self.probes += 1
            if reply.status == 0 or reply.status >= _SERVER_ERROR:
                self.failed += 1
            elif reply.status == _OK and self._is_right(question, reply.body):
                self.times.append(reply.seconds)
            else:
                self.wrong += 1

    def _is_right(self, question: Question, body: bytes) -> bool:
        """Filters are looked at only where an answer isn't the recorded one."""
        if is_right(question, body, self.hidden):
            return True
        self.hidden |= self.find_hidden(frozenset(item for each in self.questions for item, _ in each.expected))
        return is_right(question, body, self.hidden)

    def count(self, pod: str, now: _Counts) -> None:
        """What the counters grew by; a first look, or one after a restart, only says where they stand."""
        before, self.last[pod] = self.last.get(pod), now
        if before and now.requests >= before.requests:
            self.requests += now.requests - before.requests
            self.errors += now.errors - before.errors
            self.seconds += now.seconds - before.seconds

    def figures(self) -> TrackFigures:
        p95 = sorted(self.times)[int(len(self.times) * _PERCENTILE)] if len(self.times) >= LEAST_SAMPLES else None
        return TrackFigures(
            pods=self.pods,
            probes=self.probes,
            probes_failed=self.failed,
            p95_ms=None if p95 is None else round(p95 * 1000, 3),
            requests=round(self.requests),
            errors=round(self.errors),
            mean_ms=round(self.seconds / self.requests * 1000, 3) if self.requests else None,
        )


class Comparison:
    """One canary and the stable pods, from `started` on."""

    def __init__(  # noqa: PLR0917 - what is compared
        self,
        ask: Ask,
        generation: int,
        canary: tuple[Question, ...],
        stable: tuple[Question, ...],
        started: datetime,
        find_hidden: Hidden,
    ) -> None:
        """generation: of the commit that is tried out. canary, stable: the golden queries of the build of each."""
        self.generation = generation
        self.figures: CanaryFigures | None = None
        """The newest ones."""
        self._ask = ask
        self._started = started
        self._canary, self._stable = _Track(canary, find_hidden), _Track(stable, find_hidden)
        self._restarts: dict[str, tuple[int, int]] = {}
        self._were_ready: set[str] = set()
        """Pods of the canary."""
        self._scraped: datetime | None = None
        self._round = 0

    def ask(self, canary: Sequence[Object], stable: Sequence[Object], now: datetime) -> CanaryFigures:
        """Ask every pod once more; gives all figures so far.

        A canary's pod that isn't ready any more counts as if it had failed to answer. One that its node ended stays as
        it was, and is passed over: of evictions the rollout's rules judge. So is one that gets ready in its place, as
        by the Service, and a stable one.
        """
        canary = [pod for pod in canary if (pod.get("status") or {}).get("phase") != "Failed"]
        scrape = self._scraped is None or now - self._scraped >= _SCRAPE_EVERY
        if scrape:
            self._scraped = now
        for pod in canary[:_MOST_PODS]:
            self._note_restarts(pod)
            self._ask_pod(self._canary, pod, scrape=scrape)
        for pod in stable[:_MOST_PODS]:
            self._ask_pod(self._stable, pod, scrape=scrape)
        self._canary.pods = max(self._canary.pods, len(canary))
        self._stable.pods = max(self._stable.pods, sum(is_ready(pod) for pod in stable))
        self._round += 1
        self.figures = CanaryFigures(
            promoted=False,
            seconds=round((now - self._started) / timedelta(seconds=1), 1),
            wrong_answers=self._canary.wrong,
            restarts=sum(newest - first for first, newest in self._restarts.values()),
            canary=self._canary.figures(),
            stable=self._stable.figures(),
        )
        return self.figures

    def _note_restarts(self, pod: Object) -> None:
        statuses = (pod.get("status") or {}).get("containerStatuses") or []  # not of those that prepare it
        ours = (status for status in statuses if status.get("name") in OUR_CONTAINERS)  # nor of an agent beside it
        name, found = str(pod["metadata"]["name"]), sum(int(status.get("restartCount") or 0) for status in ours)
        first, _ = self._restarts.get(name, (found, found))
        self._restarts[name] = first, found
        if is_ready(pod):
            self._were_ready.add(name)

    def _ask_pod(self, track: _Track, pod: Object, *, scrape: bool) -> None:
        if not track.questions:
            return
        start = self._round * _QUESTIONS
        asked = [track.questions[place % len(track.questions)] for place in range(start, start + _QUESTIONS)]
        address = address_of(pod) if is_ready(pod) else None
        if address is None:
            if pod["metadata"]["name"] in self._were_ready:
                track.add(asked, [NO_REPLY] * len(asked))
            return
        paths = [question.path for question in asked]
        replies = self._ask(address, [*paths, "/metrics"] if scrape else paths)
        track.add(asked, replies[: len(asked)])
        if scrape and replies[-1].status == _OK:
            track.count(str(pod["metadata"]["name"]), read_counts(replies[-1].body))


def read_counts(exposition: bytes) -> _Counts:
    """The counters of callers' requests in a search server's /metrics; what can't be read counts as nothing."""
    requests = errors = seconds = 0.0
    try:
        for family in text_string_to_metric_families(exposition.decode()):
            for sample in family.samples:
                if sample.labels.get("route") not in _ROUTES:
                    continue
                if sample.name == "indexpush_search_requests_total":
                    requests += sample.value
                    errors += sample.value if sample.labels.get("code", "").startswith("5") else 0.0
                elif sample.name == "indexpush_search_request_seconds_sum":
                    seconds += sample.value
    except ValueError:
        return _Counts()
    return _Counts(requests, errors, seconds)
