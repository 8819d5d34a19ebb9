"""Connections: what goes over the wire, in what order, and how each one ends."""

from __future__ import annotations

import asyncio

import pytest

from tests.http_limits.http_scene import Server, get, post, run

CHUNKED = "transfer-encoding: chunked"


def test_a_connection_serves_many_requests() -> None:
    async def scenario(server: Server) -> None:
        wire = await server.connect()
        for n in range(5):
            await wire.send(get(f"/{n}"))
            assert await wire.answer() == (200, f"/{n} ".encode(), False)
        assert len(server.connections) == 1

    run(scenario)


def test_a_request_may_come_byte_by_byte() -> None:
    async def scenario(server: Server) -> None:
        wire = await server.connect()
        await wire.send(*(bytes([byte]) for byte in post("/slowly", b"body")), pause=0.0005)
        assert await wire.answer() == (200, b"/slowly body", False)

    run(scenario)


def test_requests_sent_together_are_answered_in_their_order() -> None:
    async def scenario(server: Server) -> None:
        wire = await server.connect()
        await wire.send(get("/later/1") + get("/2") + get("/later/3") + post("/4", b"four") + get("/5"))
        await server.began()
        server.echo.let.set()
        bodies = [(await wire.answer())[1] for _ in range(5)]
        assert bodies == [b"/later/1 ", b"/2 ", b"/later/3 ", b"/4 four", b"/5 "]
        await wire.send(get("/6"))
        assert (await wire.answer())[1] == b"/6 "

    run(scenario)


def test_a_request_whose_body_comes_after_an_earlier_answer_is_still_answered() -> None:
    async def scenario(server: Server) -> None:
        wire = await server.connect()
        whole = post("/second", b"12345678")
        await wire.send(get("/later/first") + whole[:-4])
        await server.began()
        server.echo.let.set()
        assert (await wire.answer())[1] == b"/later/first "
        await wire.send(whole[-4:])
        assert (await wire.answer())[1] == b"/second 12345678"

    run(scenario)


def test_a_thousand_requests_sent_together_are_answered() -> None:
    async def scenario(server: Server) -> None:
        wire = await server.connect()
        sending = asyncio.create_task(wire.send(get("/later/0") + b"".join(get(f"/{n}") for n in range(1, 1500))))
        await server.began()
        server.echo.let.set()
        assert (await wire.answer())[1] == b"/later/0 "
        for n in range(1, 1500):
            assert (await wire.answer())[1] == f"/{n} ".encode()
        await sending

    run(scenario)


def test_a_client_that_goes_before_its_answer_disturbs_nobody() -> None:
    async def scenario(server: Server) -> None:
        wire = await server.connect()
        await wire.send(get("/later"))
        await server.until(lambda: server.echo.asked == ["GET /later"])
        wire.writer.transport.abort()
        server.echo.let.set()
        await server.until(lambda: not server.connections)
        other = await server.connect()
        await other.send(get("/"))
        assert (await other.answer())[0] == 200

    run(scenario)


