"""A photo that was embedded is remembered, by the pod and by a Redis that pods share; and nothing is that isn't one."""

from __future__ import annotations

import asyncio
import hashlib
import io
import math
import os
import re
import signal
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from image_embedder import CROPPING, PREPROCESSING
from local_stack.processes import free_port
from model_repository.documents.detector_manifest import GoldenDetection
from model_repository.documents.model_manifest import ModelInput
from model_repository.telemetry.log import Log
from search_server.errors import PictureLost
from search_server.pictures import redis_cache
from search_server.pictures.answers import MADE_BY, fits, name_of, sealed, unsealed
from search_server.pictures.messages import (
    REGION,
    REGIONS,
    UNREADABLE,
    VECTOR,
    Detect,
    DetectorFile,
    Embed,
    ModelFile,
    Prove,
    Question,
)
from search_server.pictures.redis_cache import RedisCache
from search_server.pictures.remembered import RecentAnswers, RememberedPictures
from search_server.processes.pod import PodState
from tests import plain_http
from tests.search_server import test_pictures as pictures
from tests.search_server.redis_server import RedisServer
from tests.search_server.test_pictures import GOOD, children, embedding, search, until, write_model

PHOTO = hashlib.sha256(b"a photo").digest()
ANOTHER_PHOTO = hashlib.sha256(b"another photo").digest()
MODEL = ModelFile("/data/models/a/1/model.onnx", ModelInput(8), True, "a" * 64, 3)
ANOTHER = replace(MODEL, digest="b" * 64, dimensions=2)
DETECTOR = DetectorFile("/data/models/d/1/model.onnx", ModelInput(8), ("Chair", "Lamp", "Plant"), "d" * 64)
EMBED = Embed(MODEL)
DETECT = Detect(DETECTOR, {"Chair": "chairs", "Lamp": "lamps"}, 0.5, {"chairs": MODEL, "lamps": ANOTHER}, MODEL)
A_VECTOR = VECTOR, struct.pack("<3f", 1, 0, 0)
TWO_REGIONS = (
    REGIONS,
    REGION.pack(0, 0.75, 0, 0, 0.5, 0.5)
    + struct.pack("<3f", 1, 0, 0)
    + REGION.pack(1, 0.5, 0, 0, 1, 1)
    + struct.pack("<2f", 0, 1),
)
_HANG = 60.0


# what is remembered of a photo


def test_a_name_stands_for_the_photo_and_for_all_that_makes_its_answer() -> None:
    asked: list[tuple[Question, bytes]] = [
        (EMBED, PHOTO),
        (EMBED, ANOTHER_PHOTO),
        (Embed(ANOTHER), PHOTO),
        (Embed(MODEL, (0, 0, 0.5, 0.5)), PHOTO),
        (Embed(MODEL, (0, 0, 0.5, 1.0)), PHOTO),
        (DETECT, PHOTO),
        (replace(DETECT, detector=replace(DETECTOR, digest="e" * 64)), PHOTO),
        (replace(DETECT, least_score=0.25), PHOTO),
        (replace(DETECT, whole=None), PHOTO),
        (replace(DETECT, categories={"Chair": "chairs"}), PHOTO),
        (replace(DETECT, models={"chairs": MODEL, "lamps": MODEL}), PHOTO),
    ]
    names = [name_of(*each) for each in asked]
    assert None not in names
    assert len(set(names)) == len(asked)


def test_a_name_is_the_same_wherever_the_files_stand() -> None:
    elsewhere = replace(MODEL, path="/elsewhere/model.onnx")
    assert name_of(Embed(elsewhere), PHOTO) == name_of(EMBED, PHOTO)
    turned = replace(DETECT, categories=dict(reversed(DETECT.categories.items())))
    assert name_of(turned, PHOTO) == name_of(DETECT, PHOTO)


def test_a_golden_image_and_what_is_to_be_made_anew_have_no_name() -> None:
    assert name_of(EMBED, b"") is None
    assert name_of(Prove(DETECTOR, GoldenDetection("golden.jpg", ()), 0.5), PHOTO) is None


def test_another_preprocessing_has_other_names() -> None:
    assert f"{PREPROCESSING}/{CROPPING}" == MADE_BY


