"""The puller's decisions, without a network or a disk."""

from __future__ import annotations

import random
from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import google_crc32c
import pytest

from init_container import crc32c
from init_container.config import Config
from init_container.disk.files import Files
from init_container.disk.parts import Parts
from init_container.disk.spans import SMALLEST, Span, Spans, span_bytes, steal
from init_container.network.answers import (
    AnswerMalformed,
    Busy,
    Head,
    check_range,
    check_status,
    parse_head,
    retry_after,
)
from init_container.network.backoff import Backoff
from init_container.network.pipeline import Pipeline
from init_container.network.transport import Connection
from init_container.plan import Plan, Wanted, plan_pull
from init_container.processes.ledger import Ledger
from init_container.pull import MANIFEST_LIMIT
from model_repository.documents.index_manifest import INDEX_MANIFEST_LIMIT
from model_repository.errors import BuildIncomplete, Misconfigured, PermanentError, TransientError
from tests import builds
from tests.memory_store import MemoryStore

MIB = 1024 * 1024
NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
ENVIRONMENT = {"MODEL_REPOSITORY": "gs://bucket", "INDEX_PREFIX": "indexes/shop/b1", "DESTINATION": "/data/current"}


def _buffer(data: bytes) -> crc32c.Buffer:
    buffer = crc32c.Buffer(max(len(data), 1))
    buffer.view[: len(data)] = data
    return buffer


def test_models_and_detector_are_pulled_with_the_index() -> None:
    store = MemoryStore()
    manifest = builds.publish_build(store, detector=builds.publish_detector(store))
    plan = plan_pull(manifest, "sha256:0")
    assert {file.path for file in plan.files} == {
        *(f"index/{file.name}" for file in manifest.files),
        *(f"models/{name}/v1/{file}" for name in ("lite", "ssd") for file in ("model.json", "model.onnx")),
    }
    assert set(plan.model_digests) == {"models/lite/v1/model.json", "models/ssd/v1/model.json"}


def test_sums_of_slices_are_google_s() -> None:
    data = random.Random(1).randbytes(10_000)
    buffer = _buffer(data)
    assert crc32c.extend(0, buffer, 0, 0) == 0
    assert crc32c.extend(0, buffer, 3, 9_999) == google_crc32c.value(data[3:9_999])
    assert crc32c.extend(google_crc32c.value(b"abc"), buffer, 5, 50) == google_crc32c.value(b"abc" + data[5:50])


@pytest.mark.parametrize("cut", [0, 1, 7, 4096, 99_999, 100_000])
def test_the_sums_of_two_parts_make_the_sum_of_the_whole(cut: int) -> None:
    data = random.Random(2).randbytes(100_000)
    first, second = google_crc32c.value(data[:cut]), google_crc32c.value(data[cut:])
    assert crc32c.combine(first, second, len(data) - cut) == google_crc32c.value(data)


def test_parts_longer_than_four_gigabytes_combine() -> None:
    zeros = google_crc32c.value(bytes(MIB))
    crc, length = zeros, MIB
    for _ in range(13):  # 8 GiB by doubling
        crc, length = crc32c.combine(crc, crc, length), 2 * length
    again = zeros
    for _ in range(5):
        again = crc32c.combine(again, zeros, MIB)
    six = crc32c.combine(crc32c.combine(zeros, zeros, MIB), zeros, MIB)
    assert again == crc32c.combine(six, six, 3 * MIB)
    assert crc32c.combine(crc, zeros, MIB) == crc32c.combine(zeros, crc, length)


def test_a_slow_connection_is_asked_for_less_than_a_fast_one() -> None:
    slow, fast = span_bytes(10e6, 10**10, 8), span_bytes(100e6, 10**10, 8)
    assert slow == 20_000_000
    assert fast == 200_000_000


def test_requests_shrink_towards_the_end_so_that_all_connections_finish_together() -> None:
    left, sizes = 10**9, []
    while left > 0:
        sizes.append(min(span_bytes(500e6, left, 8), left))
        left -= sizes[-1]
    assert sizes[0] == 62_500_000
    assert sizes[-2] == SMALLEST
    assert sizes == sorted(sizes, reverse=True)


