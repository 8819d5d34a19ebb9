"""Pictures by their URIs, from real files, a bucket, and a real HTTP server that counts."""

from __future__ import annotations

import functools
import gzip
import hashlib
import itertools
import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from embedding_batch.pictures import Fetched, Picture, Politeness, fetch
from embedding_batch.pictures import web as web_of_pictures
from embedding_batch.pictures.politeness import MIB
from model_repository.bucket.store import Store, StoredObject
from model_repository.errors import AccessDenied, BucketUnavailable
from tests.embedding_batch import picture_host
from tests.embedding_batch.picture_host import (
    Arrival,
    PictureHost,
    cut_short,
    hosting,
    most_in,
    moved,
    raw,
    reset,
    silence,
    status,
    stream,
)
from tests.memory_store import MemoryStore

QUICK = Politeness(requests_a_second=1000, longest_pause=1.0, whole_seconds=60.0)
"""For tests of something else than the pace."""


@pytest.fixture
def host() -> Iterator[PictureHost]:
    with hosting() as running:
        yield running


def no_bucket(name: str) -> Store:
    raise AssertionError(name)


def fetched(*pictures: Picture | str, politeness: Politeness = QUICK, **changes: object) -> dict[str, Fetched]:
    asked = [picture if isinstance(picture, Picture) else Picture(picture, None) for picture in pictures]
    open_bucket = changes.get("open_bucket", no_bucket)
    found = list(fetch(asked, politeness=politeness, open_bucket=open_bucket))  # type: ignore[arg-type]
    assert sorted(one.picture.uri for one in found) == sorted(picture.uri for picture in asked)
    return {one.picture.uri: one for one in found}


def the_one(picture: Picture | str, politeness: Politeness = QUICK, **changes: object) -> Fetched:
    (found,) = fetched(picture, politeness=politeness, **changes).values()
    return found


def reason(picture: Picture | str, politeness: Politeness = QUICK, **changes: object) -> str:
    found = the_one(picture, politeness, **changes)
    assert (found.data, found.sha256) == (None, None)
    assert found.reason is not None
    return found.reason


def pictures_asked(host: PictureHost) -> list[Arrival]:
    return [arrival for arrival in host.arrivals if arrival.path != "/robots.txt"]


# The proof


def test_a_host_never_sees_more_than_its_limit_and_a_second_run_moves_no_picture(host: PictureHost) -> None:
    limit = 200
    polite = Politeness(requests_a_second=limit, connections_a_host=8, longest_pause=1.0, whole_seconds=10.0)
    urls = [host.url(f"p/{number}.jpg") for number in range(500)]
    host.paths = {
        "p/10.jpg": [status(503, {"Retry-After": "1"})] * 2,
        "p/110.jpg": [reset, reset],
        "p/210.jpg": [cut_short(10, 200)],
        "p/310.jpg": [status(429)],
        "p/410.jpg": [status(500), reset],
    }
    host.always = {"p/20.jpg": status(404), "p/120.jpg": status(503), "p/220.jpg": reset}
    first = fetched(*urls, politeness=polite)

    assert {uri.rsplit("/", 1)[1] for uri, one in first.items() if one.reason} == {"20.jpg", "120.jpg", "220.jpg"}
    for uri, one in first.items():
        data = picture_host.picture(uri.removeprefix(host.url("")[:-1]))
        assert one.reason or (one.data, one.sha256) == (data, hashlib.sha256(data).digest())
    assert host.asked("robots.txt") == 1
    assert host.asked("p/1.jpg") == 1
    assert host.asked("p/10.jpg") == 3
    assert host.asked("p/20.jpg") == 1  # a 404 is final
    assert host.asked("p/120.jpg") == polite.tries
    assert most_in(1.0, host.arrivals) <= limit

    host.arrivals.clear()
    host.body_bytes = 0
    again = [Picture(uri, None, one.etag, one.modified, one.sha256) for uri, one in first.items() if not one.reason]
    second = fetched(*again, politeness=polite)
    assert {uri: (one.sha256, one.data, one.reason) for uri, one in second.items()} == {
        one.uri: (one.sha256, None, None) for one in again
    }
    assert len(pictures_asked(host)) == len(again)
    assert host.body_bytes == 0
    assert most_in(1.0, host.arrivals) <= limit


