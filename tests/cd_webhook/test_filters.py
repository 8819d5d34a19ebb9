"""Filters: which pods are told, when a filter is in force, and what is written of it."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

import pytest

from cd_webhook.filters import FilterNotInForce, Filters
from cd_webhook.pod_client import Told, tell_pod
from model_repository.bucket.store import ObjectInfo
from model_repository.documents.items.item_filter import FILTER_LIMIT, LiveFilter, parse_last_good_filter
from model_repository.documents.receipts.filter_receipt import FilterReceipt
from model_repository.errors import BucketUnavailable, ObjectMissing
from model_repository.names import Target
from model_repository.notify import NotifyUnavailable
from model_repository.repository import read_filter_receipt, read_live_filter, write_filter
from tests.answering import Answer, Asked, http_server
from tests.cd_webhook import fake_cluster as fates
from tests.cd_webhook.fake_cluster import FakeClock
from tests.cd_webhook.webhook_scene import TARGET, Scene, request


class Pods:
    """What pods answer when they are told. answers: by address; the others take what they are told of."""

    def __init__(self) -> None:
        self.told: list[tuple[str, int]] = []
        self.answers: dict[str, Told | int] = {}
        self.before_answer: Callable[[], None] = lambda: None

    def tell(self, address: str, generation: int) -> Told | int:
        self.told.append((address, generation))
        self.before_answer()
        return self.answers.get(address, generation)


class MovingClock(FakeClock):
    """A clock that is moved by who waits."""

    def sleep(self, seconds: float) -> None:
        self.moment += timedelta(seconds=seconds)


@pytest.fixture
def pods() -> Pods:
    return Pods()


@pytest.fixture
def filters(scene: Scene, pods: Pods) -> Filters:
    it = scene.delivery
    return Filters(
        environment="test",
        cluster=scene.cluster,
        store=scene.store,
        clock=MovingClock(),
        log=it.log,
        notifier=scene.notifier,
        tell=pods.tell,
    )


def serving(scene: Scene, replicas: int = 3) -> list[str]:
    """The addresses of the probes of pods that serve."""
    scene.serve(1)
    live = scene.cluster.deployment("home-store")
    assert live is not None
    live["spec"]["replicas"] = replicas
    scene.cluster.apply(live, resource_version=None)
    scene.look_until_finished()
    scene.cluster.deployment("home-store")
    return [f"{pod['status']['podIP']}:8081" for pod in scene.cluster.pods("home-store")]


def receipt(scene: Scene, generation: int) -> FilterReceipt:
    return read_filter_receipt(scene.store, TARGET, generation)


def test_every_pod_is_told_and_then_it_counts_as_applied(scene: Scene, filters: Filters, pods: Pods) -> None:
    addresses = serving(scene)
    assert len(addresses) == 3
    live = write_filter(scene.store, TARGET, ["a", "b"], by="stock", reason="hourly")
    said = filters.apply("home-store")
    assert said == receipt(scene, live.generation)
    assert sorted(pods.told) == sorted((address, live.generation) for address in addresses)
    assert (said.outcome, said.hidden, said.pods, said.by, said.reason) == ("applied", 2, 3, "stock", "hourly")


def test_where_there_is_no_filter_nobody_is_told(scene: Scene, filters: Filters, pods: Pods) -> None:
    serving(scene)
    assert filters.apply("home-store") is None
    assert pods.told == []


def test_other_indexes_and_pods_that_leave_are_not_told(scene: Scene, filters: Filters, pods: Pods) -> None:
    (address,) = serving(scene, 1)
    scene.deliver(request(1, index="garden"))
    scene.look_until_finished(name="garden")
    (pod,) = scene.cluster._pods["garden"]
    leaving = {
        **pod,
        "metadata": {**pod["metadata"], "name": "old", "labels": pods_labels(scene), "deletionTimestamp": "x"},
    }
    scene.cluster._pods["home-store"].append(leaving)
    live = write_filter(scene.store, TARGET, ["a"])
    filters.apply("home-store")
    assert pods.told == [(address, live.generation)]


def test_a_pod_that_has_ended_is_not_told_whoever_has_its_address_by_now(
    scene: Scene, filters: Filters, pods: Pods
) -> None:
    (address,) = serving(scene, 1)
    (pod,) = scene.cluster._pods["home-store"]
    ended = {**pod, "metadata": {**pod["metadata"], "name": "ended"}}
    ended["status"] = {"phase": "Failed", "reason": "Terminated", "podIP": "10.9.9.9"}
    scene.cluster._pods["home-store"].append(ended)
    live = write_filter(scene.store, TARGET, ["a"])
    filters.apply("home-store")
    assert pods.told == [(address, live.generation)]


def pods_labels(scene: Scene) -> dict[str, str]:
    labels: dict[str, str] = scene.cluster._pods["home-store"][0]["metadata"]["labels"]
    return labels


def test_a_pod_that_does_not_listen_yet_is_owed_nothing(scene: Scene, filters: Filters, pods: Pods) -> None:
    addresses = serving(scene, 2)
    scene.cluster._pods["home-store"][0]["status"] = {**fates.starting(), "podIP": addresses[0].partition(":")[0]}
    pods.answers[addresses[0]] = Told.NOBODY_LISTENS
    write_filter(scene.store, TARGET, ["a"])
    said = filters.apply("home-store")
    assert said is not None
    assert (said.outcome, said.pods) == ("applied", 1)


@pytest.mark.parametrize("answer", list(Told))
def test_a_pod_that_serves_and_does_not_confirm_is_told_again_and_named(
    scene: Scene, filters: Filters, pods: Pods, answer: Told
) -> None:
    addresses = serving(scene)
    pods.answers[addresses[1]] = answer
    live = write_filter(scene.store, TARGET, ["a"])
    names = {pod["metadata"]["name"] for pod in scene.cluster.pods("home-store")}
    with pytest.raises(FilterNotInForce, match="1 pods don't confirm") as caught:
        filters.apply("home-store")
    assert sum(name in str(caught.value) for name in names) == 1
    assert pods.told.count((addresses[1], live.generation)) > 5
    assert pods.told.count((addresses[0], live.generation)) == 1
    with pytest.raises(ObjectMissing):
        receipt(scene, live.generation)
    del pods.answers[addresses[1]]
    said = filters.apply("home-store")
    assert said is not None
    assert (said.outcome, said.pods) == ("applied", 3)


def test_a_pod_that_confirms_late_is_waited_for(scene: Scene, filters: Filters, pods: Pods) -> None:
    (address,) = serving(scene, 1)
    pods.answers[address] = Told.NOT_YET

    def later() -> None:
        if len(pods.told) == 3:
            pods.answers.clear()

    pods.before_answer = later
    write_filter(scene.store, TARGET, ["a"])
    said = filters.apply("home-store")
    assert said is not None
    assert said.outcome == "applied"


def test_a_filter_that_is_replaced_meanwhile_is_superseded_and_the_newer_one_put_in_force(
    scene: Scene, filters: Filters, pods: Pods
) -> None:
    serving(scene, 1)
    first = write_filter(scene.store, TARGET, ["a"])

    def replaced() -> None:
        if len(pods.told) == 1:
            write_filter(scene.store, TARGET, ["b"])

    pods.before_answer = replaced
    said = filters.apply("home-store")
    second = read_live_filter(scene.store, TARGET)
    assert said == receipt(scene, second.generation)
    assert said.outcome == "applied"
    assert receipt(scene, first.generation).outcome == "superseded"
    assert [generation for _, generation in pods.told] == [first.generation, second.generation]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"{", "not JSON"),
        (b'{"schema_version": 1, "hidden": 1, "sha256": "sha256:%s"}' % (b"0" * 64), r"0000\.hidden"),
        (b" " * 100_000, "more than the 65536 bytes allowed"),
    ],
    ids=["malformed", "without-its-data", "too-large"],
)
def test_a_filter_that_makes_no_sense_is_refused_once_and_no_pod_is_told_of_it(
    scene: Scene, filters: Filters, pods: Pods, text: bytes, words: str
) -> None:
    serving(scene)
    generation = scene.store.write(TARGET.filter_name, text, if_generation_match=None).generation
    scene.notifier.failure = NotifyUnavailable("not now")
    with pytest.raises(NotifyUnavailable):
        filters.apply("home-store")
    scene.notifier.failure = None
    for _ in range(2):
        said = filters.apply("home-store")
        assert said is not None
        assert said.outcome == "rejected"
    assert pods.told == []
    assert receipt(scene, generation).outcome == "rejected"
    (notice,) = scene.notifier.notices
    assert (notice.event, notice.name, notice.generation) == ("rejected", TARGET.filter_name, generation)
    assert re.search(words, notice.detail)
    assert "what was hidden before goes on" in notice.detail


def last_good(scene: Scene) -> LiveFilter:
    return parse_last_good_filter(scene.store.read(TARGET.last_good_filter_name, limit=FILTER_LIMIT).data, TARGET)


def test_what_every_pod_confirmed_is_the_last_good_filter_whatever_comes_after_it(
    scene: Scene, filters: Filters, pods: Pods
) -> None:
    (address,) = serving(scene, 1)
    write_filter(scene.store, TARGET, ["a"])
    filters.apply("home-store")
    good = write_filter(scene.store, TARGET, ["a", "b"], by="stock")
    filters.apply("home-store")
    assert last_good(scene) == good
    scene.store.write(TARGET.filter_name, b"{", if_generation_match=None)
    filters.apply("home-store")
    write_filter(scene.store, TARGET, ["c"])
    pods.answers[address] = Told.NOT_YET
    with pytest.raises(FilterNotInForce):
        filters.apply("home-store")
    assert last_good(scene) == good


def test_a_process_that_is_late_does_not_bring_back_an_older_last_good_filter(
    scene: Scene, filters: Filters, monkeypatch: pytest.MonkeyPatch
) -> None:
    serving(scene, 1)
    first = write_filter(scene.store, TARGET, ["a"])
    other = replace(filters, tell=lambda _, generation: generation)
    written = scene.store.write

    def late(name: str, data: bytes, *, if_generation_match: int | None) -> ObjectInfo:
        """Another process puts a newer filter in force just before this one notes its own."""
        monkeypatch.setattr(scene.store, "write", written)
        assert name == TARGET.last_good_filter_name
        write_filter(scene.store, TARGET, ["b"])
        other.apply("home-store")
        return written(name, data, if_generation_match=if_generation_match)

    monkeypatch.setattr(scene.store, "write", late)
    said = filters.apply("home-store")
    newest = read_live_filter(scene.store, TARGET)
    assert said == receipt(scene, newest.generation)
    assert last_good(scene) == newest
    assert newest.generation != first.generation


def test_data_that_are_not_what_the_filter_names_are_refused(scene: Scene, filters: Filters, pods: Pods) -> None:
    serving(scene)
    live = write_filter(scene.store, TARGET, ["a", "b"])
    scene.store.write(live.data, b"x", if_generation_match=None)
    said = filters.apply("home-store")
    assert said is not None
    assert (said.outcome, said.code) == ("rejected", "document-malformed")
    assert pods.told == []


def test_a_bucket_that_does_not_answer_is_no_verdict(
    scene: Scene, filters: Filters, monkeypatch: pytest.MonkeyPatch
) -> None:
    serving(scene)
    live = write_filter(scene.store, TARGET, ["a"])

    def away(*_: object, **__: object) -> None:
        raise BucketUnavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(scene.store, "read", away)
        with pytest.raises(BucketUnavailable):
            filters.apply("home-store")
    with pytest.raises(ObjectMissing):
        receipt(scene, live.generation)


def test_the_receipt_of_another_index_is_its_own(scene: Scene, filters: Filters) -> None:
    write_filter(scene.store, Target("test", "garden"), ["a"])
    assert filters.apply("home-store") is None
    said = filters.apply("garden")
    assert said is not None
    assert (said.outcome, said.pods) == ("applied", 0)


@contextmanager
def pod_answering(status: int, body: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """A pod over HTTP; its address, and what it was sent."""
    sent: list[bytes] = []

    def answer(asked: Asked) -> Answer:
        sent.append(asked.path.encode() + b" " + asked.body)
        return Answer(body, status)

    with http_server(answer) as url:
        yield url.removeprefix("http://"), sent


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, b'{"generation": 7}', 7),
        (200, b'{"generation": 8}', 8),
        (200, b'{"generation": null}', Told.NOT_YET),
        (200, b"[]", Told.NOT_YET),
        (200, b"\xff", Told.NOT_YET),
        (503, b'{"generation": 7}', Told.NOT_YET),
        (404, b"", Told.NOT_YET),
    ],
)
def test_what_a_pod_says_over_http_is_understood(status: int, body: bytes, expected: Told | int) -> None:
    with pod_answering(status, body) as (address, sent):
        assert tell_pod(address, 7) == expected
        assert json.loads(sent[0].removeprefix(b"/v1/filter ")) == {"generation": 7}


def test_a_pod_that_does_not_listen_is_told_from_one_that_does_not_answer() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        assert tell_pod(f"127.0.0.1:{free.getsockname()[1]}", 7) is Told.NOBODY_LISTENS
