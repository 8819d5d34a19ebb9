"""How much a host is asked: values in time, with the clock in hand."""

from __future__ import annotations

import bisect
import itertools
import tracemalloc
from datetime import UTC, datetime
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from protego import Protego
from yarl import URL

from embedding_batch.pictures.hosts import FAILURES, Host, Request
from embedding_batch.pictures.picture import Picture
from embedding_batch.pictures.politeness import MIB, Pace, Politeness, TokenBucket, backoff, retry_after
from embedding_batch.pictures.robots import EVERYTHING, read_robots, unreachable

NOW = datetime(2026, 11, 27, 9, 0, tzinfo=UTC)


def test_a_bucket_gives_its_burst_at_once_and_then_its_rate() -> None:
    bucket = TokenBucket(rate=10, burst=2, tokens=2, at=0)
    for _ in range(2):
        assert bucket.wait(0) == 0
        bucket = bucket.take(0)
    assert bucket.wait(0) == pytest.approx(0.1)
    assert bucket.wait(0.06) == pytest.approx(0.04)
    assert bucket.wait(0.1) == 0


def test_a_bucket_keeps_no_more_than_its_burst() -> None:
    bucket = TokenBucket(rate=10, burst=2, tokens=0, at=0).take(1000).take(1000)
    assert bucket.wait(1000) > 0


def sends(pace: Pace, delays: list[float], until: float) -> list[tuple[float, float]]:
    """(sent, answered) of requests that are sent as soon as the pace allows; the answers take these delays."""
    now, done, open_ = 0.0, [], []
    for delay in delays:
        while (wait := pace.wait(now)) > 0 or (open_ and min(open_) <= now):
            answered = min(open_, default=float("inf"))
            now = min(now + wait, answered) if wait > 0 else now
            if open_ and answered <= now:
                open_.remove(answered)
                pace.answered(now)
            if now > until:
                return done
        pace.sent(now)
        open_.append(now + delay)
        done.append((now, now + delay))
    return done


@given(
    rate=st.sampled_from([0.1, 0.5, 1.0, 2.5, 10.0, 100.0]),
    latencies=st.lists(st.floats(0, 5), min_size=1, max_size=60),
    chance=st.randoms(use_true_random=False),
)
def test_a_host_never_sees_more_than_its_limit_in_any_second_however_requests_are_deferred(
    rate: float, latencies: list[float], chance: Random
) -> None:
    pace = Pace(rate, 0.0)
    requests = sends(pace, latencies, until=10_000)
    assert len(requests) == len(latencies)
    arrivals = sorted(chance.uniform(sent, answered) for sent, answered in requests)
    for number, begin in enumerate(arrivals):
        seen = bisect.bisect_right(arrivals, begin + 1 - 1e-6) - number
        assert seen <= max(1, int(rate))


@pytest.mark.parametrize(("rate", "spacing"), [(0.1, 10), (1, 1), (5, 0.2)])
def test_requests_are_spaced_evenly(rate: float, spacing: float) -> None:
    sent = [begin for begin, _ in sends(Pace(rate, 0.0), [0.0] * 5, until=100)]
    assert [later - earlier for earlier, later in itertools.pairwise(sent)] == pytest.approx([spacing] * 4, abs=2e-3)


def test_a_crawl_delay_is_respected_as_the_lower_rate() -> None:
    pace = Pace(10, 0.0)
    pace.sent(0.0)
    pace.answered(0.1)
    pace.slow_down(1 / 4, 0.1)
    assert pace.wait(0.1) == pytest.approx(4)
    pace.slow_down(5, 0.1)
    assert pace.wait(0.1) == pytest.approx(4)


@given(tries=st.integers(1, 1000), seed=st.integers())
def test_a_pause_between_tries_has_full_jitter_and_an_end(tries: int, seed: int) -> None:
    assert 0 <= backoff(tries, 7.0, Random(seed)) <= min(7.0, 0.5 * 2 ** min(tries, 30))


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        (" 0 ", 0.0),
        ("Fri, 27 Nov 2026 09:01:30 GMT", 90.0),
        ("Fri, 27 Nov 2026 08:00:00 GMT", 0.0),
        ("Fri, 27 Nov 2026 09:00:05 -0000", 5.0),
        ("", None),
        ("soon", None),
        ("-1", None),
        ("1.5", None),
        ("\u0663", None),
        ("9" * 5000, 999999999999.0),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str, seconds: float | None) -> None:
    assert retry_after(value, NOW) == seconds