def test_every_byte_is_given_out_exactly_once_whatever_fails() -> None:
    dice = random.Random(3)
    spans = Spans([Span(0, 0, 50 * MIB), Span(1, 5, 9 * MIB)], Ledger(0, 20))
    working: list[Span] = []
    fetched: list[tuple[int, int, int]] = []
    while spans.left or working:
        if (span := spans.take(dice.randrange(SMALLEST, 8 * MIB))) is not None:
            working.append(span)
        if dice.random() < 0.3 and (half := steal(dice.choice(working))) is not None:
            working.append(half)
        span = working.pop(dice.randrange(len(working)))
        step = dice.choice([0, span.left, dice.randrange(span.left + 1)])
        fetched.append((span.file, span.start, span.start + step))
        span.start += step
        spans.give_back(span)
    for file, first, last in ((0, 0, 50 * MIB), (1, 5, 9 * MIB)):
        pieces = sorted((start, end) for number, start, end in fetched if number == file and end > start)
        assert (pieces[0][0], pieces[-1][1]) == (first, last)
        assert all(earlier[1] == later[0] for earlier, later in pairwise(pieces))


def test_a_rest_that_is_not_worth_a_request_goes_with_the_last_one() -> None:
    spans = Spans([Span(0, 0, 5 * MIB)], Ledger(0, 20))
    first = spans.take(4 * MIB)
    assert first is not None
    assert first.left == 5 * MIB
    assert spans.take(4 * MIB) is None


