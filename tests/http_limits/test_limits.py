"""Connections: what one client may cost, and what it is told."""

from __future__ import annotations

import asyncio
import socket

import pytest

from tests.http_limits.http_scene import LIMITS, Server, get, post, run


def blocked(server: Server) -> int:
    """Connections whose client doesn't read."""
    return sum(one.flow.write_paused for one in server.connections)


CHUNKED = "transfer-encoding: chunked"


def test_a_client_that_asks_first_is_told_to_continue_or_not_to() -> None:
    async def scenario(server: Server) -> None:
        wire = await server.connect()
        await wire.send(post("/e", b"", "content-length: 4", "expect: 100-continue"))
        assert (await wire.answer())[0] == 100
        await wire.send(b"body")
        assert await wire.answer() == (200, b"/e body", False)
        await wire.send(post("/e", b"", "content-length: 4000", "expect: 100-continue"))
        assert await wire.answer() == (413, b"body-too-large", True)

    run(scenario)


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (post("/", b"", "content-length: 1001"), (413, b"body-too-large")),
        (post("/", b"5dc\r\n" + b"x" * 1500, CHUNKED), (413, b"body-too-large")),
        (get("/" + "x" * 300), (431, b"head-too-large")),
        (b"GET / HTTP/1.1\r\nhost: x\r\nlong: " + b"x" * 1100, (431, b"head-too-large")),
        (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 110, (431, b"head-too-large")),
        (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 101 + b"\r\n", (431, b"head-too-large")),
        (b"NONSENSE\r\n\r\n", (400, b"request-malformed")),
        (b"GET / HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n", (400, b"request-malformed")),
        (post("/", b"0\r\n\r\n", "content-length: 4", CHUNKED), (400, b"request-malformed")),
        (b"CONNECT example.com:443 HTTP/1.1\r\nhost: x\r\n\r\n", (400, b"request-malformed")),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01", (400, b"request-malformed")),
        (post("/", b"0\r\n" + b"trailer: x\r\n" * 100, CHUNKED), (431, b"head-too-large")),
    ],
    ids=[
        "length",
        "chunks",
        "target",
        "head",
        "fields",
        "all fields",
        "nonsense",
        "negative",
        "smuggling",
        "connect",
        "tls",
        "trailers",
    ],
)
def test_what_cannot_be_read_is_refused_and_the_connection_ends(sent: bytes, expected: tuple[int, bytes]) -> None:
    async def scenario(server: Server) -> None:
        wire = await server.connect()
        await wire.send(sent)
        assert await wire.answer() == (*expected, True)
        assert await wire.end() == b""
        answered = len(server.connections)
        server.pass_time(LIMITS.linger_seconds + 1)
        await server.until(lambda: not server.connections)
        assert answered <= 1

    run(scenario)


def test_a_trailer_or_a_chunks_extension_does_not_go_on_for_ever() -> None:
    async def scenario(server: Server) -> None:
        for endless in (b"0\r\nt: ", b"1;e="):
            wire = await server.connect()
            await wire.send(post("/", endless, CHUNKED))
            await server.began()
            sending = asyncio.create_task(wire.send(*[b"x" * 500] * 20, pause=0.001))
            assert await wire.answer() == (431, b"head-too-large", True)
            await sending

    run(scenario)


def test_a_refusal_arrives_although_the_client_is_still_sending() -> None:
    async def scenario(server: Server) -> None:
        wire = await server.connect()
        await wire.send(post("/", b"", "content-length: 500000"))
        sending = asyncio.create_task(wire.send(*[b"x" * 5000] * 20, pause=0.005))
        assert await wire.answer() == (413, b"body-too-large", True)
        await sending

    run(scenario)


def test_a_refusal_waits_for_the_answers_to_earlier_requests() -> None:
    async def scenario(server: Server) -> None:
        wire = await server.connect()
        await wire.send(get("/later/1") + get("/2") + b"NONSENSE\r\n\r\n")
        await server.began()
        server.echo.let.set()
        assert await wire.answer() == (200, b"/later/1 ", False)
        assert await wire.answer() == (200, b"/2 ", True)
        assert await wire.end() == b""

    run(scenario)


