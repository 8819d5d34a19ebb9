"""Pictures to somebody who takes his time, breaks off, or has more of them than is kept."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from embedding_batch.pictures import Picture, Politeness, fetch
from embedding_batch.pictures.politeness import MIB
from tests.embedding_batch.fetching import QUICK, fetched, no_bucket
from tests.embedding_batch.picture_host import (
    PictureHost,
    silence,
    stream,
)


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
