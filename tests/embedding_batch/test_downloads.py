"""Pictures by their URLs from a real HTTP server that counts: politely, conditionally, within limits."""

from __future__ import annotations

import gzip
import hashlib
import itertools
import time
from email.utils import formatdate

import pytest
from aiohttp import web

from embedding_batch.pictures import Picture, Politeness, fetch
from tests.embedding_batch import picture_host
from tests.embedding_batch.fetching import fetched, no_bucket, pictures_asked, reason, the_one
from tests.embedding_batch.picture_host import (
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


def test_robots_txt_can_be_left_unread_for_ones_own_hosts(host: PictureHost) -> None:
    host.always["robots.txt"] = status(200, text="User-agent: *\nDisallow: /")
    assert the_one(host.url("a"), Politeness(robots=False, requests_a_second=1000)).data
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


def test_a_host_that_is_slow_by_its_own_word_holds_nobody_up_for_longer_than_is_stated() -> None:
    with hosting("127.0.0.1") as slow, hosting("127.0.0.2") as silent, hosting("127.0.0.3") as other:
        slow.always["robots.txt"] = status(200, text="User-agent: *\nCrawl-delay: 100")
        silent.always["robots.txt"] = silence
        other.always = {"a": moved(silent.url("a")), "b": status(503, {"Retry-After": "100"})}
        urls = [slow.url(str(number)) for number in range(9)] + [silent.url("b"), other.url("a"), other.url("b")]
        polite = Politeness(requests_a_second=1000, longest_fetch=2.0, whole_seconds=4.0)
        found = fetched(*urls, other.url("c"), politeness=polite)
    for url in urls:
        assert found[url].may_pass
        assert "asked again next time" in str(found[url].reason) or "can't be read now" in str(found[url].reason)


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