# What is known from before


@pytest.mark.parametrize("known", ["etag", "modified"])
def test_an_unchanged_picture_moves_no_bytes(host: PictureHost, known: str) -> None:
    before = the_one(host.url("a"))
    host.body_bytes = 0
    stated = {known: getattr(before, known)}
    after = the_one(Picture(host.url("a"), None, sha256=before.sha256, **stated))
    assert (after.sha256, after.data, after.reason) == (before.sha256, None, None)
    assert (after.etag, after.modified) == (before.etag, before.modified)
    assert host.body_bytes == 0


def test_a_changed_picture_comes_with_its_new_bytes(host: PictureHost) -> None:
    after = the_one(Picture(host.url("a"), None, '"old"', None, b"0" * 32))
    assert after.data == picture_host.picture("/a")
    assert after.etag != '"old"'


def test_a_picture_whose_bytes_were_never_seen_is_asked_without_conditions(host: PictureHost) -> None:
    etag = the_one(host.url("a")).etag
    assert the_one(Picture(host.url("a"), None, etag, None, None)).data is not None


def test_an_etag_that_is_no_header_is_not_sent(host: PictureHost) -> None:
    assert the_one(Picture(host.url("a"), None, "a\r\nX: y", None, b"0" * 32)).data is not None
    assert "If-None-Match" not in host.arrivals[-1].headers


@pytest.mark.parametrize("value", [b'"\xff\xfe"', '"é"'.encode(), b'"a\tb"'], ids=["bytes", "letters", "tab"])
def test_what_a_host_says_that_could_not_be_sent_back_is_not_kept(host: PictureHost, value: bytes) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nETag: %b\r\nLast-Modified: %b\r\n\r\nabc" % (value, value)
    host.always["a"] = raw(answer)
    one = the_one(Picture(host.url("a"), None, None, None, None))
    assert (one.data, one.etag, one.modified) == (b"abc", None, None)


def test_unchanged_is_no_answer_to_somebody_who_did_not_ask(host: PictureHost) -> None:
    host.always["a"] = status(304)
    assert "answered 304" in reason(host.url("a"))


# Hosts that ask for less


@pytest.mark.parametrize("code", [429, 503])
def test_retry_after_holds_for_the_whole_host(host: PictureHost, code: int) -> None:
    host.paths["a"] = [status(code, {"Retry-After": "1"})]
    one_by_one = Politeness(requests_a_second=1000, connections_a_host=1)
    found = fetched(*(host.url(name) for name in "abc"), politeness=one_by_one)
    assert all(one.data for one in found.values())
    asked = pictures_asked(host)
    assert asked[0].path == "/a"
    assert all(arrival.at - asked[0].at > 1 for arrival in asked[1:])


def test_retry_after_may_be_a_date(host: PictureHost) -> None:
    async def busy(request: web.Request) -> web.StreamResponse:
        return await status(503, {"Retry-After": formatdate(time.time() + 3, usegmt=True)})(request)

    host.paths["a"] = [busy]
    assert the_one(host.url("a"), Politeness(requests_a_second=1000)).data
    first, second = pictures_asked(host)
    assert second.at - first.at > 1.5  # a date has whole seconds


def test_a_host_that_asks_for_an_hour_is_asked_again_after_the_longest_pause(host: PictureHost) -> None:
    host.always["a"] = status(503, {"Retry-After": "3600"})
    polite = Politeness(requests_a_second=1000, longest_pause=0.2, tries=3)
    assert reason(host.url("a"), polite) == (
        "the picture can't be fetched: 127.0.0.1 answered 503 Service Unavailable, 3 times"
    )


def test_what_robots_txt_does_not_allow_is_not_asked_for(host: PictureHost) -> None:
    host.always["robots.txt"] = status(200, text="User-agent: *\nDisallow: /private")
    found = fetched(host.url("private/a"), host.url("b"), host.url("private/c"))
    assert found[host.url("b")].data
    assert "robots.txt doesn't allow it to 'indexpush'" in str(found[host.url("private/a")].reason)
    assert [arrival.path for arrival in host.arrivals] == ["/robots.txt", "/b"]


