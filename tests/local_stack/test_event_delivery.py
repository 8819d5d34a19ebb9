from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import google.api_core.exceptions
import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import pubsub_v1, storage

from local_stack import bucket_server, processes
from local_stack.delivery import DeliveryPolicy, PushDelivery, cloud_event, next_wait
from local_stack.pubsub import Message, PubSubServer, Topics, topic_name
from tests.answering import Answer, Asked, http_server

TOPIC = topic_name("local", "commits")
QUICK = DeliveryPolicy(first_wait=0.02, longest_wait=0.1, give_up_after=10)


@dataclass
class Receiver:
    """A real HTTP server that answers POSTs with the statuses it is given, and then with 204."""

    url: str = ""
    statuses: list[int] = field(default_factory=list)
    received: list[tuple[Mapping[str, str], bytes]] = field(default_factory=list)
    arrived: threading.Condition = field(default_factory=threading.Condition)

    def wait_for(self, count: int, timeout: float = 60.0) -> list[tuple[Mapping[str, str], bytes]]:
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.received) >= count, timeout), self.received
            return list(self.received)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    it = Receiver()

    def answer(asked: Asked) -> Answer:
        with it.arrived:
            it.received.append((asked.headers, asked.body))
            it.arrived.notify_all()
            return Answer(status=it.statuses.pop(0) if it.statuses else 204)

    with http_server(answer) as url:
        it.url = f"{url}/"
        yield it


def message(number: int = 1) -> Message:
    return Message(str(number), TOPIC, b'{"name": "x"}', {"objectId": "x"}, datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))


@dataclass
class Bucket:
    url: str
    pubsub: PubSubServer
    topics: Topics

    def upload(self, name: str, data: bytes) -> int:
        os.environ.pop("STORAGE_EMULATOR_HOST", None)
        anonymous = AnonymousCredentials()  # type: ignore[no-untyped-call]
        client = storage.Client("local", anonymous, client_options={"api_endpoint": self.url})
        blob = client.bucket("repository").blob(name)
        blob.upload_from_string(data, if_generation_match=None)
        return int(blob.generation)


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bucket]:
    folder = tmp_path_factory.mktemp("bucket")
    topics = Topics()
    topics.create(TOPIC)
    pubsub = PubSubServer(topics)
    pubsub.start()
    port = processes.free_port()
    events = bucket_server.EventTopic(pubsub.address, "local", "commits")
    running = processes.RunningProgram.start(
        bucket_server.program(folder / "root", folder / "logs" / "bucket.log", port, events)
    )
    running.wait_ready()
    url = f"http://127.0.0.1:{port}"
    bucket_server.create_bucket(url, "repository")
    bucket_server.create_bucket(url, "repository")
    yield Bucket(url, pubsub, topics)
    running.stop()
    pubsub.stop()


def test_a_commit_uploaded_to_the_real_bucket_server_arrives_as_a_cloud_event(
    bucket: Bucket, receiver: Receiver
) -> None:
    delivery = PushDelivery(receiver.url, "projects/local/subscriptions/commits", QUICK)
    bucket.topics.subscribe(
        TOPIC, lambda message: delivery.deliver(message) if bucket_server.is_notified(message) else None
    )

    bucket.upload("indexes/chairs/one/index.json", b"{}")
    generation = bucket.upload("commits/production/chairs.json", b'{"index_prefix": "indexes/chairs/one"}')

    ((headers, body),) = receiver.wait_for(1)
    assert headers["ce-type"] == "google.cloud.pubsub.topic.v1.messagePublished"
    assert headers["ce-source"] == "//pubsub.googleapis.com/projects/local/topics/commits"
    event = json.loads(body)
    assert event["subscription"] == "projects/local/subscriptions/commits"
    attributes = event["message"]["attributes"]
    assert attributes["eventType"] == "OBJECT_FINALIZE"
    assert (attributes["bucketId"], attributes["objectId"]) == ("repository", "commits/production/chairs.json")
    assert attributes["objectGeneration"] == str(generation)
    assert json.loads(base64.b64decode(event["message"]["data"]))["bucket"] == "repository"


def test_the_same_object_uploaded_again_has_a_new_generation_and_a_new_event(bucket: Bucket) -> None:
    first = bucket.upload("commits/production/lamps.json", b"same")
    second = bucket.upload("commits/production/lamps.json", b"same")

    assert second > first
    found = bucket.topics.wait_for(TOPIC, lambda m: m.attributes.get("objectGeneration") == str(second), 60)
    assert found is not None