@given(st.text())
def test_a_retry_after_of_any_letters_is_seconds_or_none(value: str) -> None:
    seconds = retry_after(value, NOW)
    assert seconds is None or seconds >= 0


def host(**changes: object) -> Host:
    return Host("shop.example", Politeness(**{"requests_a_second": 100.0, **changes}), 0.0, Random(1))  # type: ignore[arg-type]


def request(name: str = "a") -> Request:
    return Request(Picture(f"https://shop.example/{name}", None), URL(f"https://shop.example/{name}"))


def test_a_host_that_asks_for_a_pause_gets_it() -> None:
    shop = host()
    shop.add(request("a"))
    shop.add(request("b"))
    first = shop.take(0.0)
    shop.pace.answered(0.1)
    assert shop.fails(first, 0.1, 30.0)
    assert shop.wait(0.1) == pytest.approx(30)
    assert shop.wait(30.2) == 0


def test_no_pause_is_longer_than_the_longest() -> None:
    shop = host(longest_pause=20.0)
    shop.add(request())
    first = shop.take(0.0)
    shop.pace.answered(0.1)
    shop.fails(first, 0.0, 3600.0)
    assert shop.wait(0.1) <= 20


def test_what_failed_is_asked_again_before_what_still_waits_once_it_is_due() -> None:
    shop = host()
    failed = request("failed")
    shop.add(failed)
    for number in range(5):
        shop.add(request(str(number)))
    assert shop.take(0.0) is failed
    shop.pace.answered(0.0)
    shop.fails(failed, 0.0, None)
    assert shop.take(1.1) is failed


def test_tries_are_bounded() -> None:
    shop = host(tries=3)
    failing = request()
    shop.add(failing)
    now = 0.0
    for again in (True, True, False):
        now += shop.wait(now)
        taken = shop.take(now)
        shop.pace.answered(now)
        assert shop.fails(taken, now, None) is again
    assert not shop.waits


def fail_all(shop: Host, count: int, *, good_at: int | None = None) -> Request:
    """Let so many requests fail, one after another; the number good_at is answered. The last that lost its tries."""
    for number in range(count):
        shop.add(request(str(number)))
    now, lost, asked = 0.0, request(), 0
    while shop.waits:
        now += shop.wait(now)
        taken = shop.take(now)
        shop.pace.answered(now)
        asked += 1
        if asked == good_at:
            shop.answers(now)
        elif not shop.fails(taken, now, None):
            lost = taken
            if shop.is_hopeless(lost):
                break
    return lost


def test_a_host_where_nothing_works_is_given_up() -> None:
    shop = host()
    assert shop.is_hopeless(fail_all(shop, 1000))
    left = shop.give_up("it is down")
    assert len(left) > 900
    assert not shop.waits


def test_a_host_that_was_given_up_is_not_asked_again_for_what_was_on_its_way() -> None:
    shop = host(tries=5)
    for name in "ab":
        shop.add(request(name))
    on_its_way = shop.take(0.0)
    shop.give_up("it is slow")
    assert not shop.fails(on_its_way, 0.0, None)
    assert not shop.waits