@pytest.mark.parametrize(
    "own", [Politeness(robots=False, requests_a_second=1000), Politeness(robots_exempt=frozenset({"127.0.0.1"}))]
)
def test_robots_txt_can_be_left_unread_for_ones_own_hosts(host: PictureHost, own: Politeness) -> None:
    host.always["robots.txt"] = status(200, text="User-agent: *\nDisallow: /")
    assert the_one(host.url("a"), own).data
    assert host.asked("robots.txt") == 0


@pytest.mark.parametrize("step", [status(404), status(403), status(401), moved("/robots.txt")])
def test_a_host_without_a_robots_txt_allows_everything(host: PictureHost, step: picture_host.Step) -> None:
    host.always["robots.txt"] = step
    assert the_one(host.url("a")).data


@pytest.mark.parametrize("step", [status(500), status(429), reset])
def test_where_robots_txt_can_not_be_read_nothing_is_fetched_for_now(
    host: PictureHost, step: picture_host.Step
) -> None:
    host.always["robots.txt"] = step
    polite = Politeness(requests_a_second=1000, longest_pause=0.1)
    assert "robots.txt can't be read now" in reason(host.url("a"), polite)
    assert host.asked("robots.txt") == polite.tries
    assert not pictures_asked(host)


def test_a_compressed_robots_txt_is_read(host: PictureHost) -> None:
    async def packed(_: web.Request) -> web.StreamResponse:
        return web.Response(body=gzip.compress(b"User-agent: *\nDisallow: /a"), headers={"Content-Encoding": "gzip"})

    host.always["robots.txt"] = packed
    assert "doesn't allow" in reason(host.url("a"))


@pytest.mark.parametrize(
    ("step", "may_pass"),
    [(status(404), False), (status(503), True), (reset, True), (moved("ftp://a"), False), (status(410), False)],
)
def test_what_another_run_may_have_is_said(host: PictureHost, step: picture_host.Step, may_pass: bool) -> None:
    host.always["a"] = step
    polite = Politeness(requests_a_second=1000, longest_pause=0.1)
    assert the_one(host.url("a"), polite).may_pass is may_pass


@pytest.mark.parametrize(
    ("step", "may_pass"), [(status(503), True), (status(200, text="User-agent: *\nDisallow: /"), False)]
)
def test_a_refusal_of_robots_txt_passes_where_it_could_not_be_read(
    host: PictureHost, step: picture_host.Step, may_pass: bool
) -> None:
    host.always["robots.txt"] = step
    polite = Politeness(requests_a_second=1000, longest_pause=0.1)
    found = the_one(host.url("a"), polite)
    assert found.reason
    assert found.may_pass is may_pass


def test_robots_txt_may_stand_elsewhere_and_need_a_second_try(host: PictureHost) -> None:
    host.paths["robots.txt"] = [reset, status(503), moved("/there/robots.txt", 301)]
    host.always["there/robots.txt"] = status(200, text="User-agent: *\nDisallow: /a")
    assert "robots.txt" in reason(host.url("a"))
    assert not host.asked("a")


def test_a_crawl_delay_is_kept(host: PictureHost) -> None:
    host.always["robots.txt"] = status(200, text="User-agent: *\nCrawl-delay: 1")
    fetched(*(host.url(name) for name in "ab"), politeness=Politeness(requests_a_second=100))
    times = [arrival.at for arrival in host.arrivals]
    assert len(times) == 3
    assert all(later - earlier >= 1 for earlier, later in itertools.pairwise(times))


def test_each_host_has_a_pace_of_its_own() -> None:
    with hosting("127.0.0.1") as slow, hosting("127.0.0.2") as fast:
        slow_urls, fast_urls = ([host.url(str(number)) for number in range(8)] for host in (slow, fast))
        polite = Politeness(requests_a_second=2, rates={"127.0.0.2": 1000}, robots=False)
        asked = [Picture(uri, None) for uri in (*slow_urls, *fast_urls)]
        order = [one.picture.uri for one in fetch(asked, politeness=polite, open_bucket=no_bucket)]
    assert set(order[:6]) & set(fast_urls)
    assert order[-1] in slow_urls
    assert most_in(1.0, slow.arrivals) <= 2