def test_a_client_that_never_finishes_is_told_and_left() -> None:
    async def scenario(server: Server) -> None:
        head, body, silent = await server.connect(), await server.connect(), await server.connect()
        await head.send(b"GET / HTTP/1.1\r\nho")
        await body.send(post("/", b"abc", "content-length: 4"))
        await server.began(2)
        server.pass_time(LIMITS.head_seconds - 1)
        assert [one.transport.is_closing() for one in server.connections] == [False] * 3
        server.pass_time(2)
        assert await head.answer() == (408, b"request-too-slow", True)
        assert await silent.end() == b""
        server.pass_time(LIMITS.body_seconds)
        assert await body.answer() == (408, b"request-too-slow", True)
        server.pass_time(LIMITS.linger_seconds + 1)
        await server.until(lambda: not server.connections)

    run(scenario)


def test_a_client_that_dribbles_gains_no_time_by_it() -> None:
    async def scenario(server: Server) -> None:
        wire = await server.connect()
        await wire.send(b"GET / HTTP/1.1\r\n")
        await server.began()
        for _ in range(12):
            await wire.send(b"a: b\r\n")
            server.pass_time(1)
        assert await wire.answer() == (408, b"request-too-slow", True)

    run(scenario)


def test_an_idle_connection_ends_after_its_time_and_not_before() -> None:
    async def scenario(server: Server) -> None:
        wire = await server.connect()
        await wire.send(get("/"))
        await wire.answer()
        server.pass_time(LIMITS.idle_seconds - 1)
        await wire.send(get("/again"))
        assert (await wire.answer())[1] == b"/again "
        server.pass_time(LIMITS.idle_seconds + 1)
        assert await wire.end() == b""

    run(scenario)


def test_a_client_that_does_not_read_is_cut_off() -> None:
    async def scenario(server: Server) -> None:
        wire = await server.connect()
        wire.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        wire.reader._transport.pause_reading()  # type: ignore[attr-defined]
        await wire.send(get("/large") + get("/large"))
        await server.until(lambda: any(one.flow.write_paused for one in server.connections))
        server.pass_time(LIMITS.write_seconds + 1)
        await server.until(lambda: not server.connections)

    run(scenario)


def test_a_client_that_reads_slowly_and_asked_to_close_gets_all_of_its_answer() -> None:
    async def scenario(server: Server) -> None:
        for patient in (True, False):
            wire = await server.connect()
            wire.reader._transport.pause_reading()  # type: ignore[attr-defined]
            await wire.send(get("/large", "connection: close"))
            await server.until(lambda: any(one.gone and one.owing for one in server.connections))
            server.pass_time(LIMITS.linger_seconds + 1)
            assert server.connections
            if patient:
                wire.reader._transport.resume_reading()  # type: ignore[attr-defined]
                assert (await wire.answer())[1:] == (b"x" * 8_000_000, True)
                assert await wire.end() == b""
                wire.writer.close()
            else:
                server.pass_time(LIMITS.write_seconds)
            await server.until(lambda: not server.connections)

    run(scenario)


def test_one_connection_too_many_takes_the_place_of_the_longest_idle() -> None:
    async def scenario(server: Server) -> None:
        regular = await server.connect()
        await regular.send(get("/"))
        await regular.answer()
        strangers = []
        for _ in range(3):
            server.pass_time(1)
            strangers.append(await server.connect())
            await server.until(lambda: len(server.connections) == 1 + len(strangers) or len(strangers) == 3)
        assert await strangers[0].end() == b""  # who never asked goes before who did, however long ago
        for one in (regular, *strangers[1:]):
            await one.send(get("/again"))
            assert (await one.answer())[0] == 200
        assert len(server.connections) == 3

    run(scenario)


