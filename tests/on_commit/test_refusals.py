"""What can never work is refused once, by a receipt, a message on NOTIFY_TOPIC and a line of the log."""

from __future__ import annotations

import json

import pytest

from model_repository.documents.model_manifest import ModelInput
from model_repository.documents.receipts.receipt import Outcome
from model_repository.errors import BucketUnavailable, ObjectMissing
from model_repository.notify import NotifyRefused, NotifyUnavailable
from model_repository.repository import list_receipts, read_receipt, write_receipt
from on_commit.compare import IndexStatus
from on_commit.event import read_event
from on_commit.webhook import EnvironmentUnknown, WebhookRefused
from tests import builds
from tests.on_commit.scene import HOME, Scene


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"not JSON", "not JSON"),
        (b"{" * 10_000_000, "more than the 65536 bytes"),
        (b'{"index_prefx": "indexes/home/b1"}', "index_prefix"),
        (b'{"index_prefix": "indexes/home/../b1"}', "indexes/<index>/<build>"),
        (b'{"index_prefix": "indexes/garden/b1"}', "another index"),
        (b"", "not JSON: Expecting value"),
        (b'{"index_prefix": "indexes/home/\xff"}', "not UTF-8 (byte 31)"),
    ],
)
def test_a_malformed_commit_is_refused_with_a_receipt_and_a_message(scene: Scene, data: bytes, says: str) -> None:
    generation = scene.store.write(HOME.commit_name, data, if_generation_match=0).generation
    scene.look()
    receipt = scene.refusal(generation)
    assert receipt.code == "document-malformed"
    assert says in receipt.detail
    assert receipt.detail.startswith("commits/staging/home.json: ")
    assert receipt.detail.endswith("; correct it, and upload it again")
    assert receipt.detail in scene.lines()[-1]["message"]
    assert receipt.index_prefix is None
    assert scene.webhook.asked == []


def test_a_build_that_is_not_there_is_refused(scene: Scene) -> None:
    generation = scene.commit("nowhere", by="ann", reason="typo")
    scene.look()
    receipt = scene.refusal(generation)
    assert receipt.code == "object-missing"
    assert "indexes/home/nowhere/index.json" in receipt.detail
    assert (receipt.by, receipt.reason, str(receipt.index_prefix)) == ("ann", "typo", "indexes/home/nowhere")


def test_an_index_json_that_makes_no_sense_is_refused(scene: Scene) -> None:
    scene.store.write("indexes/home/b1/index.json", b'{"schema_version": 99}', if_generation_match=0)
    generation = scene.commit()
    scene.look()
    receipt = scene.refusal(generation)
    assert receipt.code == "document-malformed"
    assert receipt.detail.startswith("indexes/home/b1/index.json: ")
    assert receipt.detail.endswith("; publish the build again under a new name, and commit that")


def test_a_model_json_that_makes_no_sense_is_refused(scene: Scene) -> None:
    scene.publish()
    scene.store.write("models/lite/v1/model.json", b"", if_generation_match=None)
    generation = scene.commit()
    scene.look()
    receipt = scene.refusal(generation)
    assert receipt.detail.startswith("models/lite/v1/model.json: not JSON")
    assert receipt.detail.endswith("; publish that model again under a new version, and a build made with it")


def test_a_truncated_file_is_refused(scene: Scene) -> None:
    scene.publish()
    scene.store.write("indexes/home/b1/0.annoy", b"cut", if_generation_match=None)
    generation = scene.commit()
    scene.look()
    receipt = scene.refusal(generation)
    assert receipt.code == "build-incomplete"
    assert "indexes/home/b1/0.annoy" in receipt.detail
    assert "has 3 bytes" in receipt.detail
    assert scene.webhook.asked == []


def test_a_file_of_the_right_size_with_other_bytes_is_refused(scene: Scene) -> None:
    scene.publish()
    scene.store.write("indexes/home/b1/0.ids", b"0.ids of indexes/home/b2", if_generation_match=None)
    generation = scene.commit()
    scene.look()
    receipt = scene.refusal(generation)
    assert receipt.code == "build-incomplete"
    assert "crc32c" in receipt.detail


def test_a_missing_file_is_refused(scene: Scene) -> None:
    scene.publish()
    scene.store.delete("indexes/home/b1/items.lookup")
    generation = scene.commit()
    scene.look()
    assert "items.lookup: the manifest says 31 bytes, the bucket has no such object" in (
        scene.refusal(generation).detail
    )


def test_a_build_that_loses_a_file_while_it_rolls_out_is_the_webhooks_to_judge(scene: Scene) -> None:
    """Its pods may have it already: an event that comes twice must not say rejected of what serves."""
    scene.publish()
    generation = scene.commit()
    scene.look()
    scene.webhook.states = {HOME: IndexStatus("home", generation, None, service=True)}
    scene.store.delete("indexes/home/b1/items.lookup")
    scene.look()
    assert list_receipts(scene.store, HOME) == []
    assert scene.notifier.notices == []
    scene.webhook.states = {}
    scene.look()
    assert scene.refusal(generation).code == "build-incomplete"


def test_where_no_webhook_is_nothing_rolls_out_and_a_build_that_is_not_there_is_refused(scene: Scene) -> None:
    generation = scene.commit()
    scene.webhook.failure = EnvironmentUnknown("no CD webhook is configured")
    scene.look()
    assert scene.refusal(generation).code == "object-missing"


def test_a_build_whose_model_lost_a_file_is_refused_at_once(scene: Scene) -> None:
    scene.publish()
    scene.store.delete("models/lite/v1/model.onnx")
    generation = scene.commit()
    scene.look()
    receipt = scene.refusal(generation)
    assert receipt.code == "build-incomplete"
    assert "models/lite/v1/model.onnx" in receipt.detail
    assert scene.webhook.asked == []