@pytest.mark.parametrize(("question", "answer"), [(EMBED, A_VECTOR), (DETECT, A_VECTOR), (DETECT, TWO_REGIONS)])
def test_what_was_kept_whole_is_an_answer_and_with_any_byte_changed_it_is_none(
    question: Question, answer: tuple[int, bytes]
) -> None:
    kept = sealed(PHOTO, answer)
    assert unsealed(PHOTO, question, kept) == answer
    assert unsealed(hashlib.sha256(PHOTO).digest(), question, kept) is None
    for at in range(len(kept)):
        spoilt = bytearray(kept)
        spoilt[at] ^= 1
        assert unsealed(PHOTO, question, bytes(spoilt)) is None
        assert unsealed(PHOTO, question, kept[:at]) is None


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        (EMBED, (UNREADABLE, b"no picture")),
        (EMBED, (VECTOR, struct.pack("<2f", 1, 0))),
        (EMBED, (VECTOR, struct.pack("<4f", 1, 0, 0, 0))),
        (EMBED, (VECTOR, struct.pack("<3f", 1, math.nan, 0))),
        (EMBED, (VECTOR, struct.pack("<3f", 1, math.inf, 0))),
        (EMBED, (VECTOR, struct.pack("<3f", 0, -0.0, 0))),
        (EMBED, (REGIONS, TWO_REGIONS[1])),
        (replace(DETECT, whole=None), A_VECTOR),
        (DETECT, (REGIONS, TWO_REGIONS[1][:-1])),
        (DETECT, (REGIONS, TWO_REGIONS[1] + b"\0")),
        (DETECT, (REGIONS, REGION.pack(2, 0.75, 0, 0, 1, 1) + A_VECTOR[1])),
        (DETECT, (REGIONS, REGION.pack(9, 0.75, 0, 0, 1, 1) + A_VECTOR[1])),
        (DETECT, (REGIONS, REGION.pack(0, 0.75, 0, 0, 1, 1.5) + A_VECTOR[1])),
        (DETECT, (REGIONS, REGION.pack(0, math.nan, 0, 0, 1, 1) + A_VECTOR[1])),
    ],
)
def test_what_can_not_be_the_answer_is_none_even_with_a_good_seal(
    question: Question, answer: tuple[int, bytes]
) -> None:
    assert not fits(question, answer)
    assert unsealed(PHOTO, question, sealed(PHOTO, answer)) is None


@given(st.binary(max_size=200), st.sampled_from([EMBED, DETECT]))
def test_garbage_is_never_an_answer(garbage: bytes, question: Question) -> None:
    assert unsealed(PHOTO, question, garbage) is None


@given(st.integers(0, 255), st.binary(max_size=200), st.sampled_from([EMBED, DETECT]))
def test_whatever_has_a_good_seal_is_an_answer_only_if_it_fits(kind: int, said: bytes, question: Question) -> None:
    answer = kind, said
    assert unsealed(PHOTO, question, sealed(PHOTO, answer)) == (answer if fits(question, answer) else None)


def test_what_was_of_no_use_for_the_longest_time_is_forgotten_first() -> None:
    recent = RecentAnswers(3 * (300 + 12))
    names = [bytes([number]) * 32 for number in range(4)]
    for name in names[:3]:
        recent.put(name, A_VECTOR)
    recent.get(names[0])
    recent.put(names[3], A_VECTOR)
    assert [bool(recent.get(name)) for name in names] == [True, False, True, True]
    recent.put(names[3], A_VECTOR)
    assert recent.bytes == 3 * (300 + 12)
    recent.put(names[1], (VECTOR, bytes(1000)))
    assert recent.bytes == 0  # it would take more than all there is


# who is asked


class Embedder:
    """Embeds all photos to the same, once it is let."""

    def __init__(self, answer: tuple[int, bytes] = A_VECTOR) -> None:
        self.turn = asyncio.Lock()
        self.embedded = 0
        self.answer = answer

    async def embed(self, question: Question, picture: Callable[[], Awaitable[bytes]]) -> tuple[int, bytes]:
        del question
        async with self.turn:
            await picture()
            await asyncio.sleep(0)  # meanwhile the others come
            self.embedded += 1
            return self.answer


async def picture() -> bytes:
    return b"a photo"


def test_of_many_same_photos_that_come_at_once_one_is_embedded() -> None:
    async def story() -> None:
        embedder, pod = Embedder(), PodState.create(1)
        remembered = RememberedPictures(embedder, pod)
        answers = await asyncio.gather(*(remembered.answer(EMBED, PHOTO, picture) for _ in range(5)))
        assert answers == [A_VECTOR] * 5
        assert embedder.embedded == 1
        assert (pod.remembered_here, pod.unknown_here) == (0, 5)
        await remembered.answer(EMBED, PHOTO, picture)
        assert (pod.remembered_here, pod.unknown_here, embedder.embedded) == (1, 5, 1)

    uvloop.run(asyncio.wait_for(story(), _HANG))