def test_a_chunked_body_is_read() -> None:
    async def scenario(server: Server) -> None:
        wire = await server.connect()
        await wire.send(post("/c", b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", "transfer-encoding: chunked"))
        assert await wire.answer() == (200, b"/c abcde", False)

    run(scenario)


def test_a_client_that_asks_to_close_gets_its_answer_and_an_orderly_end() -> None:
    async def scenario(server: Server) -> None:
        for request in (get("/", "connection: close"), b"GET / HTTP/1.0\r\n\r\n"):
            wire = await server.connect()
            await wire.send(request)
            assert await wire.answer() == (200, b"/ ", True)
            assert await wire.end() == b""
            wire.writer.close()

    run(scenario)


ASKS_FOR_HTTP_2 = ("connection: Upgrade, HTTP2-Settings", "upgrade: h2c", "http2-settings: AAMAAABk")
"""What Java's client, and curl --http2, send with their first request."""


def test_a_client_that_asks_for_another_protocol_is_answered_in_this_one() -> None:
    async def scenario(server: Server) -> None:
        wire = await server.connect()
        await wire.send(get("/", "connection: upgrade", "upgrade: websocket"))
        assert await wire.answer() == (200, b"/ ", False)
        await wire.send(get("/1", *ASKS_FOR_HTTP_2) + get("/2") + get("/3", *ASKS_FOR_HTTP_2))
        assert [(await wire.answer())[1] for _ in range(3)] == [b"/1 ", b"/2 ", b"/3 "]

    run(scenario)


@pytest.mark.parametrize("pieces", ["together", "body later", "byte by byte"])
@pytest.mark.parametrize("chunked", [False, True])
def test_the_body_of_a_request_that_asks_for_another_protocol_is_read(pieces: str, chunked: bool) -> None:
    body = b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n" if chunked else b"abcde"
    length = "transfer-encoding: chunked" if chunked else "content-length: 5"

    async def scenario(server: Server) -> None:
        wire = await server.connect()
        request = post("/b", body, length, *ASKS_FOR_HTTP_2)
        head = request[: -len(body)]
        parts = {"together": [request], "body later": [head, body], "byte by byte": [bytes([n]) for n in request]}
        await wire.send(*parts[pieces], pause=0.0005)
        assert await wire.answer() == (200, b"/b abcde", False)
        await wire.send(get("/next"))
        assert await wire.answer() == (200, b"/next ", False)
        assert not server.echo.held.used

    run(scenario)


def test_a_body_that_is_too_large_is_refused_whatever_protocol_is_asked_for() -> None:
    async def scenario(server: Server) -> None:
        wire = await server.connect()
        await wire.send(post("/", b"", "content-length: 4000", *ASKS_FOR_HTTP_2))
        assert await wire.answer() == (413, b"body-too-large", True)

    run(scenario)


def test_a_client_that_ends_its_side_gets_its_answer_still() -> None:
    async def scenario(server: Server) -> None:
        server.echo.let.set()
        for path in ("/", "/later"):
            wire = await server.connect()
            await wire.send(get(path))
            wire.writer.write_eof()
            assert (await wire.answer())[:2] == (200, f"{path} ".encode())
            assert await wire.end() == b""

    run(scenario)


def test_a_client_that_closed_while_it_was_answered_is_gone_and_one_that_ended_its_side_alone_is_not() -> None:
    async def scenario(server: Server) -> None:
        half, closed = await server.connect(), await server.connect()
        for wire in (half, closed):
            await wire.send(get("/later"))
        await server.until(lambda: len(server.echo.asked) == 2)
        half.writer.write_eof()
        closed.writer.close()

        def is_gone() -> bool:
            server.pass_time(1)
            return len(server.connections) == 1

        await server.until(is_gone)
        server.echo.let.set()
        while (answer := await half.answer())[0] == 100:
            pass
        assert answer[:2] == (200, b"/later ")
        assert await half.end() == b""

    run(scenario)


def test_while_draining_every_answer_is_the_last_of_its_connection() -> None:
    async def scenario(server: Server) -> None:
        used, unused = await server.connect(), await server.connect()
        for wire in (used, unused):
            await wire.send(get("/"))
            await wire.answer()
        server.echo.draining = True
        await used.send(get("/"))
        assert await used.answer() == (200, b"/ ", True)
        assert await used.end() == b""
        new = await server.connect()
        await new.send(get("/new"))
        assert await new.answer() == (200, b"/new ", True)
        for connection in server.connections:
            connection.shutdown()
        assert await unused.end() == b""

    run(scenario)


def test_while_draining_requests_sent_together_are_all_answered() -> None:
    async def scenario(server: Server) -> None:
        wire = await server.connect()
        await wire.send(get("/later/1") + get("/2") + get("/later/3"))
        await server.began()
        server.echo.draining = True
        server.echo.let.set()
        answers = [await wire.answer() for _ in range(3)]
        assert [(body, last) for _, body, last in answers] == [
            (b"/later/1 ", False), (b"/2 ", False), (b"/later/3 ", True),
        ]  # fmt: skip
        assert await wire.end() == b""

    run(scenario)


def test_what_is_owed_is_settled_and_who_would_never_be_done_is_left() -> None:
    async def scenario(server: Server) -> None:
        wire, silent = await server.connect(), await server.connect()
        await server.settle(0)
        await wire.send(get("/later"))
        await server.began()
        settling = asyncio.create_task(server.settle(60))
        await asyncio.sleep(0)
        assert not settling.done()
        server.echo.let.set()
        assert await wire.answer() == (200, b"/later ", False)
        await settling
        assert len(server.connections) == 2
        server.echo.let.clear()
        await silent.send(get("/later"))
        await server.began()
        await server.settle(0)
        assert await silent.end() == b""
        await server.until(lambda: len(server.connections) == 1)

    run(scenario)


def test_a_request_on_its_way_in_counts_as_being_answered() -> None:
    async def scenario(server: Server) -> None:
        wire = await server.connect()
        whole = post("/half", b"body")
        await wire.send(whole[:-2])
        await server.began()
        server.echo.draining = True
        assert [one.answering for one in server.connections] == [True]
        await wire.send(whole[-2:])
        assert await wire.answer() == (200, b"/half body", True)

    run(scenario)