def test_a_connection_that_has_had_its_answers_goes_when_all_have() -> None:
    async def scenario(server: Server) -> None:
        wires = []
        for _ in range(4):
            wires.append(await server.connect())
            await wires[-1].send(get("/"))
            assert (await wires[-1].answer())[0] == 200
            server.pass_time(1)
        assert await wires[0].end() == b""

    run(scenario)


def test_a_head_that_is_not_finished_keeps_no_place() -> None:
    async def scenario(server: Server) -> None:
        dribbling = [await server.connect() for _ in range(3)]
        for one in dribbling:
            await one.send(b"GET / HT")
        await server.began(3)
        wire = await server.connect()
        await wire.send(get("/"))
        assert (await wire.answer())[0] == 200

    run(scenario)


def test_a_connection_too_many_is_turned_away_where_all_are_being_answered() -> None:
    async def scenario(server: Server) -> None:
        wires = [await server.connect() for _ in range(3)]
        for one in wires:
            await one.send(get("/later"))
        await server.began(3)
        assert await (await server.connect()).answer() == (503, b"overloaded", True)
        server.echo.let.set()
        assert [(await one.answer())[0] for one in wires] == [200] * 3

    run(scenario)


def test_bodies_beyond_the_budget_are_refused_until_others_are_answered() -> None:
    async def scenario(server: Server) -> None:
        server.echo.held.most = 2500
        unfinished = [await server.connect() for _ in range(2)]
        for wire in unfinished:
            await wire.send(post("/e", b"x" * 900, "content-length: 1000"))
        await server.until(lambda: server.echo.held.used == 1800)
        third = await server.connect()
        await third.send(post("/e", b"x" * 800))
        assert await third.answer() == (503, b"overloaded", True)
        for wire in unfinished:
            await wire.send(b"x" * 100)
            assert (await wire.answer())[0] == 200
        assert server.echo.held.used == 0
        server.pass_time(LIMITS.linger_seconds + 1)
        again = await server.connect()
        await again.send(post("/e", b"x" * 1000))
        assert (await again.answer())[0] == 200

    run(scenario)


def test_a_chunked_body_that_outgrows_the_budget_is_refused_and_lets_go_of_it() -> None:
    async def scenario(server: Server) -> None:
        server.echo.held.most = 500
        wire = await server.connect()
        await wire.send(post("/e", b"190\r\n" + b"x" * 400 + b"\r\n", CHUNKED))
        await server.until(lambda: server.echo.held.used == 400)
        await wire.send(b"c8\r\n" + b"x" * 200 + b"\r\n")
        assert await wire.answer() == (503, b"overloaded", True)
        assert server.echo.held.used == 0

    run(scenario)


def test_what_a_client_that_went_away_had_sent_is_no_longer_held() -> None:
    async def scenario(server: Server) -> None:
        wire = await server.connect()
        await wire.send(post("/later", b"x" * 900, "content-length: 1000"))
        await server.until(lambda: server.echo.held.used == 900)
        wire.writer.close()
        await server.until(lambda: server.echo.held.used == 0)

    run(scenario)


@pytest.mark.parametrize("before", [get("/e") * 200, post("/e", b"x" * 900) * 3], ids=["heads", "bodies"])
def test_of_what_comes_at_once_only_the_unfinished_head_counts_as_such(before: bytes) -> None:
    async def scenario(server: Server) -> None:
        wire = await server.connect()
        await wire.send(before + get("/last")[:-2])
        for _ in range(before.count(b"HTTP/1.1")):
            assert (await wire.answer())[0] == 200
        await wire.send(b"\r\n")
        assert (await wire.answer())[1] == b"/last "

    run(scenario)


@pytest.mark.parametrize("end", [b"", b"content-length: 9\r\n\r\nx"], ids=["a head", "a body"])
def test_what_many_short_fields_take_is_held_until_its_client_goes(end: bytes) -> None:
    async def scenario(server: Server) -> None:
        wire = await server.connect()
        await wire.send(b"POST /e HTTP/1.1\r\n" + b"a: b\r\n" * 90 + end)
        await server.until(lambda: server.echo.held.used > 90 * 100)
        wire.writer.close()
        await server.until(lambda: server.echo.held.used == 0)

    run(scenario)