def test_a_build_whose_model_vanished_is_refused_at_once(scene: Scene) -> None:
    scene.publish()
    scene.store.delete("models/lite/v1/model.json")
    generation = scene.commit()
    scene.look()
    receipt = scene.refusal(generation)
    assert receipt.code == "model-unknown"
    assert "models/lite/v1 isn't in the bucket" in receipt.detail


def test_a_build_whose_model_is_another_one_now_is_refused_at_once(scene: Scene) -> None:
    scene.publish()
    builds.publish_model(scene.store, input=ModelInput(260))
    generation = scene.commit()
    scene.look()
    receipt = scene.refusal(generation)
    assert receipt.code == "model-unknown"
    assert "models are immutable" in receipt.detail


def test_a_build_of_other_dimensions_than_its_model_makes_is_refused(scene: Scene) -> None:
    scene.publish(partitions=(builds.partition(dimensions=8),))
    generation = scene.commit()
    scene.look()
    assert "vectors of 8 dimensions, but models/lite/v1 makes 4" in scene.refusal(generation).detail
    assert scene.webhook.asked == []


def test_what_the_webhook_refuses_is_told_as_any_refusal_with_its_words(scene: Scene) -> None:
    scene.publish()
    generation = scene.commit()
    scene.webhook.failure = WebhookRefused("cluster-refused: Deployment home isn't managed by indexpush")
    scene.look()
    assert scene.refusal(generation).detail == "cluster-refused: Deployment home isn't managed by indexpush"


def test_what_has_its_receipt_was_told_by_whoever_wrote_that(scene: Scene) -> None:
    scene.publish()
    generation = scene.commit()
    scene.webhook.failure = WebhookRefused("cluster-refused: Deployment home isn't managed by indexpush")
    write_receipt(scene.store, builds.receipt(generation, outcome=Outcome.SUPERSEDED))
    scene.look()
    assert scene.notifier.notices == []


def test_a_refusal_that_cannot_be_published_now_is_told_when_the_event_comes_again(scene: Scene) -> None:
    generation = scene.commit("nowhere")
    scene.notifier.failure = NotifyUnavailable("503")
    with pytest.raises(NotifyUnavailable):
        scene.look()
    assert list_receipts(scene.store, HOME) == []  # with a receipt, nobody would look again
    scene.notifier.failure = None
    scene.look()
    scene.refusal(generation)


def test_a_receipt_that_cannot_be_written_now_does_not_lose_the_message(scene: Scene) -> None:
    generation = scene.commit("nowhere")
    scene.store.fail = lambda kind, _name: BucketUnavailable("503") if kind == "write" else None
    with pytest.raises(BucketUnavailable):
        scene.look()
    assert len(scene.notifier.notices) == 1
    scene.store.fail = lambda _kind, _name: None
    scene.notifier.notices.clear()
    scene.look()
    scene.refusal(generation)


def test_a_topic_that_goes_on_refusing_does_not_keep_the_receipt_away(scene: Scene) -> None:
    generation = scene.commit("nowhere")
    scene.notifier.failure = NotifyRefused("no such topic")
    with pytest.raises(NotifyRefused):  # a grant that hasn't spread yet
        scene.look()
    assert list_receipts(scene.store, HOME) == []
    scene.clock.sleep(301)
    scene.look()
    assert list_receipts(scene.store, HOME) == [generation]
    assert "no such topic" in scene.stream.getvalue()


def test_the_receipt_of_the_cd_side_stands(scene: Scene) -> None:
    scene.publish()
    generation = scene.commit()
    write_receipt(scene.store, builds.receipt(generation))
    scene.webhook.failure = WebhookRefused("answered 400")
    scene.look()
    assert read_receipt(scene.store, HOME, generation).outcome is Outcome.SERVED


def test_a_commit_under_a_name_that_none_may_have_is_reported(scene: Scene) -> None:
    attributes = {
        "type": "google.cloud.storage.object.v1.finalized",
        "source": "//storage.googleapis.com/projects/_/buckets/a-bucket",
        "subject": "objects/commits/staging/Home.json",
    }
    scene.handle(read_event(attributes, None, "a-bucket"))
    (refusal,) = scene.notifier.notices
    assert (refusal.environment, refusal.index) == ("", "")
    assert json.loads(refusal.to_json())["commit"] == "gs://a-bucket/commits/staging/Home.json"
    assert refusal.detail.startswith("commits/staging/Home.json: ")
    assert refusal.detail.endswith("; upload it under another name, and delete this one")


def test_a_published_refusal_is_complete_enough_to_act_on(scene: Scene) -> None:
    generation = scene.commit("nowhere")
    scene.look()
    (refusal,) = scene.notifier.notices
    document = json.loads(refusal.to_json())
    assert document == {
        "outcome": "rejected",
        "code": "object-missing",
        "environment": "staging",
        "index": "home",
        "commit": f"gs://a-bucket/commits/staging/home.json#{generation}",
        "detail": refusal.detail,
        "generation": str(generation),
        "index_prefix": "indexes/home/nowhere",
    }
    assert set(refusal.attributes()) == {"outcome", "code", "environment", "index"}


def test_the_log_of_a_refusal_names_the_commit_and_the_code(scene: Scene) -> None:
    generation = scene.commit("nowhere")
    scene.look()
    line = scene.lines()[-1]
    assert line["severity"] == "ERROR"
    assert (line["environment"], line["index"], line["generation"]) == ("staging", "home", generation)
    assert line["code"] == ObjectMissing.code
