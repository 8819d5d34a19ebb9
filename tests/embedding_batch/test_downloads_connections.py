"""Connections to hosts of pictures: bounded, used again, verified; and what is told of them."""

from __future__ import annotations

import functools
import socket
import ssl
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from embedding_batch.pictures import Politeness, exchange
from embedding_batch.pictures import web as web_of_pictures
from tests.embedding_batch.fetching import fetched, reason, the_one
from tests.embedding_batch.picture_host import (
    PictureHost,
    hosting,
    reset,
    status,
    stream,
)


def test_connections_are_used_again(host: PictureHost) -> None:
    host.always["missing"] = status(404, text="not here")
    fetched(
        *(host.url(str(number)) for number in range(40)),
        host.url("missing"),
        politeness=Politeness(requests_a_second=1000, connections_a_host=2),
    )
    assert len(host.opened) <= 2


class Sockets:
    """How many sockets the downloads have open. most: at once."""

    def __init__(self) -> None:
        self.open = self.most = 0

    def make(self, address: tuple[Any, ...]) -> socket.socket:
        sockets = self

        class Counted(socket.socket):
            def close(self) -> None:
                sockets.open -= self.fileno() >= 0
                super().close()

        family, kind, protocol, *_ = address
        self.open += 1
        self.most = max(self.most, self.open)
        return Counted(family, kind, protocol)


@pytest.fixture
def sockets(monkeypatch: pytest.MonkeyPatch) -> Sockets:
    counted = Sockets()
    connector = functools.partial(aiohttp.TCPConnector, socket_factory=counted.make)
    monkeypatch.setattr(exchange.aiohttp, "TCPConnector", connector)
    return counted


@pytest.mark.parametrize("connections", [1, 7])
def test_connections_are_bounded_in_all_idle_ones_too(sockets: Sockets, connections: int) -> None:
    with hosting("0.0.0.0") as host:
        urls = [f"http://127.0.1.{name}:{host.port}/{number}" for number in range(3) for name in range(1, 41)]
        polite = Politeness(requests_a_second=1000, connections=connections, connections_a_host=2)
        assert all(found.data for found in fetched(*urls, politeness=polite).values())
    assert len(host.arrivals) == 40 * 4
    assert sockets.most == connections
    assert sockets.open == 0


def test_a_host_that_is_busy_for_ever_lets_others_have_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_of_pictures, "_TURN_SECONDS", 0.1)
    with hosting("127.0.0.1") as busy, hosting("127.0.0.2") as other:
        for number in range(100):
            busy.always[str(number)] = stream([10], pause=0.05)  # the pace never holds it up
        urls = [*(busy.url(str(number)) for number in range(100)), other.url("a")]
        fetched(*urls, politeness=Politeness(requests_a_second=1000, connections=1, robots=False))
        assert other.arrivals[0].at < busy.arrivals[50].at


def test_no_host_has_more_connections_than_its_own(host: PictureHost, sockets: Sockets) -> None:
    for number in range(0, 60, 3):
        host.paths[str(number)] = [reset]
        host.always[str(number + 1)] = stream([10], pause=0.01)
    polite = Politeness(requests_a_second=1000, connections_a_host=3, longest_pause=0.5)
    assert all(found.data for found in fetched(*(host.url(str(n)) for n in range(60)), politeness=polite).values())
    assert 1 < sockets.most <= 3


# Certificates, and what is told


def test_a_certificate_that_nobody_vouches_for_is_a_reason_at_once(authority: tuple[Path, Path]) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority[1])
    with hosting(tls=context) as host:
        found = reason(host.url("a"), Politeness(robots=False))
        assert "127.0.0.1 shows a certificate that isn't valid (unable to get local issuer certificate)" in found
        assert not host.arrivals


def test_an_authority_of_ones_own_is_trusted_where_the_system_says_so(
    authority: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority[0]))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority[1])
    with hosting(tls=context) as host:
        assert the_one(host.url("a")).data


def test_credentials_of_a_url_are_used_and_never_told(host: PictureHost, capfd: pytest.CaptureFixture[str]) -> None:
    host.always["a"] = status(404)
    url = f"http://user:secret@127.0.0.1:{host.port}/a?signature=secret"
    assert "secret" not in reason(url)
    assert host.arrivals[-1].headers["Authorization"].startswith("Basic ")
    assert "secret" not in "".join(capfd.readouterr())


@pytest.mark.parametrize(
    ("written", "path"),
    [
        ("a b.jpg", "/a%20b.jpg"),
        ("\u6905\u5b50.jpg", "/%E6%A4%85%E5%AD%90.jpg"),
        ("a%2Fb.jpg?sig=a%2Bb%3D&x=%7e", "/a%2Fb.jpg?sig=a%2Bb%3D&x=%7e"),
        ("a.jpg?itok=x (1)#part", "/a.jpg?itok=x%20(1)"),
    ],
)
def test_a_url_is_asked_as_it_is_written(host: PictureHost, written: str, path: str) -> None:
    assert the_one(host.url(written)).data
    assert host.arrivals[-1].path.replace("+", "%20") == path


def test_a_host_is_one_however_it_is_written(host: PictureHost) -> None:
    urls = [f"{scheme}://{name}:{host.port}/a" for scheme in ("http", "HTTP") for name in ("localhost", "LocalHost")]
    found = fetched(*urls, politeness=Politeness(rates={"localhost": 1000}))
    assert all(one.data for one in found.values())
    assert host.asked("robots.txt") == 1


@pytest.mark.parametrize("uri", ["http://", "https:///a.jpg", "http://[", "https://a:b:c/", "http://exa mple/\x00"])
def test_what_is_no_url_is_a_reason(uri: str) -> None:
    assert "the picture can't be fetched" in reason(uri, Politeness(tries=1))