def test_a_refusal_and_what_does_not_fit_are_not_remembered() -> None:
    async def story() -> None:
        for answer in ((UNREADABLE, b"too large"), (VECTOR, struct.pack("<2f", 1, 0))):
            embedder = Embedder(answer)
            remembered = RememberedPictures(embedder, PodState.create(1))
            assert [await remembered.answer(EMBED, PHOTO, picture) for _ in range(2)] == [answer] * 2
            assert embedder.embedded == 2

    uvloop.run(asyncio.wait_for(story(), _HANG))


# Redis


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return write_model(tmp_path_factory.mktemp("model") / "model.onnx", 1)


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path, free_port())
    server.start()
    yield server
    server.stop()


def run(url: str, story: Callable[[RedisCache, PodState], Awaitable[None]]) -> str:
    """Let a story happen with a client of Redis; returns its log."""
    log = io.StringIO()

    async def main() -> None:
        pod = PodState.create(1)
        cache = RedisCache(url, pod, Log(stream=log), look_seconds=0.02)
        cache.begin()
        try:
            await asyncio.wait_for(story(cache, pod), _HANG)
        finally:
            await cache.close()

    uvloop.run(main())
    return log.getvalue()


def test_what_one_pod_kept_another_has(redis_server: RedisServer) -> None:
    async def keeps(cache: RedisCache, pod: PodState) -> None:
        await until(lambda: bool(pod.shared_well))
        assert await cache.get(PHOTO) is None
        cache.put(PHOTO, b"kept")
        await until(lambda: bool(redis_server.client.dbsize()))

    async def has(cache: RedisCache, pod: PodState) -> None:
        await until(lambda: bool(pod.shared_well))
        assert await cache.get(PHOTO) == b"kept"
        assert (pod.remembered_there, pod.unknown_there) == (1, 0)

    run(redis_server.url, keeps)
    run(redis_server.url, has)
    (key,) = redis_server.client.keys()
    assert redis_server.client.ttl(key) > 0


def test_a_redis_that_hangs_is_waited_for_once_and_asked_again_when_it_answers(redis_server: RedisServer) -> None:
    assert redis_cache._PATIENCE_SECONDS <= 0.05

    async def story(cache: RedisCache, pod: PodState) -> None:
        await until(lambda: bool(pod.shared_well))
        redis_server.halt()
        assert await cache.get(PHOTO) is None
        assert (pod.shared_well, pod.shared_failures) == (0, 1)
        for _ in range(100):
            assert await cache.get(PHOTO) is None
        assert pod.shared_failures == 1  # nobody else asked
        redis_server.go_on()
        await until(lambda: bool(pod.shared_well))
        assert await cache.get(PHOTO) is None
        assert pod.unknown_there == 1

    log = run(redis_server.url, story)
    assert "no answer in 40 ms; photos are embedded without it" in log


def test_a_redis_that_goes_away_and_comes_back_is_asked_again(redis_server: RedisServer) -> None:
    async def story(cache: RedisCache, pod: PodState) -> None:
        await until(lambda: bool(pod.shared_well))
        redis_server.stop()
        assert await cache.get(PHOTO) is None
        assert (pod.shared_well, pod.shared_failures) == (0, 1)
        cache.put(PHOTO, b"dropped")
        assert not cache._writing
        redis_server.start()
        await until(lambda: bool(pod.shared_well))

    run(redis_server.url, story)


def test_a_redis_that_never_was_costs_nothing_and_its_password_is_not_said() -> None:
    async def story(cache: RedisCache, pod: PodState) -> None:
        assert [await cache.get(PHOTO) for _ in range(3)] == [None] * 3
        assert cache._looking is not None
        await asyncio.sleep(0.1)
        assert (pod.shared_well, pod.shared_failures, pod.unknown_there) == (0, 0, 0)

    log = run(f"redis://:hunter2@127.0.0.1:{free_port()}/0", story)
    assert log.count("photos are embedded without it") == 1
    assert "hunter2" not in log