# Redirects


def test_a_redirect_is_followed_and_obeys_the_other_host() -> None:
    with hosting("127.0.0.1") as first, hosting("127.0.0.2") as second:
        for number in range(6):
            first.always[f"{number}"] = moved(second.url(f"p/{number}"))
        first.always["private"] = moved(second.url("private"))
        second.always["robots.txt"] = status(200, text="User-agent: *\nDisallow: /private")
        polite = Politeness(requests_a_second=1000, rates={"127.0.0.2": 2})
        found = fetched(*(first.url(str(number)) for number in range(6)), first.url("private"), politeness=polite)
        assert found[first.url("3")].data == picture_host.picture("/p/3")
        assert "127.0.0.2: the host's robots.txt doesn't allow it" in str(found[first.url("private")].reason)
        assert most_in(1.0, second.arrivals) <= 2


def test_a_relative_redirect_is_followed(host: PictureHost) -> None:
    host.always["p/a"] = moved("../b?x=1")
    assert the_one(host.url("p/a")).data == picture_host.picture("/b")


def test_redirects_end(host: PictureHost) -> None:
    host.always["a"] = moved("/a")
    assert reason(host.url("a")) == "the picture can't be fetched: it was redirected more than 5 times"
    assert host.asked("a") == 6


@pytest.mark.parametrize("target", ["ftp://127.0.0.1/a", "file:///etc/passwd", "javascript:alert(1)", "//["])
def test_only_http_is_followed(host: PictureHost, target: str) -> None:
    host.always["a"] = moved(target)
    assert "with a Location that can't be followed" in reason(host.url("a"))


# Limits


def test_a_picture_that_says_it_is_too_large_is_not_read(host: PictureHost) -> None:
    host.always["a"] = status(200, text="x" * 1001)
    assert reason(host.url("a"), Politeness(most_bytes=1000)) == (
        "the picture can't be fetched: 127.0.0.1 sends more than the 1000 bytes allowed"
    )
    host.always["a"] = status(200, text="x" * 1000)
    assert the_one(host.url("a"), Politeness(most_bytes=1000)).data == b"x" * 1000


def test_a_picture_that_does_not_say_how_large_it_is_is_read_to_the_limit(host: PictureHost) -> None:
    host.always["endless"] = stream(100_000 for _ in iter(int, 1))
    host.always["fits"] = stream([400, 600])
    polite = Politeness(most_bytes=1000)
    found = fetched(host.url("endless"), host.url("fits"), politeness=polite)
    assert "more than the 1000 bytes" in str(found[host.url("endless")].reason)
    assert found[host.url("fits")].data == b"x" * 1000


def test_what_is_compressed_is_not_unpacked(host: PictureHost) -> None:
    host.always["a"] = status(200, {"Content-Encoding": "gzip"}, "\x1f\x8b")
    assert "sends it compressed ('gzip')" in reason(host.url("a"))
    assert host.arrivals[-1].headers["Accept-Encoding"] == "identity"


@pytest.mark.parametrize("step", [silence, stream([1] * 10_000, pause=0.05)])
def test_a_host_that_takes_too_long_is_not_waited_for(host: PictureHost, step: picture_host.Step) -> None:
    host.always["a"] = step
    polite = Politeness(requests_a_second=1000, whole_seconds=0.3, longest_pause=0.1, tries=2)
    assert "didn't answer, or not to the end, within 0.3 s, 2 times" in reason(host.url("a"), polite)


def test_a_host_that_is_not_there_is_a_reason(host: PictureHost) -> None:
    with hosting("127.0.0.3") as gone:
        url = gone.url("a")
    found = fetched(
        url, host.url("b"), politeness=Politeness(requests_a_second=1000, longest_pause=0.1, tries=2, robots=False)
    )
    assert "127.0.0.3 couldn't be connected (" in str(found[url].reason)
    assert found[host.url("b")].data