def test_a_host_with_a_few_pictures_that_fail_is_not_given_up() -> None:
    shop = host(tries=5)
    assert not shop.is_hopeless(fail_all(shop, (FAILURES - 1) // 5))


def test_a_host_that_gave_one_answer_meanwhile_is_not_given_up() -> None:
    shop = host()
    failing = [request(str(number)) for number in range(FAILURES)]
    for one in failing:
        shop.add(one)
    now = 0.0
    for _ in failing:
        now += shop.wait(now)
        taken = shop.take(now)
        shop.pace.answered(now)
        shop.fails(taken, now, None)
    shop.answers(now)
    assert not shop.is_hopeless(failing[0])


def test_many_failures_one_after_another_make_a_host_rest() -> None:
    shop = host(connections_a_host=2)
    for number in range(100):
        shop.add(request(str(number)))
    now = 0.0
    for _ in range(40):
        now += shop.wait(now)
        taken = shop.take(now)
        shop.pace.answered(now)
        shop.fails(taken, now, None)
    assert now > 30  # at its rate: 0.4 s


ROBOTS = b"""
User-agent: indexpush
Disallow: /private/
Crawl-delay: 3

User-agent: *
Disallow: /
"""


def test_robots_txt_is_read_for_this_program() -> None:
    mine = read_robots(ROBOTS, "indexpush", 120.0)
    assert mine.delay == 3
    assert mine.refuses("https://shop.example/a.jpg", "indexpush") is None
    assert "'indexpush'" in (mine.refuses("https://shop.example/private/a.jpg", "indexpush") or "")
    assert read_robots(ROBOTS, "another", 120.0).refuses("https://shop.example/a.jpg", "another")


def test_a_host_that_asks_for_longer_pauses_than_anybody_waits_is_left_alone() -> None:
    refusal = read_robots(b"User-agent: *\nCrawl-delay: 86400", "indexpush", 120.0).refuses("https://a/b", "indexpush")
    assert refusal is not None
    assert "86400 s" in refusal


def test_where_no_robots_txt_is_all_is_allowed_and_where_nobody_knows_nothing_is() -> None:
    assert EVERYTHING.refuses("https://a/b", "indexpush") is None
    assert "answered 503" in (unreachable("a answered 503").refuses("https://a/b", "indexpush") or "")


@pytest.mark.parametrize(
    "line", ["User-agent: bot-{}", "User agent bot-{}", "useragent : *{}*", "User-Agent:\tindexpush{}"]
)
def test_thousands_of_programs_above_thousands_of_rules_take_no_more_than_their_text(line: str) -> None:
    agents = "\r".join(line.format("*" * (number % 100) + str(number)) for number in range(1000))
    rules = "\n".join(f"Disallow: /{number}/" for number in range(1000))
    tracemalloc.start()
    try:
        robots = read_robots(f"{agents}\n{rules}\n\nUser-agent: *\nDisallow: /a".encode(), "indexpush", 120.0)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 4 * MIB  # each rule for each program: 64 MiB
    assert robots.refuses("https://shop.example/a.jpg", "indexpush")
    assert robots.refuses("https://shop.example/7/b.jpg", "indexpush") is None


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("User-agent: other\nUser-agent: IndexPush # ours\nUser-agent: third\nDisallow: /", True),
        ("User-agent: indexpush*\nDisallow: /", True),
        ("User-agent: index\nDisallow: /", True),
        ("User-agent: other\nDisallow: /\n\nUser-agent: indexpush\nAllow: /", False),
        ("User-agent: other\nUser-agent: *\nDisallow: /", True),
        ("User-agent: indexpush2\nDisallow: /", False),
        ("User-agent: indexpush\nDisallow: /b\nUser-agent: other\nDisallow: /a", False),
        ("User-agent:\nDisallow: /", False),
        ("User-agent: *\nDisallow: /user-agent", False),
    ],
)
def test_a_robots_txt_that_names_others_says_the_same_to_this_program(text: str, refused: bool) -> None:
    asked = ("https://shop.example/a.jpg", "indexpush")
    assert (read_robots(text.encode(), "indexpush", 120.0).refuses(*asked) is not None) is refused
    assert Protego.parse(text).can_fetch(*asked) is not refused


@given(st.binary(max_size=2000))
def test_any_bytes_are_a_robots_txt(body: bytes) -> None:
    read_robots(body, "indexpush", 120.0).refuses("https://shop.example/a.jpg", "indexpush")


def test_every_connection_has_room_for_a_picture_however_many_there_are() -> None:
    assert Politeness(connections=300, bytes_in_flight=256 * MIB).room == (300 + 32) * MIB
    assert Politeness(connections=4).room == 256 * MIB


def test_the_default_stays_below_the_ports_that_a_nat_gives_a_machine() -> None:
    assert Politeness().connections < 64
