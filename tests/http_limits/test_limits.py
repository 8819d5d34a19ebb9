"""Connections: what one client may cost, and what it is told."""

from __future__ import annotations

import asyncio
import socket

import pytest

from tests.http_limits.http_scene import LIMITS, Server, get, post, run

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
