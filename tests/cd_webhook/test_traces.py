"""The spans of a commit at the webhook: they stay one trace whoever looks at the rollout, and however it ends."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from http import HTTPStatus

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from cd_webhook.delivery.deliver import Rejected
from model_repository.telemetry import spans
from model_repository.telemetry.log import Log, tracing
from model_repository.telemetry.open_telemetry import SdkRecorder
from tests.cd_webhook import canary_scene as canary
from tests.cd_webhook import fake_cluster as pods
from tests.cd_webhook.app_scene import URL, Stage
from tests.cd_webhook.canary_scene import CanaryScene
from tests.cd_webhook.webhook_scene import TARGET, Scene, request


class Traced:
    """A scene whose every commit comes with a trace of its own: the generation, as the trace's id."""

    def __init__(self, exporter: InMemorySpanExporter, recorder: SdkRecorder) -> None:
        self.scene = Scene()
        self._exporter = exporter
        self._recorder = recorder

    def deliver(self, generation: int) -> None:
        with tracing({"traceparent": f"00-{generation:032x}-{generation:016x}-01"}, {}, ""):
            self.scene.deliver(request(generation))

    def spans(self, generation: int) -> list[ReadableSpan]:
        """Of the commit's trace, in the order in which they ended."""
        self._recorder.flush(30)
        return [span for span in self._exporter.get_finished_spans() if place(span)[0] == generation]

    def told(self, generation: int) -> list[tuple[str, object]]:
        """The names of those spans, and the outcomes."""
        return [(span.name, (span.attributes or {}).get("indexpush.outcome")) for span in self.spans(generation)]


def place(span: ReadableSpan) -> tuple[int, int, int]:
    """Its trace, its id and its parent's."""
    assert span.context
    return span.context.trace_id, span.context.span_id, span.parent.span_id if span.parent else 0


@pytest.fixture
def traced() -> Iterator[Traced]:
    exporter = InMemorySpanExporter()
    recorder = SdkRecorder("webhook", Log(stream=io.StringIO()), exporter)
    spans.record_with(recorder)
    yield Traced(exporter, recorder)
    spans.close_spans(30)


def in_pods(scene: Scene, name: str = "home-store") -> set[str]:
    """What a Deployment's containers are told of a trace."""
    live = scene.cluster.deployment(name)
    assert live is not None
    pod = live["spec"]["template"]["spec"]
    containers = [*pod["initContainers"], *pod["containers"]]
    return {each["value"] for it in containers for each in it["env"] if each["name"] == "TRACEPARENT"}


def test_a_rollout_that_another_process_sees_the_end_of_is_of_the_trace_that_began_it(traced: Traced) -> None:
    traced.deliver(1)
    traced.scene.look_until_finished(traced.scene.webhook())
    delivery, rollout = traced.spans(1)
    assert [delivery.name, rollout.name] == ["delivery", "rollout"]
    assert place(delivery)[2] == 1
    assert place(rollout)[2] == place(delivery)[1]
    assert dict(rollout.attributes or {}) == {
        "indexpush.index": "home-store",
        "indexpush.environment": "test",
        "indexpush.generation": "1",
        "indexpush.build": "indexes/home-store/b1",
        "indexpush.outcome": "served",
        "indexpush.reason": "indexes/home-store/b1 serves",
    }


def test_pods_go_on_from_the_rollout_before_it_is_recorded(traced: Traced) -> None:
    traced.deliver(1)
    said = in_pods(traced.scene)
    traced.scene.look_until_finished()
    trace, span, _ = place(traced.spans(1)[-1])
    assert said == {f"00-{trace:032x}-{span:016x}-01"}


def test_a_rollout_that_was_undone_says_why(traced: Traced) -> None:
    traced.scene.serve(1)
    traced.scene.cluster.fates["2"] = pods.ended(65, "shuffled ids")
    traced.deliver(2)
    traced.scene.look_until_finished()
    rollout = traced.spans(2)[-1]
    assert rollout.status.description is not None
    assert "shuffled ids" in rollout.status.description
    assert (rollout.attributes or {})["error.type"] == "pod-refused-data"


def test_each_of_three_commits_at_once_has_its_own_trace_to_the_end(traced: Traced) -> None:
    traced.scene.serve(1)
    traced.scene.cluster.fates["2"] = traced.scene.cluster.fates["3"] = pods.starting
    for generation in (2, 3, 4):  # 3 takes the place of 2, and 4 waits for 3
        traced.deliver(generation)
    del traced.scene.cluster.fates["3"]
    traced.scene.look_until_finished()
    assert traced.told(2) == [("delivery", "accepted"), ("rollout", "superseded")]
    assert traced.told(3) == [("delivery", "accepted"), ("rollout", "served")]
    assert traced.told(4) == [("delivery", "accepted"), ("delivery", "accepted"), ("rollout", "served")]
    told, taken_up, rollout = traced.spans(4)
    assert [place(taken_up)[2], place(rollout)[2]] == [place(told)[1], place(taken_up)[1]]


def test_a_canary_and_what_it_is_promoted_to_are_of_one_rollout(traced: Traced) -> None:
    scene = CanaryScene()
    scene.serve(1)
    with tracing({"traceparent": f"00-{2:032x}-{2:016x}-01"}, {}, ""):
        scene.commit(2)
    scene.look(2)
    tried_out = in_pods(scene, canary.NAME)
    scene.finish()
    delivery, rollout = traced.spans(2)
    assert tried_out == in_pods(scene) == {f"00-{2:032x}-{place(rollout)[1]:016x}-01"}
    assert place(rollout)[2] == place(delivery)[1]
    assert rollout.start_time is not None
    assert rollout.end_time is not None
    assert rollout.end_time - rollout.start_time >= 30 * 10**9, "the canary's time is a part of it"


def test_a_request_that_can_never_be_applied_fails_where_it_was_refused(traced: Traced) -> None:
    traced.scene.serve(1)
    traced.scene.cluster.by_hand("home-store", lambda live: live["metadata"]["labels"].clear())
    with pytest.raises(Rejected):
        traced.deliver(2)
    (delivery,) = traced.spans(2)
    assert (delivery.attributes or {})["error.type"] == "rejected"
    assert "isn't managed by indexpush" in str(delivery.status.description)


def test_a_delivery_that_comes_twice_rolls_out_once(traced: Traced) -> None:
    traced.deliver(1)
    traced.scene.look_until_finished()
    traced.deliver(1)
    assert traced.told(1) == [("delivery", "accepted"), ("rollout", "served"), ("delivery", "already-deployed")]


def test_what_a_body_says_of_a_trace_is_for_a_spinnaker(traced: Traced) -> None:
    scene = traced.scene
    scene.store.commit(TARGET, 1)
    body = replace(request(1), traceparent=f"00-{7:032x}-{7:016x}-01").to_payload()
    headers = {"traceparent": f"00-{1:032x}-{1:016x}-01"}
    with Stage(scene).client as client:
        assert client.post(URL, json=body, headers=headers).status_code == HTTPStatus.OK
    assert place(traced.spans(1)[0])[2] == 1
    assert traced.spans(7) == []


def test_where_no_spans_are_recorded_nothing_is_kept_of_a_trace() -> None:
    scene = Scene()
    with tracing({"traceparent": f"00-{1:032x}-{1:016x}-01"}, {}, ""):
        scene.deliver(request(1))
    scene.look_until_finished()
    assert in_pods(scene) == set()
    live = scene.cluster.deployment("home-store")
    assert live is not None
    assert "traceparent" not in str(live)