def test_googles_publisher_client_publishes_to_a_known_topic_only(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", bucket.pubsub.address)
    publisher = pubsub_v1.PublisherClient()
    notify = publisher.topic_path("local", "notify")

    with pytest.raises(google.api_core.exceptions.NotFound, match="notify: no such topic"):
        publisher.publish(notify, b"lost").result(timeout=10)
    publisher.create_topic(name=notify)
    with pytest.raises(google.api_core.exceptions.AlreadyExists):
        publisher.create_topic(name=notify)
    publisher.publish(notify, b"rejected", index="chairs").result(timeout=10)

    (kept,) = bucket.topics.messages(notify)
    assert (kept.data, kept.attributes) == (b"rejected", {"index": "chairs"})


def test_an_event_that_is_not_acknowledged_comes_again_until_it_is(receiver: Receiver) -> None:
    receiver.statuses[:] = [500, 503, 429]
    delivery = PushDelivery(receiver.url, "s", QUICK)

    delivery.deliver(message())

    assert delivery.wait_for(lambda attempt: attempt.acknowledged, 60) is not None
    assert [(attempt.number, attempt.status) for attempt in delivery.attempts()] == [
        (1, 500),
        (2, 503),
        (3, 429),
        (4, 204),
    ]
    assert len({headers["ce-id"] for headers, _ in receiver.received}) == 1


def test_an_event_for_a_receiver_that_is_not_there_yet_waits_for_it() -> None:
    delivery = PushDelivery(f"http://127.0.0.1:{processes.free_port()}/", "s", QUICK)

    delivery.deliver(message())

    assert delivery.wait_for(lambda attempt: attempt.number == 3, 60) is not None
    assert {attempt.status for attempt in delivery.attempts()} == {0}
    delivery.stop()


def test_delivery_ends_when_its_time_is_up(receiver: Receiver) -> None:
    receiver.statuses[:] = [500] * 1000
    delivery = PushDelivery(receiver.url, "s", DeliveryPolicy(0.02, 0.05, give_up_after=1.0))

    delivery.deliver(message())
    for thread in threading.enumerate():
        if thread.name == "delivery":
            thread.join(60)
            assert not thread.is_alive()

    assert len(delivery.attempts()) >= 2


def test_a_share_of_the_events_comes_twice(receiver: Receiver) -> None:
    delivery = PushDelivery(receiver.url, "s", DeliveryPolicy(duplicates=1.0, seed=3))

    for number in range(4):
        delivery.deliver(message(number))

    receiver.wait_for(8)
    assert delivery.wait_for(lambda _attempt: len(delivery._attempts) == 8, 60) is not None
    assert sum(attempt.duplicate for attempt in delivery.attempts()) == 4


def test_one_slow_event_does_not_hold_up_the_others(receiver: Receiver) -> None:
    receiver.statuses[:] = [500]
    delivery = PushDelivery(receiver.url, "s", DeliveryPolicy(first_wait=1.0))

    delivery.deliver(message(1))
    receiver.wait_for(1)
    delivery.deliver(message(2))

    first = delivery.wait_for(lambda attempt: attempt.acknowledged, 60)
    assert first is not None
    assert first.message.id == "2"
    delivery.stop()


def test_a_lost_event_is_never_seen(receiver: Receiver) -> None:
    delivery = PushDelivery(receiver.url, "s", QUICK, lose=lambda it: it.id == "1")

    delivery.deliver(message(1))
    delivery.deliver(message(2))

    assert delivery.wait_for(lambda attempt: attempt.acknowledged, 60) is not None
    assert [headers["ce-id"] for headers, _ in receiver.received] == ["2"]


def test_a_delivery_that_forgets_loses_what_waits_and_delivers_what_comes(receiver: Receiver) -> None:
    receiver.statuses[:] = [500]
    delivery = PushDelivery(receiver.url, "s", DeliveryPolicy(first_wait=600.0, longest_wait=600.0))

    delivery.deliver(message(1))
    assert delivery.wait_for(lambda attempt: attempt.status == 500, 60) is not None
    waiting = [thread for thread in threading.enumerate() if thread.name == "delivery"]
    delivery.forget()
    for thread in waiting:
        thread.join(60)
        assert not thread.is_alive()
    delivery.deliver(message(2))

    assert delivery.wait_for(lambda attempt: attempt.acknowledged, 60) is not None
    assert [headers["ce-id"] for headers, _ in receiver.received] == ["1", "2"]


def test_back_off_doubles_up_to_a_bound_and_has_jitter() -> None:
    policy = DeliveryPolicy(first_wait=1.0, longest_wait=5.0)

    assert [next_wait(policy, attempt, 0.0) for attempt in (1, 2, 3, 4, 99_999)] == [0.5, 1.0, 2.0, 2.5, 2.5]
    assert next_wait(policy, 2, 0.5) == 1.5


def test_a_cloud_event_carries_what_eventarc_sends() -> None:
    headers, body = cloud_event(message(), "projects/local/subscriptions/commits")

    assert headers["ce-time"] == "2026-01-02T03:04:05.000Z"
    assert headers["ce-specversion"] == "1.0"
    assert headers["traceparent"].startswith("00-")
    assert json.loads(body)["message"]["publishTime"] == "2026-01-02T03:04:05.000Z"


def test_a_program_that_ends_at_once_is_reported_with_its_last_words(tmp_path: Path) -> None:
    running = processes.RunningProgram.start(
        processes.Program(
            name="broken",
            command=(sys.executable, "-c", "import sys; sys.exit('no such configuration')"),
            environment=processes.base_environment(),
            log=tmp_path / "broken.log",
            ready_url=f"http://127.0.0.1:{processes.free_port()}/",
        )
    )

    with pytest.raises(processes.ProgramFailed, match=r"broken ended with status 1; .*no such configuration"):
        running.wait_ready()


def test_programs_end_with_the_stack_even_if_it_is_killed(
    tmp_path: Path, stop_later: Callable[[Callable[[], None]], None]
) -> None:
    script = (
        "import subprocess, sys, signal, time\n"
        "from local_stack.processes import ending_with_us\n"
        "sleep = (sys.executable, '-c', 'import time; time.sleep(60)')\n"
        "child = subprocess.Popen(ending_with_us(sleep, signal.SIGTERM))\n"
        f"open({str(tmp_path / 'pid')!r} + '.new', 'w').write(str(child.pid))\n"
        f"import os; os.rename({str(tmp_path / 'pid')!r} + '.new', {str(tmp_path / 'pid')!r})\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script])
    stop_later(lambda: kill(parent))
    deadline = time.monotonic() + 60
    while not (tmp_path / "pid").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    child = int((tmp_path / "pid").read_text())
    time.sleep(0.3)  # until it has become the program

    os.kill(parent.pid, signal.SIGKILL)

    while time.monotonic() < deadline and _runs(child):
        time.sleep(0.02)
    assert not _runs(child)


def kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
