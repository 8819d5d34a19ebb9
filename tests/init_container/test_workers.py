"""The processes besides the first: what they share, how they end, and that a pull needs none of them."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import google_crc32c
import pytest

from init_container.crc32c import Buffer
from init_container.disk.files import Files
from init_container.disk.layout import DiskTrouble
from init_container.disk.parts import Parts
from init_container.disk.spans import Span, Spans
from init_container.plan import Plan, Wanted
from init_container.processes.ledger import Ledger
from init_container.processes.workers import Tell, Workers, processes_for
from init_container.progress import Counts
from init_container.pull import Stopped, stopping
from model_repository.errors import DeliveryError, ObjectMissing
from tests.init_container.process_scene import children, exists
from tests.init_container.pull_scene import MIB


def _buffer(data: bytes) -> Buffer:
    buffer = Buffer(len(data))
    buffer.view[:] = data
    return buffer


def _never() -> float:
    return time.monotonic() + 30


def _descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@pytest.mark.parametrize(
    ("size", "files", "available", "expected"),
    [
        (10**10, 3, 1, 1),
        (10**10, 3, 2, 2),
        (10**10, 3, 64, 4),
        (50 * MIB, 3, 8, 1),
        (130 * MIB, 3, 8, 2),
        (100 * MIB, 4000, 8, 4),
        (0, 0, 8, 1),
    ],
)
def test_a_process_is_forked_only_where_it_is_worth_it(size: int, files: int, available: int, expected: int) -> None:
    assert processes_for(size, files, available) == expected


def test_processes_that_share_a_cursor_get_every_byte_once(tmp_path: Path) -> None:
    missing = [Span(0, 100, 50 * MIB), Span(1, 0, 7), Span(2, 5, 9 * MIB), *(Span(n, 0, 1000) for n in range(3, 400))]
    with closing(Ledger(3, 0)) as ledger:

        def take_some(tell: Tell) -> None:
            dice, spans, lines = random.Random(os.getpid()), Spans(missing, ledger), ""
            while span := spans.take(dice.randrange(1, 100_000)):
                lines += f"{span.file} {span.start} {span.end}\n"
            (tmp_path / str(os.getpid())).write_text(lines)
            tell(Counts(received=1))

        with Workers(ledger, take_some) as workers:
            workers.start(3)
            workers.wait(lambda: None, _never())
            assert workers.counts == Counts(received=3)
    taken = sorted(tuple(map(int, line.split())) for path in tmp_path.iterdir() for line in path.open())
    at, left = iter(taken), sorted((span.file, span.start, span.end) for span in missing)
    for file, start, end in left:
        reached = start
        while reached < end:
            piece = next(at)
            assert piece[:2] == (file, reached)
            reached = piece[2]
        assert reached == end
    assert next(at, None) is None


def test_the_first_generation_that_was_said_is_everybody_s() -> None:
    with closing(Ledger(1, 5)) as ledger:
        assert ledger.pinned(4) is None

        def pin(_: Tell) -> None:
            ledger.pin(4, 1_700_000_000_000_001)

        with Workers(ledger, pin) as workers:
            workers.start(1)
            workers.wait(lambda: None, _never())
        assert ledger.pin(4, 1_700_000_000_000_002) == 1_700_000_000_000_001
        ledger.rewind()
        assert [ledger.pinned(number) for number in range(5)] == [None] * 4 + [1_700_000_000_000_001]


def test_a_worker_may_have_lost_more_than_it_found() -> None:
    with closing(Ledger(2, 3)) as ledger:
        ledger.count(1, Counts(have=-16 * MIB, received=5))
        assert (ledger.counted(0), ledger.counted(1)) == (Counts(), Counts(have=-16 * MIB, received=5))
        assert [ledger.pinned(number) for number in range(3)] == [None] * 3


def test_what_came_back_is_taken_again_by_the_process_that_gave_it_back() -> None:
    cursor = Ledger(0, 20)
    here, there = Spans([Span(0, 0, 9 * MIB)], cursor), Spans([Span(0, 0, 9 * MIB)], cursor)
    first = here.take(4 * MIB)
    assert first == Span(0, 0, 4 * MIB)
    here.give_back(first)
    assert (here.left, there.left) == (9 * MIB, 5 * MIB)
    assert there.take(5 * MIB) == Span(0, 4 * MIB, 9 * MIB)
    assert here.peek() == 4 * MIB
    assert here.take(MIB) == Span(0, 0, MIB)
    assert here.take(5 * MIB) == Span(0, MIB, 4 * MIB)
    assert (here.take(MIB), here.left, here.peek()) == (None, 0, 0)


@pytest.mark.parametrize("error", [ObjectMissing("indexes/shop/b1/p.ann"), DiskTrouble("index/p.ann: no room")])
def test_a_worker_s_error_is_the_pull_s(error: DeliveryError) -> None:
    def fail(_: Tell) -> None:
        raise error

    with closing(Ledger(1, 0)) as ledger, Workers(ledger, fail) as workers:
        workers.start(1)
        with pytest.raises(type(error)) as raised:
            workers.wait(lambda: None, _never())
    assert str(raised.value) == str(error)
    assert raised.value.code == error.code


def test_a_defect_in_a_worker_is_said_and_got_over(capfd: pytest.CaptureFixture[str]) -> None:
    def fail(_: Tell) -> None:
        raise RuntimeError("a defect")

    with closing(Ledger(1, 0)) as ledger, Workers(ledger, fail) as workers:
        workers.start(1)
        workers.wait(lambda: None, _never())
    assert "RuntimeError: a defect" in capfd.readouterr().err


def test_no_worker_is_left_when_the_first_process_fails() -> None:
    before, started, began = set(children(os.getpid())), set[int](), time.monotonic()

    def fail_beside_workers() -> None:
        with closing(Ledger(2, 0)) as ledger, Workers(ledger, lambda _: time.sleep(60)) as workers:
            workers.start(2)
            started.update(children(os.getpid()))
            raise KeyError("the first's own error")

    with pytest.raises(KeyError, match="own error"):
        fail_beside_workers()
    assert len(started - before) == 2
    assert not any(map(exists, started - before))
    assert time.monotonic() - began < 50  # ended, not waited for: they would take 60


@pytest.fixture(params=[False, True], ids=["the-only-thread", "beside-a-thread"])
def bystander(request: pytest.FixtureRequest) -> Iterator[None]:
    """Perhaps another thread: the kernel gives it the signals that this one doesn't want."""
    enough = threading.Event()
    if request.param:
        threading.Thread(target=enough.wait, args=(60,), daemon=True).start()
    yield
    enough.set()


