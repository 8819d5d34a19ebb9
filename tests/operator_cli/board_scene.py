"""A board that runs: a real server in a thread, on a bucket in memory."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import httpx
import uvicorn

from model_repository.documents.receipts.receipt import Outcome
from model_repository.names import Target
from operator_cli.board.app import Board, application
from operator_cli.board.identity import OwnMachine, SignIn
from operator_cli.board.overview import Overview
from operator_cli.board.rollouts import Rollouts
from operator_cli.board.serve import listen
from operator_cli.webhook import Webhook
from tests import builds, plain_http
from tests.operator_cli.conftest import Operator

FRESHNESS = timedelta(hours=26)


@dataclass(frozen=True, slots=True)
class Running:
    """url: of the board. client: signed in where one can be."""

    url: str
    client: httpx.Client
    overview: Overview


@contextmanager
def running(
    operator: Operator, sign_in: SignIn, hosts: tuple[str, ...] = ("127.0.0.1",), webhooks: Sequence[Webhook] = ()
) -> Iterator[Running]:
    """Serve until the block ends."""
    overview = Overview(operator.store, operator.clock, FRESHNESS)
    overview.look()
    board = Board(
        store=operator.store,
        overview=overview,
        rollouts=Rollouts(webhooks, operator.clock),
        clock=operator.clock,
        sign_in=sign_in,
        hosts=hosts,
    )
    listener = listen("127.0.0.1", 0)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    server = uvicorn.Server(uvicorn.Config(application(board), log_level="warning", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        with plain_http.Client(base_url=url, timeout=60, follow_redirects=True) as client:
            if isinstance(sign_in, OwnMachine):
                client.get("/", params={"key": sign_in.secret}).raise_for_status()
            yield Running(url, client, overview)
    finally:
        server.should_exit = True
        thread.join()


def shop(operator: Operator) -> dict[str, int]:
    """Clothing serves in production and staging, toys were undone; the generations of the commits in production."""
    operator.clock.moment = builds.NOW + timedelta(hours=1)
    old, new = operator.build("b1", age=5), operator.build("b2", age=1)
    operator.deployed(old)
    clothing = operator.commit(new, by="ada@example.com", reason="a new season")
    operator.receipt(clothing, Outcome.SERVED, new, by="ada@example.com", reason="a new season")
    operator.deployed(old, target=Target("staging", "clothing"))
    toys = Target("production", "toys")
    good, bad = operator.build("t1", age=30, index="toys"), operator.build("t2", index="toys")
    operator.deployed(good, target=toys)
    broken = operator.deployed(
        bad, Outcome.UNDONE, target=toys, detail="2 of 3 pods crashed: out of memory", code="rollout-failed"
    )
    return {"clothing": clothing, "toys": broken}


def events(answer: httpx.Response) -> Iterator[dict[str, Any]]:
    """What the board tells a page that watches."""
    for line in answer.iter_lines():
        if line.startswith("data: "):
            yield json.loads(line.removeprefix("data: "))


def rows(overview: Overview) -> dict[str, Any]:
    return {f"{row['environment']}/{row['index']}": row for row in overview.rows}


def looked(operator: Operator) -> Overview:
    overview = Overview(operator.store, operator.clock, FRESHNESS)
    overview.look()
    return overview