def test_a_host_that_is_down_is_given_up_before_every_picture_had_all_its_tries(host: PictureHost) -> None:
    class Everything(dict[str, picture_host.Step]):
        def __contains__(self, _: object) -> bool:
            return True

        def __getitem__(self, _: str) -> picture_host.Step:
            return status(503)

    host.always = Everything()
    polite = Politeness(requests_a_second=1000, longest_pause=0.05, tries=3, robots=False)
    found = fetched(*(host.url(str(number)) for number in range(2000)), politeness=polite)
    assert sum("given up" in str(one.reason) for one in found.values()) > 1000
    assert all("503" in str(one.reason) and one.may_pass for one in found.values())


# Connections


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
    monkeypatch.setattr(web_of_pictures.aiohttp, "TCPConnector", connector)
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


# Files and buckets


def test_pictures_of_this_machine_are_read(tmp_path: Path) -> None:
    plain, spaced = tmp_path / "a.jpg", tmp_path / "b c.jpg"
    plain.write_bytes(b"plain")
    spaced.write_bytes(b"spaced")
    found = fetched(str(plain), spaced.as_uri(), str(spaced))
    assert found[str(plain)].data == b"plain"
    assert found[str(plain)].sha256 == hashlib.sha256(b"plain").digest()
    assert found[spaced.as_uri()].data == found[str(spaced)].data == b"spaced"


def test_a_file_that_can_not_be_read_is_a_reason(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_bytes(b"x" * 11)
    polite = Politeness(most_bytes=10)
    read = "the picture can't be read: "
    assert reason(str(tmp_path / "none"), polite) == f"{read}No such file or directory"
    assert reason(str(tmp_path), polite) == f"{read}Is a directory"
    assert reason(str(tmp_path / "pipe"), polite) == f"{read}it is no file"
    assert reason(str(tmp_path / "large"), polite) == f"{read}it has more than the 10 bytes allowed"
    assert "null" in reason("a\0b", polite)
    assert reason("ftp://host/a", polite) == f"{read}only paths, file://, gs://, http:// and https:// are read"
    assert reason("file://elsewhere/a", polite).startswith(f"{read}only paths")


class Bucket(MemoryStore):
    """A bucket with errors: of some objects, or of all."""

    def __init__(self, name: str, errors: dict[str, Exception] | Exception | None = None) -> None:
        super().__init__(name)
        self.errors = errors or {}
        self.reads = 0

    def read(self, name: str, *, limit: int) -> StoredObject:
        self.reads += 1
        error = self.errors if isinstance(self.errors, Exception) else self.errors.get(name)
        if error is not None:
            raise error
        return super().read(name, limit=limit)


def test_pictures_of_buckets_are_read() -> None:
    opened: list[str] = []
    buckets = {name: Bucket(name) for name in ("one", "two")}

    def open_bucket(name: str) -> Store:
        opened.append(name)
        return buckets[name]

    for bucket in buckets.values():
        for number in range(20):
            bucket.write(f"p/{number} ?#.jpg", f"{bucket.bucket} {number}".encode(), if_generation_match=0)
    uris = [f"gs://{name}/p/{number} ?#.jpg" for name in buckets for number in range(20)]
    found = fetched(*uris, open_bucket=open_bucket)
    assert {uri: one.data for uri, one in found.items()} == {
        f"gs://{name}/p/{number} ?#.jpg": f"{name} {number}".encode() for name in buckets for number in range(20)
    }
    assert sorted(opened) == ["one", "two"]


def test_an_object_that_can_not_be_had_is_a_reason() -> None:
    bucket = Bucket("one", {"denied": AccessDenied("gs://one/denied: 403")})
    bucket.write("large", b"x" * 11, if_generation_match=0)
    bucket.write("there", b"x", if_generation_match=0)
    uris = ["gs://one/none", "gs://one/large", "gs://one/denied", "gs://one/there", "gs://one/", "gs://NO/a", "gs://"]
    found = fetched(*uris, politeness=Politeness(most_bytes=10), open_bucket=lambda _: bucket)
    read = "the picture can't be read: "
    assert {uri: one.reason for uri, one in found.items()} == {
        "gs://one/none": f"{read}gs://one has no such object",
        "gs://one/large": f"{read}it has more than the 10 bytes allowed",
        "gs://one/denied": f"{read}gs://one/denied: 403",
        "gs://one/there": None,
        "gs://one/": f"{read}its URI should be gs://bucket/object",
        "gs://NO/a": f"{read}bucket 'NO': expected a bucket's name, without gs://",
        "gs://": f"{read}its URI should be gs://bucket/object",
    }


@pytest.mark.parametrize("count", [1, 100])
def test_a_bucket_that_lets_nothing_be_read_ends_it(count: int) -> None:
    bucket = Bucket("one", AccessDenied("gs://one: 403"))
    with pytest.raises(AccessDenied):
        fetched(*(f"gs://one/{number}" for number in range(count)), open_bucket=lambda _: bucket)
    assert bucket.reads < 40


def test_a_bucket_that_is_not_available_ends_it() -> None:
    bucket = Bucket("one", {"a": BucketUnavailable("gs://one: 503")})
    with pytest.raises(BucketUnavailable):
        fetched("gs://one/b", "gs://one/a", open_bucket=lambda _: bucket)


def test_a_bucket_that_can_not_be_opened_ends_it() -> None:
    def open_bucket(_: str) -> Store:
        raise AccessDenied("no credentials")

    with pytest.raises(AccessDenied):
        fetched("gs://one/b", open_bucket=open_bucket)


# Whoever iterates


def downloads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "downloads"]