@pytest.mark.usefixtures("bystander")
def test_a_signal_in_the_middle_of_a_fork_leaves_no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    before, started, began = set(children(os.getpid())), set[int](), time.monotonic()
    fork = os.fork

    def fork_and_be_told_to_stop() -> int:
        process = fork()
        if process:
            started.add(process)
            os.kill(os.getpid(), signal.SIGTERM)
        return process

    monkeypatch.setattr(os, "fork", fork_and_be_told_to_stop)
    with (
        closing(Ledger(3, 0)) as ledger,
        stopping(),
        pytest.raises(Stopped),
        Workers(ledger, lambda _: time.sleep(60)) as workers,
    ):
        workers.start(3)
    assert len(started) == 1
    assert not any(map(exists, started))
    assert set(children(os.getpid())) == before
    assert time.monotonic() - began < 50  # ended, not waited for: they would take 60


def test_a_worker_that_never_ends_is_waited_for_until_the_deadline() -> None:
    began = time.monotonic()
    with closing(Ledger(1, 0)) as ledger, Workers(ledger, lambda _: time.sleep(60)) as workers:
        workers.start(1)
        workers.wait(lambda: None, began + 0.2)
    assert 0.2 <= time.monotonic() - began < 50  # the worker would take 60


def test_where_no_process_can_be_forked_the_pull_does_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> int:
        raise BlockingIOError("the limit of processes is reached")

    monkeypatch.setattr(os, "fork", refuse)
    with closing(Ledger(2, 0)) as ledger, Workers(ledger, lambda _: None) as workers:
        workers.start(2)
        workers.wait(lambda: None, _never())
        assert workers.counts == Counts()


def _plan(*contents: bytes) -> Plan:
    files = tuple(
        Wanted(f"o{number}", f"index/f{number}", len(data), google_crc32c.value(data))
        for number, data in enumerate(contents)
    )
    return Plan("sha256:x", {}, files)


