"""The board's server: who may look, who may change what, and what other pages can't do."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socket
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from starlette.types import ASGIApp, Message, Receive

from operator_cli.board.app import Board, application
from operator_cli.board.identity import OwnMachine, ReadOnly
from operator_cli.board.overview import Overview
from operator_cli.board.rollouts import Rollouts
from tests import builds, plain_http
from tests.operator_cli.board_scene import Running, events, looked, running, shop
from tests.operator_cli.conftest import Operator


@pytest.fixture
def board(operator: Operator) -> Iterator[Running]:
    shop(operator)
    with running(operator, OwnMachine("eve@example.com")) as found:
        yield found


def change(board: Running, **asked: Any) -> httpx.Response:
    body = {"environment": "production", "index": "clothing", "action": "redeploy", "reason": "because"} | asked
    return board.client.post("/api/changes", json=body, headers={"origin": board.url})


def test_a_change_is_explained_and_then_made_as_the_person_who_is_signed_in(operator: Operator, board: Running) -> None:
    seen = str(operator.generation())
    explained = change(board, action="rollback", seen=seen, dry_run=True, reason="").json()
    assert (explained["index_prefix"], explained["written"]) == ("indexes/clothing/b1", False)
    assert str(operator.generation()) == seen
    done = change(board, action="rollback", seen=seen, reason="b2 is worse").json()
    live = operator.live()
    assert (done["written"], live["index_prefix"]) == (True, "indexes/clothing/b1")
    assert (live["by"], live["reason"]) == ("eve@example.com", "b2 is worse")


def test_each_change_does_what_the_command_does(operator: Operator, board: Running) -> None:
    assert change(board, seen=str(operator.generation()), hold=True).status_code == 200
    assert operator.live()["hold"] is True
    refused = change(board, action="rollback", seen=str(operator.generation()))
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "commit-on-hold")
    assert change(board, seen=str(operator.generation()), release=True).status_code == 200
    assert "hold" not in operator.live()
    promoted = change(board, action="promote", source="staging", seen=str(operator.generation())).json()
    assert promoted["index_prefix"] == "indexes/clothing/b1"
    committed = change(board, action="commit", build="b2", seen=str(operator.generation())).json()
    assert committed["index_prefix"] == "indexes/clothing/b2"


def test_a_commit_that_came_after_the_person_looked_is_not_replaced(operator: Operator, board: Running) -> None:
    seen = str(operator.generation())
    newer = operator.deployed(operator.build("b3"))
    answer = change(board, seen=seen)
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "generation-conflict")
    assert "indexes/clothing/b3 (by batch)" in answer.json()["error"]["message"]
    assert operator.generation() == newer


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"reason": " "}, "say why"),
        ({"action": "delete"}, "a board does"),
        ({"action": "promote"}, "a board does"),
        ({"index": "Clothing"}, "Clothing"),
        ({"force": True}, "force"),
        ({"reason": "x" * 2000}, "reason"),
        ({"reason": "x" * 20_000}, "at most"),
    ],
)
def test_a_change_that_makes_no_sense_is_refused_by_name(
    operator: Operator, board: Running, asked: Mapping[str, Any], words: str
) -> None:
    seen = str(operator.generation())
    answer = change(board, **({"seen": seen} | dict(asked)))
    assert answer.status_code == 400
    assert words in answer.json()["error"]["message"]
    assert str(operator.generation()) == seen


def test_a_change_says_which_commit_was_seen(operator: Operator, board: Running) -> None:
    assert "seen" in change(board).json()["error"]["message"]
    assert operator.live()["index_prefix"] == "indexes/clothing/b2"


def test_on_ones_own_machine_nothing_is_told_without_the_secret(operator: Operator, board: Running) -> None:
    seen = str(operator.generation())
    with plain_http.Client(base_url=board.url, timeout=60) as stranger:
        for path in ("/api/events", "/api/indexes/production/clothing", "/?key=guess"):
            answer = stranger.get(path)
            assert answer.status_code == 401 or not stranger.cookies
            assert "clothing" not in answer.text
        answer = stranger.post("/api/changes", json={"seen": seen}, headers={"origin": board.url})
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "sign-in-needed")
    assert str(operator.generation()) == seen


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:1"},
        {},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"content-type": "text/plain"},
    ],
)
def test_no_other_page_can_ask_for_a_change_with_somebodys_cookie(
    operator: Operator, board: Running, headers: Mapping[str, str]
) -> None:
    seen = str(operator.generation())
    own = {"origin": board.url} if headers and "origin" not in headers else {}
    body = {"environment": "production", "index": "clothing", "action": "redeploy", "reason": "x", "seen": seen}
    kind = {"content-type": "application/json"}
    answer = board.client.post("/api/changes", content=json.dumps(body), headers=kind | own | dict(headers))
    assert answer.status_code in (400, 403)
    assert str(operator.generation()) == seen


def test_no_other_page_has_browsers_ask_and_a_persons_own_address_bar_may(board: Running) -> None:
    path = "/api/indexes/production/clothing"
    for site, status in (("cross-site", 403), ("same-site", 403), ("same-origin", 200), ("none", 200)):
        assert board.client.get(path, headers={"sec-fetch-site": site}).status_code == status
    assert board.client.get("/", headers={"sec-fetch-site": "cross-site"}).status_code == 200  # a link to the board


def test_a_board_on_the_port_of_http_answers_to_its_name(board: Running) -> None:
    assert board.client.get("/", headers={"host": "127.0.0.1"}).status_code == 200


def test_who_watches_and_never_reads_keeps_nobody_else_from_what_changes(operator: Operator, board: Running) -> None:
    cookies = "; ".join(f"{name}={value}" for name, value in board.client.cookies.items())
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            deaf = stack.enter_context(socket.create_connection(("127.0.0.1", httpx.URL(board.url).port or 0)))
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.sendall(f"GET /api/events HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: {cookies}\r\n\r\n".encode())
        said = events(stack.enter_context(board.client.stream("GET", "/api/events")))
        next(said)
        for build in ("b3", "b4"):
            operator.deployed(operator.build(build))
            while f"indexes/clothing/{build}" not in json.dumps(next(said)):
                pass


def test_who_leaves_while_something_changes_takes_nobody_elses_page_along(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop(operator)
    overview = looked(operator)
    monkeypatch.setattr("operator_cli.board.app._LOOK_SECONDS", 0.0)
    monkeypatch.setattr(Overview, "look", lambda _: True)  # something changes all the time
    rollouts = Rollouts([], operator.clock)
    board = Board(store=operator.store, overview=overview, rollouts=rollouts, clock=operator.clock, sign_in=ReadOnly())
    heard: list[Any] = []

    async def browse(app: ASGIApp, seconds: float, heard: list[Any]) -> None:
        async def leave() -> Message:
            await asyncio.sleep(seconds)
            return {"type": "http.disconnect"}

        async def hear(message: Message) -> None:
            heard.append(message)

        scope = {"type": "http", "method": "GET", "path": "/api/events", "headers": [], "query_string": b""}
        await app(scope, leave, hear)

    async def evening() -> None:
        app = application(board)
        lifespan = asyncio.create_task(app({"type": "lifespan"}, saying("lifespan.startup"), nobody_hears))
        staying = asyncio.create_task(browse(app, 3600, heard))
        chance = random.Random(1)
        for _ in range(40):
            await asyncio.gather(*(browse(app, chance.random() * 0.02, []) for _ in range(30)))
        before = len(heard)
        while len(heard) < before + 10:
            await asyncio.sleep(0.01)
            assert not staying.done(), staying
        for task in (staying, lifespan):
            task.cancel()

    asyncio.run(asyncio.wait_for(evening(), 90))


def saying(kind: str) -> Receive:
    """Says this, and then nothing more."""
    said = [kind]

    async def receive() -> Message:
        if not said:
            await asyncio.Event().wait()
        return {"type": said.pop()}

    return receive


async def nobody_hears(_: Message) -> None:
    pass


def test_only_so_many_pages_are_kept_up_to_date(board: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("operator_cli.board.app._MOST_STREAMS", 2)
    with contextlib.ExitStack() as stack:
        watched = [events(stack.enter_context(board.client.stream("GET", "/api/events"))) for _ in range(2)]
        assert [next(said)["all"] for said in watched] == [True, True]
        refused = board.client.get("/api/events")
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "too-many-watch")


def test_a_name_that_somebody_elses_dns_points_here_is_refused(board: Running) -> None:
    answer = board.client.get("/", headers={"host": f"evil.example:{board.client.base_url.port}"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "foreign-request")


def test_no_page_may_frame_the_board_or_read_its_answers(board: Running) -> None:
    for path in ("/", "/page/main.js", "/api/indexes/production/clothing", "/api/nothing"):
        headers = board.client.get(path).headers
        assert headers["x-frame-options"] == "DENY"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert "access-control-allow-origin" not in headers


def test_without_a_sign_in_people_may_look_and_change_nothing(operator: Operator) -> None:
    shop(operator)
    seen = str(operator.generation())
    with running(operator, ReadOnly(), hosts=()) as board:
        assert board.client.get("/api/indexes/production/clothing").status_code == 200
        answer = change(board, seen=seen)
    assert answer.status_code == 401
    assert "for looking only" in answer.json()["error"]["message"]
    assert str(operator.generation()) == seen


def test_now_is_told_so_that_ages_are_right_on_machines_whose_clocks_are_not(
    operator: Operator, board: Running
) -> None:
    with board.client.stream("GET", "/api/events") as answer:
        told = datetime.fromisoformat(next(events(answer))["now"])
    assert told == operator.clock.moment.replace(tzinfo=UTC)
    assert told - builds.NOW == timedelta(hours=1)
