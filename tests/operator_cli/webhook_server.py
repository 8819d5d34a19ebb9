"""A CD webhook's answers to who asks how rollouts go: a real server, whose answer a test sets."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.answering import Answer, Asked, as_json, http_server

TOKEN = "s3cret"


def rollout(index: str, generation: int, *, ready: int = 1, wanted: int = 3, **more: Any) -> dict[str, Any]:
    """A rollout as the webhook tells it."""
    pods = {"ready": ready, "wanted": wanted}
    said = {"canary": False, "seconds": 42.0, "detail": "2 of 3 pods are new"}
    return {"index": index, "generation": str(generation), "pods": pods} | said | more


def comparison(so_far: str = "no-worse", seconds_left: float = 18.0, **more: Any) -> dict[str, Any]:
    """What a canary shows, as the webhook tells it."""
    live = {"pods": 2, "probes": 840, "probes_failed": 0, "p95_ms": 3.9, "requests": 1900, "errors": 0, "mean_ms": 2.1}
    canary = live | {"pods": 1, "probes": 420, "p95_ms": 4.25, "requests": 900, "errors": 9}
    figures = {"promoted": False, "seconds": 42.0, "wrong_answers": 0, "restarts": 0, "canary": canary, "stable": live}
    rules = {"replicas": 1, "seconds": 60, "max_error_rate": 0.01, "max_latency_ratio": 2.0, "latency_floor_ms": 20.0}
    said = {"so_far": so_far, "why": "", "seconds_left": seconds_left, "figures": figures, "rules": rules}
    return said | more


@dataclass
class Answers:
    """url: of the webhook. status, body: of its answers. open: cleared, it takes requests and doesn't answer."""

    url: str = ""
    environment: str = "production"
    status: int = 200
    body: Any = None
    rollouts: list[dict[str, Any]] = field(default_factory=list)
    token: str = TOKEN
    open: threading.Event = field(default_factory=threading.Event)
    asked: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.open.set()


@contextmanager
def answering() -> Iterator[Answers]:
    """Serve until the block ends."""
    it = Answers()

    def answer(asked: Asked) -> Answer:
        it.asked.set()
        it.open.wait()
        known = asked.headers.get("authorization") == f"Bearer {it.token}" and asked.path == "/v1/rollouts"
        said = {"environment": it.environment, "rollouts": it.rollouts, "new": "in a later release"}
        return as_json(said if it.body is None else it.body, it.status if known else 401)

    with http_server(answer) as it.url:
        try:
            yield it
        finally:
            it.open.set()
