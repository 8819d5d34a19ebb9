"""The board's server: what its rows say, how they stay true, who may change what, and what other pages can't do."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from starlette.types import ASGIApp, Message, Receive

from model_repository.bucket.gcs_store import GcsStore
from model_repository.documents.commit import LONGEST_HOLD
from model_repository.documents.receipts.receipt import Outcome
from model_repository.errors import BucketUnavailable
from model_repository.fields import format_moment
from model_repository.names import Target
from operator_cli.board.app import Board, application
from operator_cli.board.identity import OwnMachine, ReadOnly
from operator_cli.board.overview import Overview
from operator_cli.board.rollouts import Rollouts
from tests import builds, plain_http
from tests.memory_store import MemoryStore
from tests.operator_cli.board_scene import FRESHNESS, Running, events, running, shop
from tests.operator_cli.conftest import Operator


@pytest.fixture
def board(operator: Operator) -> Iterator[Running]:
    shop(operator)
    with running(operator, OwnMachine("eve@example.com")) as found:
        yield found


def rows(overview: Overview) -> dict[str, Any]:
    return {f"{row['environment']}/{row['index']}": row for row in overview.rows}


def looked(operator: Operator) -> Overview:
    overview = Overview(operator.store, operator.clock, FRESHNESS)
    overview.look()
    return overview


def change(board: Running, **asked: Any) -> httpx.Response:
    body = {"environment": "production", "index": "clothing", "action": "redeploy", "reason": "because"} | asked
    return board.client.post("/api/changes", json=body, headers={"origin": board.url})


# --- rows


def test_a_row_says_what_serves_since_when_who_committed_it_and_what_its_build_is(operator: Operator) -> None:
    generations = shop(operator)
    row = rows(looked(operator))["production/clothing"]
    assert (row["state"], row["attention"]) == ("served", [])
    assert (row["commit"]["by"], row["commit"]["reason"]) == ("ada@example.com", "a new season")
    assert (row["serving"]["generation"], row["serving"]["index_prefix"]) == (
        str(generations["clothing"]),
        "indexes/clothing/b2",
    )
    assert row["build"]["created"] == format_moment(builds.NOW - timedelta(hours=1))
    assert row["build"]["items"] > 0


def test_only_what_needs_a_person_asks_for_one(operator: Operator) -> None:
    shop(operator)
    operator.commit(operator.build("w1", index="waiting"), target=Target("production", "waiting"))
    found = rows(looked(operator))
    assert {name for name, row in found.items() if row["attention"]} == {"production/toys"}
    assert "out of memory" in found["production/toys"]["attention"][0]
    assert found["production/waiting"]["state"] == "waiting"


def test_what_serves_for_too_long_asks_for_a_person_unless_it_is_on_hold(operator: Operator) -> None:
    shop(operator)
    operator.clock.moment += timedelta(hours=25)
    found = rows(looked(operator))
    (why,) = found["production/clothing"]["attention"]
    assert why == "what serves was made 27.0 hours ago, of 26.0 hours at most"
    assert operator("redeploy", "clothing", "--hold").code == 0
    assert rows(looked(operator))["production/clothing"]["attention"] == []
    (held,) = operator.store.listing("commits/production/clothing.json")
    operator.clock.moment = held.updated + LONGEST_HOLD
    assert rows(looked(operator))["production/clothing"]["attention"] == []
    operator.clock.moment += timedelta(hours=1)
    (why,) = rows(looked(operator))["production/clothing"]["attention"]
    assert "it has been on hold for" in why


def test_a_name_that_is_no_commits_and_a_commit_that_makes_no_sense_are_rows_of_their_own(operator: Operator) -> None:
    operator.store.write("commits/production/Clothing.json", b"{}", if_generation_match=None)
    operator.store.write("commits/production/hats.json", b"{", if_generation_match=None)
    found = looked(operator).rows
    assert [bool(row["attention"]) for row in found] == [True, True]
    assert [row.get("name") for row in found] == ["'commits/production/Clothing.json'", None]
    assert "can't be read" in found[1]["attention"][0]


def test_a_name_that_turns_the_direction_of_text_is_shown_as_what_it_is(operator: Operator) -> None:
    operator.store.write("commits/production/a\u202egpj.<b>\n.json", b"{}", if_generation_match=None)
    (row,) = looked(operator).rows
    assert row["name"] == r"'commits/production/a\u202egpj.<b>\n.json'"
    assert row["name"] in row["attention"][0]


class Counting(MemoryStore):
    """Counts what is asked of it, and is away when told to be."""

    asked = 0
    away = False

    def _count(self) -> None:
        self.asked += 1
        if self.away:
            raise BucketUnavailable("no answer for 15 s")

    def read(self, name: str, *, limit: int) -> Any:
        self._count()
        return super().read(name, limit=limit)

    def stat(self, name: str) -> Any:
        self._count()
        return super().stat(name)

    def listing(self, prefix: str) -> Any:
        self._count()
        return super().listing(prefix)


def test_a_look_asks_of_a_hundred_indexes_only_about_those_that_may_have_changed() -> None:
    store = Counting("shop")
    operator = Operator(store=store)
    for number in range(100):
        target = Target("production", f"index-{number}")
        operator.deployed(operator.build("b1", index=target.index), target=target)
    overview = looked(operator)
    store.asked = 0
    assert not overview.look()
    assert store.asked == 1
    target = Target("production", "index-7")
    generation = operator.commit(operator.build("b2", index="index-7"), target=target)
    assert overview.look()
    assert rows(overview)["production/index-7"]["state"] == "waiting"
    operator.receipt(generation, Outcome.SERVED, operator.build("b2", index="index-7"), target=target)
    store.asked = 0
    assert overview.look()
    assert rows(overview)["production/index-7"]["state"] == "served"
    assert store.asked < 10


def test_a_bucket_that_does_not_answer_is_said_and_what_was_known_stays() -> None:
    store = Counting("shop")
    operator = Operator(store=store)
    shop(operator)
    overview = looked(operator)
    known = overview.rows
    store.away = True
    assert overview.look()
    assert (overview.problem, overview.rows) == ("no answer for 15 s", known)
    store.away = False
    assert overview.look()
    assert overview.problem == ""


def test_rows_come_by_themselves_all_at_first_and_then_those_that_change(operator: Operator, board: Running) -> None:
    with board.client.stream("GET", "/api/events") as answer:
        said = events(answer)
        first = next(said)
        assert first["all"]
        assert set(first["rows"]) == {"production/clothing", "production/toys", "staging/clothing"}
        operator.deployed(operator.build("b3"))
        second = next(said)
        while second["rows"].get("production/clothing", {}).get("state") != "served":
            second = next(said)
        assert set(second["rows"]) == {"production/clothing"}
        assert second["rows"]["production/clothing"]["serving"]["index_prefix"] == "indexes/clothing/b3"
        operator.store.delete("commits/staging/clothing.json")
        assert next(said)["gone"] == ["staging/clothing"]


def test_an_index_whole_has_its_commits_with_their_seconds_and_builds(board: Running) -> None:
    found = board.client.get("/api/indexes/production/clothing").json()["receipts"]
    assert [row["index_prefix"] for row in found] == ["indexes/clothing/b2", "indexes/clothing/b1"]
    assert [row["seconds"] for row in found] == [2.0, 2.0]
    assert all(row["build"]["items"] > 0 for row in found)
    answer = board.client.get("/api/indexes/production/nothing")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "commit-missing")
    assert board.client.get("/api/indexes/production/No").status_code == 400


# --- changes


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


# --- who may ask


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


# --- the command


def test_the_command_serves_what_stands_in_a_real_bucket_until_it_is_interrupted(
    new_bucket: Callable[[], str], bucket_server: str
) -> None:
    bucket = new_bucket()
    operator = Operator(store=GcsStore(bucket))
    operator.commit(operator.build("b1"))
    environment = {**os.environ, "MODEL_REPOSITORY": f"gs://{bucket}", "STORAGE_EMULATOR_HOST": bucket_server}
    command = [
        sys.executable,
        "-c",
        "from operator_cli.main import main; raise SystemExit(main())",
        "board",
        "--by",
        "eve@example.com",
    ]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        with plain_http.Client(timeout=60, follow_redirects=True) as client:
            assert client.get(address).status_code == 200
            with client.stream("GET", str(httpx.URL(address).join("/api/events"))) as answer:
                (row,) = next(events(answer))["rows"].values()
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    assert (row["index"], row["state"], row["commit"]["by"]) == ("clothing", "waiting", "batch")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--host", "0.0.0.0"], "other machines need a sign-in"),
        (["--sign-in", "iap"], "say --audience"),
        (["--audience", "/projects/1/global/backendServices/2"], "--audience is for"),
        (["--port", "65536"], "no port"),
        (["--freshness", "0"], "no number"),
    ],
)
def test_options_that_do_not_fit_are_refused(operator: Operator, options: list[str], words: str) -> None:
    said = operator("board", *options)
    assert (said.code, words in said.err) == (64, True), said.err


def test_a_port_that_is_taken_is_named_before_the_bucket_is_asked(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operator.store, "listing", pytest.fail)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        said = operator("board", "--port", str(taken.getsockname()[1]))
    assert (said.code, "name another" in said.err) == (64, True)