@asynccontextmanager
async def redis_that_says(answers: list[bytes]) -> AsyncIterator[str]:
    """What answers any GET with the first of `answers`, and everything else as Redis does; gives its URL."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while asked := await reader.read(65536):
                for command in re.findall(rb"\*\d+\r\n\$\d+\r\n(\w+)", asked):
                    said = {b"GET": answers[0], b"PING": b"+PONG\r\n", b"HELLO": b"%1\r\n+proto\r\n:3\r\n"}
                    writer.write(said.get(command, b"+OK\r\n"))
                await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"


@pytest.mark.parametrize(
    "nonsense",
    [
        b"$abc\r\n",
        b"$-5\r\n",
        b":" + b"9" * 5000 + b"\r\n",
        b"*1\r\n" * 5000,
        b"x" * 100_000,
        b"?\r\n",
        b"HTTP/1.1 400\r\n",
    ],
)
def test_a_redis_that_answers_nonsense_costs_no_photo_and_is_asked_again_when_it_makes_sense(nonsense: bytes) -> None:
    answers = [b"_\r\n"]

    async def story() -> None:
        pod = PodState.create(1)
        async with redis_that_says(answers) as url:
            cache = RedisCache(url, pod, Log(stream=io.StringIO()), look_seconds=0.02)
            cache.begin()
            await until(lambda: bool(pod.shared_well))
            answers[0] = nonsense
            remembered = RememberedPictures(Embedder(), pod, cache)
            assert await remembered.answer(EMBED, PHOTO, picture) == A_VECTOR
            assert pod.shared_failures >= 1
            assert not pod.shared_well  # also while it is looked at
            await asyncio.sleep(0.2)
            assert not pod.shared_well
            answers[0] = b"_\r\n"
            await until(lambda: bool(pod.shared_well))
            await cache.close()

    uvloop.run(asyncio.wait_for(story(), _HANG))


@pytest.mark.parametrize("setting", ["maxmemory", "replicaof"])
def test_of_a_redis_that_takes_nothing_more_what_it_has_is_asked_for_and_that_is_said_once(
    redis_server: RedisServer, setting: str
) -> None:
    async def story(cache: RedisCache, pod: PodState) -> None:
        await until(lambda: bool(pod.shared_well))
        cache.put(PHOTO, b"kept")
        await until(lambda: bool(redis_server.client.dbsize()))
        if setting == "maxmemory":  # and its policy is to forget nothing
            redis_server.client.config_set("maxmemory", "1")
        else:  # what was the primary is a replica now, of one that can't be reached
            redis_server.client.replicaof("127.0.0.1", 1)
        for number in range(1, 6):
            cache.put(ANOTHER_PHOTO, b"refused")
            await until(lambda number=number: pod.shared_failures == number)
            assert await cache.get(PHOTO) == b"kept"
        if setting == "maxmemory":
            redis_server.client.config_set("maxmemory", "0")
        else:
            redis_server.client.replicaof("NO", "ONE")
        cache.put(ANOTHER_PHOTO, b"taken")
        await until(lambda: redis_server.client.dbsize() == 2)
        assert (pod.shared_well, pod.shared_failures) == (1, 5)

    log = run(redis_server.url, story)
    assert log.count("what is new isn't kept there") == 1
    assert "photos are embedded without it" not in log


def test_answers_that_come_at_once_are_kept_and_redis_is_asked_all_the_while(redis_server: RedisServer) -> None:
    async def story(cache: RedisCache, pod: PodState) -> None:
        await until(lambda: bool(pod.shared_well))
        for number in range(redis_cache._WRITES):
            cache.put(bytes([number]) * 32, b"kept")
        asked = await asyncio.gather(*(cache.get(PHOTO) for _ in range(redis_cache._CONNECTIONS)))
        assert asked == [None] * redis_cache._CONNECTIONS
        await until(lambda: redis_server.client.dbsize() == redis_cache._WRITES)
        assert (pod.shared_well, pod.shared_failures) == (1, 0)

    run(redis_server.url, story)


def test_a_redis_that_lets_nobody_read_is_not_asked_and_that_is_said_once(redis_server: RedisServer) -> None:
    redis_server.client.acl_setuser("default", enabled=True, nopass=True, reset_keys=True, commands=["-get", "+ping"])

    async def story(cache: RedisCache, pod: PodState) -> None:
        await asyncio.sleep(0.5)
        assert (pod.shared_well, pod.shared_failures) == (0, 0)
        assert await cache.get(PHOTO) is None

    log = run(redis_server.url, story)
    assert log.count("photos are embedded without it") == 1


# the real server


def remembered(server: Any) -> dict[tuple[str, str], float]:
    lines = plain_http.get(f"{server.url}/metrics").text.splitlines()
    counts = [line for line in lines if line.startswith("indexpush_search_remembered_photos_total")]
    return {
        (line.split('place="')[1].split('"')[0], line.split('found="')[1].split('"')[0]): float(line.split()[-1])
        for line in counts
    }


def test_a_photo_of_before_is_answered_by_any_worker_while_nobody_can_embed(
    good_build: Any, start: Callable[..., Any]
) -> None:
    server = start(good_build.environment())
    photo = good_build.picture(3)
    first = search(server.url, photo).json()
    (pid,) = embedding(server.process.pid)
    os.kill(pid, signal.SIGSTOP)
    for _ in range(10):  # connections of their own: with two workers, both are asked
        assert search(server.url, photo).json() == first
    assert (remembered(server)["pod", "hit"], remembered(server)["pod", "miss"]) == (10, 1)


def test_a_golden_image_is_embedded_whatever_is_remembered_of_it(
    good_build: Any, start: Callable[..., Any], redis_server: RedisServer
) -> None:
    golden = hashlib.sha256(good_build.picture(4711)).digest()
    (reference,) = good_build.manifest.models
    name = name_of(Embed(replace(MODEL, digest=reference.digest)), golden)
    assert name is not None
    wrong = VECTOR, struct.pack("<48f", 1, *[0] * 47)
    redis_server.client.set(f"indexpush:photo:{name.hex()}", sealed(name, wrong))
    server = start({**good_build.environment(), "CACHE_URL": redis_server.url})  # it has proved itself
    wait_for_the_shared_cache(server)
    own = next(
        worker for worker in children(server.process.pid) if b"search_server.processes.worker" in command(worker)
    )
    os.kill(own, signal.SIGKILL)  # and so does the worker that replaces another, who asks when Redis is well
    wait_for_metric(server, "indexpush_search_worker_deaths_total 1.0")
    wait_for_metric(server, "indexpush_search_ready 1.0")
    search(server.url, good_build.picture(4711))
    assert remembered(server)["shared", "hit"] == 1  # so it was there to be found


def test_what_is_to_be_made_anew_is_not_remembered_and_not_taken_from_what_is(model: Any) -> None:
    async def story(pod: Any) -> None:
        await pod.client.embed(model, GOOD)
        (pid,) = pod.pids
        os.kill(pid, signal.SIGSTOP)
        pod.processes._deadline_seconds = 0.2
        assert await pod.client.embed(model, GOOD)
        with pytest.raises(PictureLost):
            await pod.client.embed(model, GOOD, remembered=False)

    pictures.run(story)


def test_pods_share_what_they_remember_and_garbage_is_embedded_anew(
    good_build: Any, start: Callable[..., Any], redis_server: RedisServer
) -> None:
    environment = {**good_build.environment(), "CACHE_URL": redis_server.url}
    photo = good_build.picture(3)
    first = start(environment)
    wait_for_the_shared_cache(first)
    answer = search(first.url, photo).json()
    assert remembered(first)["shared", "miss"] == 1
    (key,) = wait_for_keys(redis_server)
    second = start(environment)
    wait_for_the_shared_cache(second)
    (pid,) = embedding(second.process.pid)
    os.kill(pid, signal.SIGSTOP)
    assert search(second.url, photo).json() == answer
    assert remembered(second)["shared", "hit"] == 1
    redis_server.client.set(key, b"\x00" + os.urandom(4 * 48))
    third = start(environment)
    wait_for_the_shared_cache(third)
    assert search(third.url, photo).json() == answer
    assert remembered(third)["shared", "garbled"] == 1


def wait_for_the_shared_cache(server: Any) -> None:
    wait_for_metric(server, "indexpush_search_shared_cache_up 1.0")


def wait_for_metric(server: Any, line: str) -> None:
    while line not in plain_http.get(f"http://127.0.0.1:{server.probe_port}/metrics").text:
        time.sleep(0.05)


def command(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def wait_for_keys(redis_server: RedisServer) -> Any:
    while not (keys := redis_server.client.keys()):
        time.sleep(0.05)
    return keys


def test_a_wrong_cache_url_is_said_without_its_password(good_build: Any, start: Callable[..., Any]) -> None:
    server = start({**good_build.environment(), "CACHE_URL": "http://:hunter2@cache.example"}, wait=False)
    status, log = server.wait()
    assert status == 64
    assert "CACHE_URL: expected redis://" in str(log)
    assert "hunter2" not in str(log)
