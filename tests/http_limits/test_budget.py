"""What all connections of a process hold together: bodies, heads, and answers that nobody takes."""

from __future__ import annotations

import asyncio

import pytest

from tests.http_limits.http_scene import LIMITS, Server, get, post, run


def blocked(server: Server) -> int:
    """Connections whose client doesn't read."""
    return sum(one.flow.write_paused for one in server.connections)


CHUNKED = "transfer-encoding: chunked"


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