def test_no_pictures_are_no_answers() -> None:
    assert fetched() == {}
    assert not downloads()


def test_closing_ends_what_goes_on_promptly(host: PictureHost) -> None:
    for number in range(1, 10):
        host.always[str(number)] = silence
    asked = (Picture(host.url(str(number)), None) for number in range(10))
    coming = fetch(asked, politeness=QUICK, open_bucket=no_bucket)
    assert next(coming).data
    before = time.monotonic()
    coming.close()
    assert time.monotonic() - before < 30  # they'd be waited for 60 s
    assert not downloads()


def test_what_the_list_raises_comes_out_and_ends_it(host: PictureHost) -> None:
    def broken() -> Iterator[Picture]:
        yield Picture(host.url("a"), None)
        raise ValueError("the list ends here")

    with pytest.raises(ValueError, match="the list ends here"):
        list(fetch(broken(), politeness=QUICK, open_bucket=no_bucket))
    assert not downloads()


def test_a_list_longer_than_what_is_kept_is_read_as_it_is_needed(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    read = 0

    def long() -> Iterator[Picture]:
        nonlocal read
        for _ in range(12_000):
            read += 1
            yield Picture(str(tmp_path / "a"), None)

    coming = fetch(long(), politeness=QUICK, open_bucket=no_bucket)
    next(coming)
    assert read <= 10_000
    assert sum(1 for _ in coming) == 11_999


def test_bytes_in_flight_are_bounded_while_the_caller_takes_its_time(host: PictureHost, tmp_path: Path) -> None:
    size, budget = MIB, 6 * MIB
    (tmp_path / "a").write_bytes(b"x" * size)
    for number in range(30):
        host.always[str(number)] = stream([size])
    polite = Politeness(requests_a_second=1000, connections=4, most_bytes=2 * MIB, bytes_in_flight=budget, robots=False)
    asked = [
        *(Picture(host.url(str(number)), None) for number in range(30)),
        *[Picture(str(tmp_path / "a"), None)] * 30,
    ]
    coming = fetch(asked, politeness=polite, open_bucket=no_bucket)
    first = next(coming)
    sent, waited = -1, 0
    while sent != len(host.arrivals):  # until nothing more is asked for, while nothing is taken
        sent = len(host.arrivals)
        time.sleep(0.5)
        waited += 1
        assert waited < 100
    assert len(host.arrivals) <= budget // size
    assert [len(one.data or b"") for one in (first, *coming)] == [size] * 60