def _in_a_child(work: Callable[[], None]) -> None:
    with closing(Ledger(1, 0)) as ledger, Workers(ledger, lambda _: work()) as workers:
        workers.start(1)
        workers.wait(lambda: None, _never())


def test_what_several_processes_wrote_is_gathered_from_their_notes(tmp_path: Path) -> None:
    data = random.Random(7).randbytes(100_000)
    buffer = _buffer(data)
    with closing(Parts(tmp_path, _plan(data))) as parts:
        parts.write(0, 0, buffer, 0, 10_000)
        parts.share()

        def write() -> None:
            # grows the part from before, and begins one of its own
            parts.write(0, 10_000, buffer, 10_000, 30_000)
            parts.flush()
            parts.write(0, 70_000, buffer, 70_000, 90_000)
            parts.flush()

        _in_a_child(write)
        parts.write(0, 30_000, buffer, 30_000, 70_000)
        parts.flush()
        parts.gather()
        assert parts.have == 90_000
        assert parts.missing() == [Span(0, 90_000, 100_000)]
        assert parts.write(0, 90_000, buffer, 90_000, 100_000)
        assert parts.crc32c(0) == google_crc32c.value(data)
    assert (tmp_path / "index" / "f0").read_bytes() == data


def test_what_a_process_found_wrong_is_gathered_too(tmp_path: Path) -> None:
    data = random.Random(8).randbytes(10_000)
    right, wrong = _buffer(data), _buffer(bytes(10_000))
    with closing(Parts(tmp_path, _plan(data, data))) as parts:
        parts.share()

        def write_twice() -> None:
            for number in range(2):
                assert parts.write(number, 0, wrong, 0, 10_000)
                parts.flush()
                assert parts.forget(number) == [Span(number, 0, 10_000)]
                parts.flush()
            parts.write(1, 0, right, 0, 6_000)
            parts.flush()

        _in_a_child(write_twice)
        parts.gather()
        assert parts.missing() == [Span(0, 0, 10_000), Span(1, 6_000, 10_000)]


def test_a_note_cut_short_by_a_kill_hides_no_other(tmp_path: Path) -> None:
    data = random.Random(9).randbytes(10_000)
    with closing(Parts(tmp_path, _plan(data))) as parts:
        parts.share()
        parts.write(0, 0, _buffer(data), 0, 4_000)
        parts.flush()
        journal = tmp_path / ".journal"
        note = journal.read_bytes()[-28:]
        journal.open("ab").write(note[:19])
        parts.write(0, 5_000, _buffer(data), 5_000, 10_000)
        parts.flush()
        parts.gather()
        assert parts.missing() == [Span(0, 4_000, 5_000)]
    with closing(Parts(tmp_path, _plan(data))) as again:
        assert again.missing() == [Span(0, 4_000, 5_000)]


def test_room_is_made_before_there_are_several_who_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    allocated: list[int] = []
    monkeypatch.setattr(os, "posix_fallocate", lambda _fd, _start, size: allocated.append(size))
    data = random.Random(10).randbytes(5 * MIB)
    with closing(Parts(tmp_path, _plan(data, b"small", b""))) as parts:
        parts.allocate()
        assert allocated == [5 * MIB]
        assert (tmp_path / "index" / "f2").read_bytes() == b""
        parts.write(0, 0, _buffer(data), 0, MIB)
        parts.shut(0)
        parts.write(0, MIB, _buffer(data), MIB, 5 * MIB)
        assert allocated == [5 * MIB]


def test_a_file_that_nobody_here_fetches_from_is_not_kept_open(tmp_path: Path) -> None:
    contents = [random.Random(number).randbytes(30_000) for number in range(20)]
    ledger, here = Ledger(0, 20), _descriptors()
    with closing(Parts(tmp_path, _plan(*contents))) as parts:
        files = Files(_plan(*contents), parts, ledger, range_bytes=10_000)
        for number in range(20):
            job = files.take(0, 1)
            assert job is not None
            assert (job.span.start, job.span.end) == (0, 10_000)
            job.receive(_buffer(contents[number]), 0, 10_000)
            ledger.advance(lambda _: 20_000)  # the rest of the file is another process's
        assert files.finished
        assert not files.whole
        assert _descriptors() <= here + 1  # the journal
