"""Search servers as a webhook meets them over HTTP: by address, with a speed, failures and counters of their own."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from cd_webhook.pod_client import NO_REPLY, Reply
from manifests import metadata as marks
from model_repository.documents.index_manifest import GoldenQuery
from tests.cd_webhook.fake_cluster import FakeClock, FakeCluster

QUERIES = tuple(
    GoldenQuery("all", f"i{number}", (f"i{number}", "near", "far"), (0.0, 0.25, 0.5)) for number in range(3)
)


@dataclass
class Behaviour:
    """How the pods of one generation answer. error_every: each so-many-th answer is a 500; 0: none."""

    seconds: float = 0.004
    error_every: int = 0
    near: float = 0.25
    callers: int = 0
    """Requests of callers that come between two scrapes."""
    callers_failed: int = 0


class FakePods:
    """`ask` is a `pod_client.Ask` for the pods of a `FakeCluster`; time goes on by the answers, and a round."""

    def __init__(self, cluster: FakeCluster, clock: FakeClock) -> None:
        self.behaviours: dict[str, Behaviour] = {}
        self.asked = 0
        self.unreachable = False
        self.hidden: set[str] = set()
        """What the pods' filter hides; behind what is left comes something farther."""
        self._cluster = cluster
        self._clock = clock
        self._answers: dict[str, int] = {}
        self._errors: dict[str, int] = {}
        self._lock = threading.Lock()

    def ask(self, address: str, paths: Sequence[str]) -> list[Reply]:
        found = {f"{pod['status'].get('podIP')}:8080": pod for pod in self._cluster.all_pods()}
        if address not in found or self.unreachable:
            return [NO_REPLY] * len(paths)
        with self._lock:
            generation = found[address]["metadata"]["annotations"][marks.COMMIT_GENERATION]
            behaviour = self.behaviours.get(generation, Behaviour())
            return [self._reply(address, path, behaviour) for path in paths]

    def _reply(self, address: str, path: str, behaviour: Behaviour) -> Reply:
        if path == "/metrics":
            self._count(address, behaviour.callers, behaviour.callers_failed)
            return Reply(200, self._exposition(address), 0.01)
        self.asked += 1
        failed = behaviour.error_every > 0 and self._answers.get(address, 0) % behaviour.error_every == 0
        self._count(address, 1, int(failed))
        if failed:
            return Reply(500, b"{}", behaviour.seconds)
        item = unquote(urlsplit(path).path.split("/")[3])
        all_there_is = [("near", behaviour.near), ("far", 0.5), ("farther", 0.75), ("farthest", 0.9)]
        found = [{"id": each, "distance": distance} for each, distance in all_there_is if each not in self.hidden]
        body = {"item": item, "neighbors": found[:2]}
        return Reply(200, json.dumps(body).encode(), behaviour.seconds)

    def _count(self, address: str, answers: int, errors: int) -> None:
        self._answers[address] = self._answers.get(address, 0) + answers
        self._errors[address] = self._errors.get(address, 0) + errors

    def _exposition(self, address: str) -> bytes:
        answers, errors = self._answers.get(address, 0), self._errors.get(address, 0)
        return (
            "# TYPE indexpush_search_requests counter\n"
            f'indexpush_search_requests_total{{route="similar",code="200"}} {answers - errors}\n'
            f'indexpush_search_requests_total{{route="similar",code="503"}} {errors}\n'
            'indexpush_search_requests_total{route="readyz",code="503"} 99999\n'
            "# TYPE indexpush_search_request_seconds histogram\n"
            f'indexpush_search_request_seconds_bucket{{route="similar",le="+Inf"}} {answers}\n'
            f'indexpush_search_request_seconds_count{{route="similar"}} {answers}\n'
            f'indexpush_search_request_seconds_sum{{route="similar"}} {answers * 0.004}\n'
        ).encode()