class _Answered(Connection):
    """A connection on which the whole answer has come already."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self.alarm = 1

    def send(self, data: bytes) -> None:
        pass

    def read_into(self, view: memoryview, *, sip: bool = False) -> int:
        del sip
        count = min(len(view), len(self._answer))
        view[:count] = self._answer[:count]
        self._answer = self._answer[count:]
        return count

    def come(self, data: bytes) -> None:
        self._answer += data

    def wake_at(self, size: int) -> None:
        self.alarm = size

    @property
    def buffered(self) -> bool:
        return bool(self._answer)


class _Range:
    """A job that keeps where in the file each piece of it ended."""

    name = "o"
    ranged = True
    generation = None

    def __init__(self, start: int, end: int) -> None:
        self.span = Span(0, start, end)
        self.ends: list[int] = []

    def begin(self, head: Head) -> int:
        assert head.status == 206
        return self.span.left

    def receive(self, buffer: crc32c.Buffer, start: int, end: int) -> None:
        assert bytes(buffer.view[start:end]) == bytes(end - start)
        self.span.start += end - start
        self.ends.append(self.span.start)


@pytest.mark.parametrize("start", [0, 1000, 512 * 1024 - 1])
def test_what_is_written_ends_with_a_block_of_the_file(start: int) -> None:
    size = 3_000_000
    head = f"HTTP/1.1 206 Partial Content\r\nContent-Length: {size}\r\n\r\n".encode()
    pipeline = Pipeline(_Answered(head + bytes(size)), 0.0)
    job = _Range(start, start + size)
    pipeline.ask([job], b"", "", 0.0)
    pipeline.pump(crc32c.Buffer(), lambda *_: None)
    _, *blocks, last = job.ends
    assert last == start + size
    assert len(blocks) >= 4
    assert all(end % (512 * 1024) == 0 for end in blocks)


def test_a_fast_connection_wakes_us_for_whole_blocks_and_a_slow_or_nearly_done_one_for_every_byte() -> None:
    block = 512 * 1024
    connection = _Answered(f"HTTP/1.1 206 Partial Content\r\nContent-Length: {8 * block}\r\n\r\n".encode())
    pipeline = Pipeline(connection, 0.0)
    pipeline.ask([_Range(0, 8 * block)], b"", "", 0.0)

    def alarm_after(blocks: int, now: float) -> int:
        connection.come(bytes(blocks * block))
        pipeline.pump(crc32c.Buffer(), lambda *_: None)
        pipeline.measure(now)
        return connection.alarm

    assert connection.alarm == 1  # nobody knows yet how fast it is
    assert alarm_after(2, 0.05) == block
    assert alarm_after(1, 0.10) == block
    assert [alarm_after(0, 0.15), alarm_after(0, 0.20)][-1] == 1  # it slowed down
    assert alarm_after(3, 0.25) == block
    assert alarm_after(1, 0.30) == 1  # less than two blocks to come


def test_an_index_json_is_held_in_memory_up_to_the_contract_s_own_limit() -> None:
    assert MANIFEST_LIMIT == INDEX_MANIFEST_LIMIT


@pytest.mark.parametrize("status", [301, 304, 307, 400, 401, 403, 405, 408, 410, 412, 429, 500, 502, 503, 504])
def test_what_may_pass_is_transient(status: int) -> None:
    with pytest.raises(TransientError):
        check_status("o", Head(status, {}))


@pytest.mark.parametrize("status", [404, 416])
def test_only_what_follows_from_bytes_is_permanent(status: int) -> None:
    with pytest.raises(PermanentError):
        check_status("o", Head(status, {}))


def test_retry_after_is_read_as_seconds_and_as_a_date() -> None:
    assert retry_after("3", NOW) == 3
    assert retry_after("Sat, 21 Nov 2026 12:00:05 GMT", NOW) == 5
    assert retry_after("Sat, 21 Nov 2026 11:00:00 GMT", NOW) == 0
    assert retry_after("86400", NOW) == 60
    assert retry_after("soon", NOW) is None
    assert retry_after("9" * 4500, NOW) == 60
    assert retry_after("Sat, 21 Nov 2026 12:00:05 +" + "9" * 13, NOW) is None
    with pytest.raises(Busy) as busy:
        check_status("o", Head(503, {"retry-after": "7"}), now=NOW)
    assert busy.value.wait == 7


def test_a_head_is_read_whatever_its_case() -> None:
    head = parse_head(
        b"HTTP/1.1 206 Partial Content\r\nX-GOOG-HASH: crc32c=AAAAAA==\r\nx-goog-hash: md5=x\r\nContent-Length: 5"
    )
    assert (head.status, head.length, head.crc32c) == (206, 5, "AAAAAA==")
    with pytest.raises(AnswerMalformed):
        parse_head(b"220 smtp ready")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content-range": "bytes 0-9/*", "content-length": "10"},
        {"content-range": "bytes 10-20/100", "content-length": "10"},
        {"content-range": "bytes 10-19/100", "content-length": "11"},
        {"content-range": "bytes 0-9/100", "content-length": "10"},
    ],
)
def test_a_range_that_was_not_asked_for_is_not_taken(headers: Mapping[str, str]) -> None:
    with pytest.raises(AnswerMalformed):
        check_range("o", Head(206, headers), 100, 10, 20)


def test_a_range_of_an_object_of_another_size_is_bad_data() -> None:
    with pytest.raises(BuildIncomplete):
        check_range("o", Head(206, {"content-range": "bytes 10-19/99", "content-length": "10"}), 100, 10, 20)
    check_range("o", Head(206, {"content-range": "bytes 10-19/100", "content-length": "10"}), 100, 10, 20)
    check_range("o", Head(200, {"content-length": "100"}), 100, 0, 100)


def test_waits_double_with_incidents_not_with_connections() -> None:
    backoff = Backoff(lambda: 1.0)
    for _ in range(16):  # sixteen connections fail at once
        backoff.failed(now=10.0, sent_at=9.0, wait=None)
    assert backoff.not_before == pytest.approx(10.2)
    backoff.failed(now=11.0, sent_at=10.5, wait=None)
    assert backoff.not_before == pytest.approx(11.4)
    backoff.succeeded()
    backoff.failed(now=20.0, sent_at=19.0, wait=None)
    assert backoff.not_before == pytest.approx(20.2)
    assert backoff.retries == 18


def test_a_thousand_troubles_in_a_row_are_no_more_than_ten() -> None:
    backoff = Backoff(lambda: 1.0)
    for second in range(2000):
        backoff.failed(now=float(second), sent_at=float(second), wait=None)
    assert backoff.not_before == 1999 + 8


def test_no_wait_is_longer_than_eight_seconds_unless_the_server_asks() -> None:
    backoff = Backoff(lambda: 1.0)
    for second in range(0, 3000, 100):
        backoff.failed(now=float(second), sent_at=second - 1.0, wait=None)
        assert backoff.not_before <= second + 8
    backoff.failed(now=5000.0, sent_at=4999.0, wait=30.0)
    assert backoff.not_before >= 5030


def test_the_emulator_s_host_means_no_credentials() -> None:
    config = Config.from_environment({**ENVIRONMENT, "STORAGE_EMULATOR_HOST": "localhost:9000"})
    assert (config.endpoint, config.anonymous) == ("http://localhost:9000", True)
    assert not Config.from_environment(ENVIRONMENT).anonymous


@pytest.mark.parametrize(
    ("no_proxy", "proxy"),
    [
        ("", "http://p:3128"),
        ("storage.googleapis.com", ""),
        (".googleapis.com", ""),
        ("*", ""),
        ("apis.com", "http://p:3128"),
    ],
)
def test_the_proxy_follows_the_environment(no_proxy: str, proxy: str) -> None:
    config = Config.from_environment({**ENVIRONMENT, "HTTPS_PROXY": "http://p:3128", "NO_PROXY": no_proxy})
    assert config.proxy == proxy


@pytest.mark.parametrize("missing", ENVIRONMENT)
def test_a_missing_setting_is_named(missing: str) -> None:
    with pytest.raises(Misconfigured, match=missing):
        Config.from_environment({name: value for name, value in ENVIRONMENT.items() if name != missing})


def test_parts_that_come_in_any_order_make_the_file_s_sum(tmp_path: Path) -> None:
    data = random.Random(4).randbytes(1_000_000)
    plan = Plan("sha256:x", "sha256:y", (Wanted("o", "index/f", len(data), google_crc32c.value(data)),))
    parts = Parts(tmp_path, plan)
    buffer = _buffer(data)
    cuts = [0, 1, 5000, 400_000, 400_001, 999_999, 1_000_000]
    pieces = list(pairwise(cuts))
    random.Random(5).shuffle(pieces)
    whole = [parts.write(0, start, buffer, start, end) for start, end in pieces]
    assert whole == [False] * 5 + [True]
    assert parts.crc32c(0) == plan.files[0].crc32c
    assert (tmp_path / "index" / "f").read_bytes() == data


@pytest.mark.parametrize("status", [200, 206])
def test_a_job_that_is_cut_before_its_answer_begins_takes_what_was_asked_for(status: int, tmp_path: Path) -> None:
    size = 2 * SMALLEST
    data = random.Random(7).randbytes(size)
    plan = Plan("sha256:x", "sha256:y", (Wanted("o", "index/f", size, google_crc32c.value(data)),))
    files = Files(plan, Parts(tmp_path, plan), Ledger(0, 20), range_bytes=size)
    head = f"HTTP/1.1 {status} X\r\nContent-Length: {size}\r\nContent-Range: bytes 0-{size - 1}/{size}\r\n\r\n"
    half_size = size // 2
    half_head = (
        f"HTTP/1.1 206 X\r\nContent-Length: {half_size}\r\nContent-Range: bytes {half_size}-{size - 1}/{size}\r\n\r\n"
    )
    slow, connection, buffer = files.take(0.0, 1), _Answered(b""), crc32c.Buffer(2 * size)
    assert slow is not None
    assert slow.span.left == size
    pipeline = Pipeline(connection, 0.0)
    pipeline.ask([slow], b"", "", 0.0)
    half = files.split(slow)
    assert half is not None
    connection.come(head.encode() + data)
    pipeline.pump(buffer, lambda: None)
    assert pipeline.doomed, "the second half would come on it, too"
    assert (slow.span.left, half.span.left) == (0, half_size)
    relief = Pipeline(_Answered(half_head.encode() + data[half_size:]), 0.0)
    relief.ask([half], b"", "", 0.0)
    relief.pump(buffer, lambda: None)
    assert files.finished
    assert files.whole
    assert not relief.doomed
    assert (tmp_path / "index" / "f").read_bytes() == data


def test_a_journal_gives_back_what_was_noted_and_no_more(tmp_path: Path) -> None:
    data = random.Random(6).randbytes(100_000)
    plan = Plan("sha256:x", "sha256:y", (Wanted("o", "index/f", len(data), google_crc32c.value(data)),))
    buffer = _buffer(data)
    parts = Parts(tmp_path, plan)
    parts.write(0, 10_000, buffer, 10_000, 20_000)
    parts.flush()
    parts.write(0, 50_000, buffer, 50_000, 60_000)
    parts.close()
    again = Parts(tmp_path, plan)
    assert again.missing() == [Span(0, 0, 10_000), Span(0, 20_000, 100_000)]
    again.write(0, 20_000, buffer, 20_000, 100_000)
    assert again.write(0, 0, buffer, 0, 10_000)
    assert again.crc32c(0) == plan.files[0].crc32c
    again.close()
    other = Parts(tmp_path, Plan("sha256:z", "sha256:y", plan.files))
    assert other.missing() == [Span(0, 0, 100_000)]
