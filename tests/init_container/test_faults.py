"""Every fault of network, bucket and disk: the right exit code, one line that says so, no half result."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import signal
import socket
import threading
import time
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest

from init_container.config import Config
from init_container.crc32c import Buffer
from init_container.disk.files import FileJob
from init_container.network.credentials import from_environment
from init_container.network.downloader import Downloader
from init_container.network.jobs import SmallObject
from init_container.pull import Stopped, pull, stopping
from model_repository.errors import BucketUnavailable
from tests.init_container.faulty_bucket import (
    Fault,
    FaultyBucket,
    Reply,
    close_early,
    drip,
    falter,
    flip,
    late_refusal,
    lie,
    nonsense,
    range_dropped,
    reset,
    silence,
    stall,
    status,
    transcoded,
    wrong_length,
    wrong_range,
)
from tests.init_container.pull_scene import MIB, Build, Puller, make_build
from tests.init_container.spoiling_proxy import on_both_servers

PASSING: dict[str, Fault] = {
    "reset in the middle": reset(0.5),
    "reset at the beginning": reset(0.0),
    "closed early": close_early,
    "stalled": stall,
    "never answered": silence,
    "dripping": drip,
    "408": status(408),
    "429": status(429),
    "500": status(500),
    "502": status(502),
    "503": status(503),
    "504": status(504),
    "206 with another range": wrong_range,
    "200 to a ranged request": range_dropped,
    "a wrong Content-Length": wrong_length,
    "transcoded": transcoded,
    "flipped in flight": flip,
    "not HTTP": nonsense,
    "401": status(401),
    "403": status(403),
    "a redirect": status(302, Location="http://elsewhere.example/"),
    "a length of 4,500 digits": lie(Content_Length="9" * 4500),
    "a range of 4,500 digits": lie(Content_Range=f"bytes 0-{'9' * 4500}/5"),
    "a wait of 4,500 digits, refused": lie(status="401 No", Retry_After="9" * 4500, Content_Length="9" * 4500),
    "a status that is no number": lie(status="\u00b2\u00b2\u00b2 OK"),
}


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING.keys())
@on_both_servers
def test_a_fault_that_passes_is_got_over(fault: Fault, bucket: FaultyBucket, build: Build, puller: Puller) -> None:
    bucket.fail(fault, times=2, match="big.ann")
    outcome = puller.run(STALL_SECONDS="1")
    assert outcome.code == 0, outcome.lines
    puller.check_whole(build)


@pytest.mark.parametrize(
    "fault", [reset(0.5), close_early, status(503), nonsense], ids=["reset", "closed", "503", "nonsense"]
)
@on_both_servers
def test_a_fault_of_the_manifest_that_passes_is_got_over(
    fault: Fault, bucket: FaultyBucket, build: Build, puller: Puller
) -> None:
    bucket.fail(fault, times=2, match="index.json")
    assert puller.run().code == 0
    puller.check_whole(build)


def test_a_byte_flipped_in_a_long_file_costs_its_block_not_the_file(bucket: FaultyBucket, puller: Puller) -> None:
    build = make_build({"big.ann": 100 * MIB})
    for name, data in build.objects.items():
        bucket.put(name, data)
    bucket.fail(flip, times=1, match="big.ann")
    outcome = puller.run(INDEX_DIGEST=build.digest)
    assert outcome.code == 0, outcome.lines
    puller.check_whole(build)
    assert bucket.sent < (100 + 32 + 1) * MIB


def test_a_connection_that_falters_but_goes_on_is_kept(
    tls_bucket: FaultyBucket, puller: Puller, authority: tuple[Path, Path]
) -> None:
    build = make_build({"big.ann": 64 * MIB})
    for name, data in build.objects.items():
        tls_bucket.put(name, data)
    tls_bucket.fail(falter, times=float("inf"), match="big.ann")
    outcome = puller.run(
        INDEX_DIGEST=build.digest, STORAGE_EMULATOR_HOST=tls_bucket.url, SSL_CERT_FILE=str(authority[0]), RANGE_MIB="32"
    )
    assert outcome.code == 0, outcome.lines
    assert outcome.lines[-1]["retries"] == 0, outcome.lines
    puller.check_whole(build)


LASTING: dict[str, tuple[Fault, int, str]] = {
    "always 503": (status(503), os.EX_TEMPFAIL, "503"),
    "always reset": (reset(0.0), os.EX_TEMPFAIL, "gave up"),
    "always silent": (silence, os.EX_TEMPFAIL, "no byte"),
    "always another range": (wrong_range, os.EX_TEMPFAIL, "asked for bytes"),
    "Range always dropped": (range_dropped, os.EX_TEMPFAIL, "drops the Range header"),
    "always transcoded": (transcoded, os.EX_TEMPFAIL, "without a length"),
    "always flipped": (flip, os.EX_DATAERR, "crc32c"),
    "401": (status(401), os.EX_TEMPFAIL, "anonymous"),
    "403": (status(403), os.EX_TEMPFAIL, "403"),
    "404": (status(404), os.EX_DATAERR, "no such object"),
    "412, though no precondition was sent": (status(412), os.EX_TEMPFAIL, "412"),
    "304": (status(304), os.EX_TEMPFAIL, "304"),
    "400": (status(400), os.EX_TEMPFAIL, "400"),
    "a redirect": (status(302, Location="http://elsewhere.example/"), os.EX_TEMPFAIL, "not followed"),
    "always lengths of 4,500 digits": (lie(Content_Length="9" * 4500), os.EX_TEMPFAIL, "length None"),
    "always ranges of 4,500 digits": (lie(Content_Range=f"bytes 0-{'9' * 4500}/5"), os.EX_TEMPFAIL, "Content-Range"),
    "416": (status(416), os.EX_DATAERR, "416"),
}


@pytest.mark.parametrize(("fault", "code", "said"), LASTING.values(), ids=LASTING.keys())
@on_both_servers
def test_a_fault_that_lasts_ends_with_its_code_and_its_reason(
    fault: Fault, code: int, said: str, bucket: FaultyBucket, puller: Puller
) -> None:
    bucket.fail(fault, times=float("inf"), match="big.ann")
    outcome = puller.run(ATTEMPTS="3", STALL_SECONDS="1")
    assert outcome.code == code, outcome.lines
    assert "big.ann" in outcome.message
    assert said in outcome.message
    assert outcome.last_words == outcome.message
    assert [line["severity"] for line in outcome.lines].count("ERROR") == 1
    puller.check_nothing_there()


def test_a_refused_connection_is_tried_again_and_then_given_up(puller: Puller) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    outcome = puller.run(STORAGE_EMULATOR_HOST=f"http://127.0.0.1:{port}", ATTEMPTS="3")
    assert outcome.code == os.EX_TEMPFAIL
    assert "after 3 tries" in outcome.message
    puller.check_nothing_there()


@on_both_servers
def test_the_deadline_bounds_everything(bucket: FaultyBucket, puller: Puller) -> None:
    bucket.fail(status(503, Retry_After="1"), times=float("inf"), match="big.ann")
    began = time.monotonic()
    outcome = puller.run(DEADLINE_SECONDS="2", ATTEMPTS="100")
    assert outcome.code == os.EX_TEMPFAIL
    assert "deadline" in outcome.message
    assert time.monotonic() - began < 60  # 100 attempts, a second apart, would take longer


def test_a_deadline_s_last_words_say_what_was_met_last(bucket: FaultyBucket, puller: Puller) -> None:
    bucket.fail(lambda reply: reply.status(403, body=REASON.encode()), times=float("inf"))
    config = Config.from_environment(puller.environment(ATTEMPTS="100"))
    with closing(Downloader(config, from_environment({}, anonymous=True))) as downloader:

        def end_after_the_first() -> None:
            if downloader.backoff.retries:
                downloader.deadline = 0.0

        downloader.tick = end_after_the_first
        with pytest.raises(BucketUnavailable, match=f"deadline passed .*{REASON}"):
            downloader.run(SmallObject("o", 100))


@on_both_servers
def test_retry_after_is_honoured(bucket: FaultyBucket, build: Build, puller: Puller) -> None:
    bucket.fail(status(429, Retry_After="1"), match="index.json")
    assert puller.run().code == 0
    first, second = bucket.asked("index.json")[:2]
    assert second.at - first.at >= 1
    puller.check_whole(build)


def test_a_few_small_files_are_not_asked_for_one_after_another(bucket: FaultyBucket, puller: Puller) -> None:
    build = make_build({"big.ann": 6 * MIB, **{f"small/{number}.bin": 1 for number in range(3)}})
    for name, data in build.objects.items():
        bucket.put(name, data)
    all_asked = threading.Barrier(3)

    def slow(reply: Reply) -> None:
        with contextlib.suppress(threading.BrokenBarrierError):
            all_asked.wait(30)
        reply.whole()

    bucket.fail(slow, times=3, match="small/")
    assert puller.run(INDEX_DIGEST=build.digest, STALL_SECONDS="60").code == 0
    puller.check_whole(build)
    assert not all_asked.broken


def test_connections_for_the_files_open_while_index_json_is_on_its_way(
    bucket: FaultyBucket, build: Build, puller: Puller
) -> None:
    opened = threading.Event()

    def late(reply: Reply) -> None:
        until = time.monotonic() + 30
        while bucket.most < 4 and time.monotonic() < until:
            time.sleep(0.01)
        if bucket.most >= 4:
            opened.set()
        reply.whole()

    bucket.fail(late, match="index.json")
    assert puller.run(STALL_SECONDS="60").code == 0
    puller.check_whole(build)
    assert opened.is_set()


def test_retries_are_spread_and_grow(bucket: FaultyBucket, puller: Puller) -> None:
    bucket.fail(status(503), times=float("inf"), match="index.json")
    puller.run(ATTEMPTS="5")
    asked = [request.at for request in bucket.asked("index.json")]
    assert len(asked) == 5
    gaps = [later - earlier for earlier, later in pairwise(asked)]
    assert len({round(gap, 2) for gap in gaps}) > 1


REASON = "Request is prohibited by organization's policy. vpcServiceControlsUniqueIdentifier: a1"
GOOGLE_S = json.dumps({"error": {"code": 403, "message": REASON, "errors": []}}, indent=1).encode()


@pytest.mark.parametrize(
    "body",
    [
        lambda reply: reply.status(403, body=GOOGLE_S),
        lambda reply: reply.status(403, {"Content-Encoding": "gzip"}, gzip.compress(GOOGLE_S)),
        lambda reply: reply.status(403, body=REASON.encode()),
        late_refusal(403, GOOGLE_S),
        lambda reply: reply.send(
            b"HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(GOOGLE_S), GOOGLE_S)
        ),
    ],
    ids=["Google's JSON", "the same as gzip", "a text", "after its head", "a chunk"],
)
def test_the_last_words_give_the_server_s_own_reason(body: Fault, bucket: FaultyBucket, puller: Puller) -> None:
    bucket.fail(body, times=float("inf"), match="index.json")
    outcome = puller.run(ATTEMPTS="2")
    assert outcome.code == os.EX_TEMPFAIL, outcome.lines
    assert f"answered 403 ({REASON})" in outcome.last_words
    assert outcome.lines[-1]["code"] == "access-denied"


@pytest.mark.parametrize("body", [b"", b"[" * 4000, b'{"error": 5}', b"\x1f\x8bno", bytes(range(256)) * 50])
def test_a_refusal_that_makes_no_sense_is_a_refusal(body: bytes, bucket: FaultyBucket, puller: Puller) -> None:
    bucket.fail(lambda reply: reply.status(403, body=body), times=float("inf"), match="index.json")
    outcome = puller.run(ATTEMPTS="2")
    assert outcome.code == os.EX_TEMPFAIL, outcome.lines
    assert "answered 403" in outcome.message


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("MODEL_REPOSITORY", "s3://a-bucket"),
        ("MODEL_REPOSITORY", ""),
        ("INDEX_PREFIX", "indexes/../b1"),
        ("INDEX_DIGEST", "sha256:0"),
        ("DESTINATION", "relative"),
        ("DESTINATION", "/no/such/volume/current"),
        ("CONNECTIONS", "many"),
        ("STORAGE_EMULATOR_HOST", "ftp://host"),
        ("STORAGE_EMULATOR_HOST", "http://[::1"),
        ("STORAGE_EMULATOR_HOST", "http://host:port"),
        ("CONNECTIONS", "9" * 4500),
        ("DEADLINE_SECONDS", "nan"),
        ("DESTINATION", "/data/" + "x" * 300),
    ],
)
def test_a_setting_that_makes_no_sense_is_named(setting: str, value: str, puller: Puller) -> None:
    outcome = puller.run(**{setting: value})
    assert outcome.code == os.EX_USAGE
    assert setting in outcome.message


def test_sigterm_ends_a_pull_that_is_at_work_on_a_connection_s_bytes(
    bucket: FaultyBucket, build: Build, puller: Puller, monkeypatch: pytest.MonkeyPatch
) -> None:
    receive = FileJob.receive

    def told_to_go(job: FileJob, buffer: Buffer, start: int, end: int) -> None:
        monkeypatch.undo()
        os.kill(os.getpid(), signal.SIGTERM)
        receive(job, buffer, start, end)

    monkeypatch.setattr(FileJob, "receive", told_to_go)
    with stopping(), pytest.raises(Stopped, match="SIGTERM"):
        pull(Config.from_environment(puller.environment()), puller.environment())
    puller.check_nothing_there()
    assert bucket.sent
    assert puller.run().code == 0
    puller.check_whole(build)


@on_both_servers
def test_sigterm_ends_at_once_and_the_next_pull_goes_on(bucket: FaultyBucket, build: Build, puller: Puller) -> None:
    bucket.rate = 1e6
    process = puller.start()
    while bucket.sent < 2e6:
        time.sleep(0.01)
    bucket.rate = 1e3  # what is left would take longer than anybody waits
    process.send_signal(signal.SIGTERM)
    outcome = puller.finish(process)
    assert outcome.code == os.EX_TEMPFAIL
    assert "SIGTERM" in outcome.message
    puller.check_nothing_there()
    bucket.rate = 0
    assert puller.run().code == 0
    puller.check_whole(build)