def test_of_a_large_head_that_was_answered_an_idle_connection_keeps_nothing() -> None:
    async def scenario(server: Server) -> None:
        wire = await server.connect()
        await wire.send(get("/e" + "x" * 190, *[f"a: {n}" for n in range(90)]))
        assert (await wire.answer())[0] == 200
        (connection,) = server.connections
        await server.until(lambda: server.echo.held.used == 0)
        assert not connection.headers
        assert not connection.url
        assert not any(connection.scope[part] for part in ("headers", "path", "raw_path", "query_string"))
        await wire.send(get("/again"))
        assert (await wire.answer())[1] == b"/again "

    run(scenario)


def test_heads_beyond_the_budget_are_refused_and_those_of_most_clients_are_not() -> None:
    async def scenario(server: Server) -> None:
        server.echo.held.most = 15_000
        first, second, third = [await server.connect() for _ in range(3)]
        await first.send(b"GET /e HTTP/1.1\r\n" + b"a: b\r\n" * 90)
        await server.until(lambda: server.echo.held.used > 0)
        await second.send(b"GET /e HTTP/1.1\r\n" + b"a: b\r\n" * 90)
        assert await second.answer() == (503, b"overloaded", True)
        await third.send(b"GET /polite HTTP/1.1\r\n", b"host: x\r\n\r\n", pause=0.01)
        assert (await third.answer())[1] == b"/polite "
        await first.send(b"\r\n")
        assert (await first.answer())[1] == b"/e "
        second.writer.close()
        await server.until(lambda: server.echo.held.used == 0)

    run(scenario)


def test_requests_sent_together_beyond_the_budget_are_not_read_and_those_before_are_answered() -> None:
    async def scenario(server: Server) -> None:
        server.echo.held.most = 100_000
        wire = await server.connect()
        await wire.send(get("/later") + get("/e") * 1000)
        await server.until(lambda: bool(server.connections[0].pipeline))
        assert 50_000 < server.echo.held.used <= server.echo.held.most
        server.echo.let.set()
        ends = False
        while not ends:
            status, _, ends = await wire.answer()
            assert status == 200
        await server.until(lambda: server.echo.held.used == 0)

    run(scenario)


def test_no_more_requests_are_read_while_some_that_were_sent_together_wait() -> None:
    async def scenario(server: Server) -> None:
        server.echo.held.most = 2**30
        wire = await server.connect()
        sending = asyncio.create_task(wire.send(get("/later") + get("/e") * 20_000))
        await server.began()
        server.echo.let.set()
        for _ in range(20_001):
            assert (await wire.answer())[0] == 200
        await sending
        before = 0
        for waiting in server.echo.waiting:
            assert before <= 1 or waiting == before - 1
            before = waiting

    run(scenario)


def test_of_clients_that_do_not_read_the_slowest_is_left_when_the_budget_is_used_up() -> None:
    async def scenario(server: Server) -> None:
        wires = [await server.connect() for _ in range(3)]
        for number, wire in enumerate(wires):
            wire.reader._transport.pause_reading()  # type: ignore[attr-defined]
            await wire.send(get("/large"))  # 8 MB each: two fit
            await server.until(lambda: len(server.echo.asked) == number + 1 and blocked(server) >= min(number + 1, 2))  # noqa: B023
            server.pass_time(1)
        await server.until(lambda: len(server.connections) == 2)
        assert server.echo.held.used <= LIMITS.held_bytes
        wires[1].reader._transport.resume_reading()  # type: ignore[attr-defined]
        wires[2].reader._transport.resume_reading()  # type: ignore[attr-defined]
        for wire in wires[1:]:
            assert len((await wire.answer())[1]) == 8_000_000
        assert server.echo.held.used == 0

    run(scenario)
