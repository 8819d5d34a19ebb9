"""What Prometheus scrapes: the pod's numbers, whichever of its processes is asked."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from model_repository.names import IndexPrefix
from search_server.processes.counters import BUCKETS, ROUTES, STATUSES
from search_server.processes.pod import PodState, ProcessState


@dataclass(frozen=True, slots=True)
class Pull:
    """What pulling the build took: bytes that were fetched, and seconds. started: since 1970; None: not known."""

    bytes: int
    seconds: float
    started: float | None = None


def read_pull(file: Path | None) -> Pull | None:
    """What the puller left in `file`; None: nothing that can be read, which is no reason not to serve."""
    if file is None:
        return None
    try:
        said = json.loads(file.read_bytes())
        started = said.get("started")
        return Pull(int(said["bytes"]), float(said["seconds"]), None if started is None else float(started))
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def exposition(pod: PodState, prefix: IndexPrefix, generation: int, pull: Pull | None) -> bytes:
    """All metrics of the pod, which serves that build, in Prometheus' text format. pull: None: not known."""
    registry = CollectorRegistry()
    registry.register(_Pod(pod, prefix, generation, pull))
    return generate_latest(registry)


class _Pod(Collector):
    def __init__(self, pod: PodState, prefix: IndexPrefix, generation: int, pull: Pull | None) -> None:
        self._pod = pod
        self._prefix, self._generation, self._pull = prefix, generation, pull

    def describe(self) -> list[Metric]:
        """Nothing beforehand: the registry would otherwise scrape in order to find the names."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The metric families, as prometheus_client wants them."""
        pod = self._pod
        processes = (*pod.workers, pod.supervisor)
        answers = CounterMetricFamily("indexpush_search_requests", "Answers written", labels=["route", "code"])
        times = HistogramMetricFamily(
            "indexpush_search_request_seconds", "From a request read to its answer written", labels=["route"]
        )
        for route in ROUTES:
            for status, count in zip(STATUSES, _sums(each.counters.answers(route) for each in processes), strict=True):
                if count:
                    answers.add_metric([route, str(status.value)], count)
            *counts, seconds = _sums(each.counters.times(route) for each in processes)
            if any(counts):
                times.add_metric([route], list(_cumulated(counts)), seconds)
        yield answers
        yield times
        yield CounterMetricFamily(
            "indexpush_search_worker_deaths", "Workers that died and were replaced", value=pod.deaths
        )
        remembered = CounterMetricFamily(
            "indexpush_search_remembered_photos",
            "Photos looked up among those embedded before",
            labels=["place", "found"],
        )
        for place, found, count in (
            ("pod", "hit", pod.remembered_here),
            ("pod", "miss", pod.unknown_here),
            ("shared", "hit", pod.remembered_there),
            ("shared", "miss", pod.unknown_there),
            ("shared", "garbled", pod.garbled),
            ("shared", "failure", pod.shared_failures),
        ):
            remembered.add_metric([place, found], count)
        yield remembered
        yield CounterMetricFamily(
            "indexpush_search_remote_failures", "Photos that EMBEDDING_URL didn't embed", value=pod.remote_failures
        )
        yield CounterMetricFamily(
            "indexpush_search_remote_refusals", "Photos refused, for EMBEDDING_URL is away", value=pod.remote_refusals
        )
        for name, help_text, value in (
            ("remembered_bytes", "Of the answers about photos that the pod remembers", pod.remembered_bytes),
            ("shared_cache_up", "1 while the cache of CACHE_URL is asked", pod.shared_well),
            ("remote_embedding_up", "1 while EMBEDDING_URL has proved itself and is asked", pod.remote_proved),
            ("ready", "1 when all workers have proved themselves and the pod isn't leaving", not pod.closed_because),
            ("workers", "Workers that have proved themselves", sum(each.ready for each in pod.workers)),
            ("connections", "Open connections", sum(each.connections for each in pod.workers)),
            ("requests_in_flight", "Requests being read or answered", sum(each.answering for each in pod.workers)),
            ("pictures_waiting", "Pictures waiting or being embedded", sum(each.pictures for each in pod.workers)),
            ("items", "Items of the index", max(each.items for each in pod.workers)),
        ):
            yield GaugeMetricFamily(f"indexpush_search_{name}", help_text, value=float(value))
        memory = GaugeMetricFamily(
            "indexpush_search_memory_bytes", "Memory of a process, without the mapped index", labels=["process"]
        )
        for name, process in _named(pod):
            memory.add_metric([name], _own_memory(process.pid))
        yield memory
        yield from self._of_what_is_served()

    def _of_what_is_served(self) -> Iterator[Metric]:
        pull, index = self._pull, self._prefix.index
        labels = {"index": index, "generation": str(self._generation), "index_prefix": str(self._prefix)}
        what = GaugeMetricFamily("indexpush_search_serving", "What is served", labels=list(labels))
        what.add_metric(list(labels.values()), 1)
        yield what
        if pull is not None:
            for name, text, value in (
                ("indexpush_pull_seconds", "That the pod's puller took", pull.seconds),
                ("indexpush_pull_bytes", "That the pod's puller fetched", float(pull.bytes)),
            ):
                family = GaugeMetricFamily(name, text, labels=["index"])
                family.add_metric([index], value)
                yield family


def _named(pod: PodState) -> Iterator[tuple[str, ProcessState]]:
    yield "supervisor", pod.supervisor
    for number, worker in enumerate(pod.workers):
        yield f"worker-{number}", worker


def _own_memory(pid: int) -> int:
    """Bytes that only this process has; 0 where it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("RssAnon:")), 0)


def _sums(rows: Iterable[list[float]]) -> list[float]:
    return [sum(column) for column in zip(*rows, strict=True)]


def _cumulated(counts: list[float]) -> Iterator[tuple[str, float]]:
    total = 0.0
    for bound, count in zip((*map(str, BUCKETS), "+Inf"), counts, strict=True):
        total += count
        yield bound, total
