"""The rule of the function, one sentence a test, over a bucket in memory."""

# ruff: noqa: PLR0917 - fixtures

from __future__ import annotations

import io
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from model_repository.commit import Commit
from model_repository.deployment import AnswerOutcome
from model_repository.digests import sha256_digest
from model_repository.errors import AccessDenied, BucketUnavailable, ObjectMissing, PermanentError
from model_repository.index_manifest import IndexManifest, ModelReference
from model_repository.names import IndexPrefix, Target
from model_repository.receipt import Outcome, Receipt
from model_repository.repository import list_receipts, read_receipt, write_commit, write_receipt
from on_commit.event import Look, NotOurs, Sweep, read_event
from on_commit.handle import Handler
from on_commit.log import Journal
from on_commit.notify import NotifyRefused, NotifyUnavailable
from on_commit.webhook import Answer, EnvironmentUnknown, WebhookRefused, WebhookUnavailable

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
HOME = Target("staging", "home")
PublishBuild = Callable[..., IndexManifest]
PublishModel = Callable[..., ModelReference]


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def handler(store: Any, webhook: Any, notifier: Any) -> Handler:
    return Handler(store, webhook, notifier, lambda: NOW)


@pytest.fixture
def look(handler: Handler, stream: io.StringIO) -> Callable[..., None]:
    def look(target: Target = HOME) -> None:
        handler.handle(Look(target), Journal(stream=stream))

    return look


@pytest.fixture
def sweep(handler: Handler, stream: io.StringIO) -> Callable[[], None]:
    return lambda: handler.handle(Sweep(), Journal(stream=stream))


def commit(store: Any, build: str = "b1", target: Target = HOME, **fields: Any) -> int:
    wanted = Commit(IndexPrefix(target.index, build), **fields)
    return write_commit(store, target, wanted, if_generation_match=None).generation


def refusal(store: Any, notifier: Any, generation: int, target: Target = HOME) -> Receipt:
    """The receipt of a refused commit, which says the same as the one report."""
    receipt = read_receipt(store, target, generation)
    assert receipt.outcome is Outcome.REJECTED
    (report,) = notifier.reports
    assert (report.target, report.generation, report.code) == (target, generation, receipt.code)
    assert report.detail == receipt.detail
    return receipt


def test_a_commit_of_a_whole_build_is_asked_for_with_all_that_the_webhook_needs(
    store: Any, webhook: Any, notifier: Any, publish_build: PublishBuild, look: Any
) -> None:
    manifest = publish_build(store)
    generation = commit(store, by="batch", reason="hourly")
    look()
    (request,) = webhook.asked
    stored = store.read("indexes/home/b1/index.json", limit=10**6)
    assert (request.target, request.generation, request.bucket) == (HOME, generation, "a-bucket")
    assert (request.index_prefix, request.index_generation) == (manifest.prefix, stored.generation)
    assert request.index_digest == sha256_digest(stored.data)
    assert (request.model_prefix, request.model_digest) == (manifest.model.prefix, manifest.model.digest)
    assert (request.by, request.reason) == ("batch", "hourly")
    assert notifier.reports == []
    assert list_receipts(store, HOME) == [], "what became of it is for the CD side to say"


def test_a_late_event_deploys_the_live_commit(store: Any, webhook: Any, publish_build: PublishBuild, look: Any) -> None:
    publish_build(store, "indexes/home/b1")
    publish_build(store, "indexes/home/b2")
    commit(store, "b1")
    newest = commit(store, "b2")
    look()  # the event of the first commit, late
    look()  # the event of the second
    assert [request.generation for request in webhook.asked] == [newest, newest]
    assert {str(request.index_prefix) for request in webhook.asked} == {"indexes/home/b2"}


def test_a_rollback_is_one_more_commit(store: Any, webhook: Any, publish_build: PublishBuild, look: Any) -> None:
    for build in ("b1", "b2", "b1"):
        publish_build(store, f"indexes/home/{build}")
        commit(store, build)
        look()
    assert [request.index_prefix.build for request in webhook.asked] == ["b1", "b2", "b1"]


def test_an_event_costs_three_reads_of_the_bucket(
    store: Any, webhook: Any, publish_build: PublishBuild, look: Any
) -> None:
    publish_build(store)
    commit(store)
    look()
    assert store.reads == [
        "read commits/staging/home.json",
        "read indexes/home/b1/index.json",
        "listing indexes/home/b1/",
    ]
    assert len(webhook.asked) == 1


def test_a_commit_that_is_gone_is_nobodys_fault(store: Any, webhook: Any, notifier: Any, look: Any) -> None:
    look()
    assert (webhook.asked, notifier.reports, store.listing("")) == ([], [], [])


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"not JSON", "not JSON"),
        (b"{" * 10_000_000, "more than the 65536 bytes"),
        (b'{"index_prefx": "indexes/home/b1"}', "index_prefix"),
        (b'{"index_prefix": "indexes/home/../b1"}', "indexes/<index>/<build>"),
        (b'{"index_prefix": "indexes/garden/b1"}', "another index"),
    ],
)
def test_a_malformed_commit_is_refused_with_a_receipt_and_a_report(
    store: Any, webhook: Any, notifier: Any, look: Any, data: bytes, says: str
) -> None:
    generation = store.write(HOME.commit_name, data, if_generation_match=0).generation
    look()
    receipt = refusal(store, notifier, generation)
    assert receipt.code == "document-malformed"
    assert says in receipt.detail
    assert receipt.index_prefix is None
    assert webhook.asked == []


def test_a_build_that_is_not_there_is_refused(store: Any, notifier: Any, look: Any) -> None:
    generation = commit(store, "nowhere", by="ann", reason="typo")
    look()
    receipt = refusal(store, notifier, generation)
    assert receipt.code == "object-missing"
    assert "indexes/home/nowhere/index.json" in receipt.detail
    assert (receipt.by, receipt.reason, str(receipt.index_prefix)) == ("ann", "typo", "indexes/home/nowhere")


def test_an_index_json_that_makes_no_sense_is_refused(store: Any, notifier: Any, look: Any) -> None:
    store.write("indexes/home/b1/index.json", b'{"schema_version": 99}', if_generation_match=0)
    generation = commit(store)
    look()
    assert refusal(store, notifier, generation).code == "document-malformed"


def test_a_truncated_file_is_refused(
    store: Any, webhook: Any, notifier: Any, publish_build: PublishBuild, look: Any
) -> None:
    publish_build(store)
    store.write("indexes/home/b1/chair.annoy", b"tre", if_generation_match=None)
    generation = commit(store)
    look()
    receipt = refusal(store, notifier, generation)
    assert receipt.code == "build-incomplete"
    assert "indexes/home/b1/chair.annoy" in receipt.detail
    assert "has 3 bytes" in receipt.detail
    assert webhook.asked == []


def test_a_file_of_the_right_size_with_other_bytes_is_refused(
    store: Any, notifier: Any, publish_build: PublishBuild, look: Any
) -> None:
    publish_build(store)
    store.write("indexes/home/b1/chair.ids", b"sdi", if_generation_match=None)
    generation = commit(store)
    look()
    receipt = refusal(store, notifier, generation)
    assert receipt.code == "build-incomplete"
    assert "crc32c" in receipt.detail


def test_a_missing_file_is_refused(store: Any, notifier: Any, publish_build: PublishBuild, look: Any) -> None:
    publish_build(store)
    store.delete("indexes/home/b1/items.lookup")
    generation = commit(store)
    look()
    assert "items.lookup: the manifest says 6 bytes, the bucket has no such object" in (
        refusal(store, notifier, generation).detail
    )


def test_a_build_of_other_dimensions_than_its_model_makes_is_refused(
    store: Any, webhook: Any, notifier: Any, publish_build: PublishBuild, look: Any
) -> None:
    publish_build(store, dimensions=8)
    generation = commit(store)
    look()
    assert "vectors of 8 dimensions, but models/lite/1 makes 4" in refusal(store, notifier, generation).detail
    assert webhook.asked == []


@pytest.mark.parametrize("error", [WebhookRefused("answered 422"), EnvironmentUnknown("no CD webhook for 'staging'")])
def test_what_the_webhook_refuses_is_told_as_any_refusal(
    store: Any, webhook: Any, notifier: Any, publish_build: PublishBuild, look: Any, error: PermanentError
) -> None:
    publish_build(store)
    generation = commit(store)
    webhook.failure = error
    look()
    assert refusal(store, notifier, generation).code == error.code


def test_what_the_webhook_calls_rejected_is_told_with_its_words(
    store: Any, webhook: Any, notifier: Any, publish_build: PublishBuild, look: Any
) -> None:
    publish_build(store)
    generation = commit(store)
    webhook.answer = Answer(AnswerOutcome.REJECTED, "no such environment")
    look()
    assert refusal(store, notifier, generation).detail == "no such environment"


@pytest.mark.parametrize("said", [AnswerOutcome.ACCEPTED, AnswerOutcome.ALREADY_DEPLOYED, AnswerOutcome.SUPERSEDED])
def test_any_other_answer_is_the_end_of_the_event(
    store: Any,
    webhook: Any,
    notifier: Any,
    publish_build: PublishBuild,
    look: Any,
    stream: io.StringIO,
    said: AnswerOutcome,
) -> None:
    publish_build(store)
    commit(store)
    webhook.answer = Answer(said, "as you wish", "an-event-id")
    look()
    assert notifier.reports == []
    line = json.loads(stream.getvalue().splitlines()[-1])
    assert (line["outcome"], line["webhook_event_id"], line["severity"]) == (said.value, "an-event-id", "INFO")


def test_an_answer_that_no_cd_webhook_gives_is_noted(
    store: Any, webhook: Any, publish_build: PublishBuild, look: Any, stream: io.StringIO
) -> None:
    publish_build(store)
    commit(store)
    webhook.answer = Answer(AnswerOutcome.ACCEPTED, understood=False)
    look()
    assert "WARNING" in stream.getvalue()
    assert "CD_WEBHOOK_URL" in stream.getvalue()


def test_a_webhook_that_does_not_answer_makes_the_event_come_again(
    store: Any, webhook: Any, notifier: Any, publish_build: PublishBuild, look: Any
) -> None:
    publish_build(store)
    commit(store)
    webhook.failure = WebhookUnavailable("503")
    with pytest.raises(WebhookUnavailable):
        look()
    assert (notifier.reports, list_receipts(store, HOME)) == ([], [])
    webhook.failure = None
    look()
    assert len(webhook.asked) == 1


@pytest.mark.parametrize("hiccup", ["commits/staging/home.json", "indexes/home/b1/index.json", "indexes/home/b1/"])
def test_a_bucket_that_does_not_answer_makes_the_event_come_again(
    store: Any, webhook: Any, notifier: Any, publish_build: PublishBuild, look: Any, hiccup: str
) -> None:
    publish_build(store)
    commit(store)
    store.fail = lambda _kind, name: BucketUnavailable("503") if name == hiccup else None
    with pytest.raises(BucketUnavailable):
        look()
    assert (webhook.asked, notifier.reports, list_receipts(store, HOME)) == ([], [], [])


def test_a_report_that_cannot_be_published_now_does_not_lose_the_receipt(store: Any, notifier: Any, look: Any) -> None:
    generation = commit(store, "nowhere")
    notifier.failure = NotifyUnavailable("503")
    with pytest.raises(NotifyUnavailable):
        look()
    assert list_receipts(store, HOME) == [generation]
    notifier.failure = None
    look()
    refusal(store, notifier, generation)


def test_a_receipt_that_cannot_be_written_now_does_not_lose_the_report(store: Any, notifier: Any, look: Any) -> None:
    generation = commit(store, "nowhere")
    store.fail = lambda kind, _name: BucketUnavailable("503") if kind == "write" else None
    with pytest.raises(BucketUnavailable):
        look()
    assert len(notifier.reports) == 1
    store.fail = lambda _kind, _name: None
    notifier.reports.clear()
    look()
    refusal(store, notifier, generation)


def test_a_topic_that_will_never_take_it_does_not_bring_the_event_back(
    store: Any, notifier: Any, look: Any, stream: io.StringIO
) -> None:
    generation = commit(store, "nowhere")
    notifier.failure = NotifyRefused("no such topic")
    look()
    assert list_receipts(store, HOME) == [generation]
    assert "no such topic" in stream.getvalue()


def test_a_receipt_that_may_not_be_written_does_not_bring_the_event_back(
    store: Any, notifier: Any, look: Any, stream: io.StringIO
) -> None:
    commit(store, "nowhere")
    store.fail = lambda kind, _name: AccessDenied("403 on deployments/") if kind == "write" else None
    look()
    assert len(notifier.reports) == 1
    assert "403 on deployments/" in stream.getvalue()


def test_a_commit_that_may_not_be_read_is_reported_though_it_has_no_generation(
    store: Any, notifier: Any, look: Any
) -> None:
    commit(store)
    store.fail = lambda kind, _name: AccessDenied("403") if kind != "write" else None
    look()
    (report,) = notifier.reports
    assert (report.code, report.generation) == ("access-denied", 0)
    assert b"#" not in report.to_json()


def test_the_receipt_of_the_cd_side_stands(store: Any, webhook: Any, publish_build: PublishBuild, look: Any) -> None:
    publish_build(store)
    generation = commit(store)
    write_receipt(store, Receipt(HOME, generation, Outcome.SERVED, None, "", NOW, NOW))
    webhook.failure = WebhookRefused("answered 400")
    look()
    assert read_receipt(store, HOME, generation).outcome is Outcome.SERVED


def test_a_sweep_finds_the_commit_whose_event_was_lost(
    store: Any, webhook: Any, publish_build: PublishBuild, sweep: Callable[[], None]
) -> None:
    garden = Target("production", "garden")
    publish_build(store, "indexes/home/b1")
    publish_build(store, "indexes/garden/b1")
    commit(store)
    commit(store, target=garden)
    store.write("commits/staging/Not_A_Commit.json", b"", if_generation_match=0)
    sweep()
    assert {request.target for request in webhook.asked} == {HOME, garden}


def test_a_sweep_is_quiet_about_what_was_refused_before(
    store: Any, notifier: Any, look: Any, sweep: Callable[[], None]
) -> None:
    commit(store, "nowhere")
    look()
    sweep()
    sweep()
    assert len(notifier.reports) == 1


def test_a_sweep_refuses_what_nobody_has_refused_yet(store: Any, notifier: Any, sweep: Callable[[], None]) -> None:
    generation = commit(store, "nowhere")
    sweep()
    refusal(store, notifier, generation)


def test_one_target_in_trouble_does_not_stop_the_sweep_but_brings_it_back(
    store: Any, webhook: Any, publish_build: PublishBuild, sweep: Callable[[], None]
) -> None:
    for index in ("garden", "home", "office"):
        publish_build(store, f"indexes/{index}/b1")
        commit(store, target=Target("staging", index))
    store.fail = lambda _kind, name: BucketUnavailable("503") if name == "indexes/home/b1/" else None
    with pytest.raises(BucketUnavailable):
        sweep()
    assert [request.target.index for request in webhook.asked] == ["garden", "office"]


def test_a_sweep_asks_again_for_what_serves_and_hears_that_all_is_well(
    store: Any, webhook: Any, publish_build: PublishBuild, look: Any, sweep: Callable[[], None], stream: io.StringIO
) -> None:
    publish_build(store)
    generation = commit(store)
    look()
    write_receipt(store, Receipt(HOME, generation, Outcome.SERVED, None, "", NOW, NOW))
    sweep()
    assert len(webhook.asked) == 2
    assert "already-deployed" in stream.getvalue()


def test_a_commit_under_a_name_that_none_may_have_is_reported(
    handler: Handler, notifier: Any, stream: io.StringIO
) -> None:
    attributes = {
        "type": "google.cloud.storage.object.v1.finalized",
        "source": "//storage.googleapis.com/projects/_/buckets/a-bucket",
        "subject": "objects/commits/staging/Home.json",
    }
    handler.handle(read_event(attributes, None, "a-bucket"), Journal(stream=stream))
    (report,) = notifier.reports
    assert report.target is None
    assert json.loads(report.to_json())["commit"] == "gs://a-bucket/commits/staging/Home.json"


def test_what_is_not_ours_touches_nothing(
    handler: Handler, store: Any, webhook: Any, notifier: Any, stream: io.StringIO
) -> None:
    handler.handle(NotOurs("another object"), Journal(stream=stream))
    assert (store.reads, webhook.asked, notifier.reports) == ([], [], [])


def test_a_report_is_complete_enough_to_act_on(store: Any, notifier: Any, look: Any) -> None:
    generation = commit(store, "nowhere")
    look()
    (report,) = notifier.reports
    document = json.loads(report.to_json())
    assert document == {
        "outcome": "rejected",
        "code": "object-missing",
        "environment": "staging",
        "index": "home",
        "commit": f"gs://a-bucket/commits/staging/home.json#{generation}",
        "detail": report.detail,
        "generation": str(generation),
        "index_prefix": "indexes/home/nowhere",
    }
    assert set(report.attributes()) == {"outcome", "code", "environment", "index"}


def test_the_journal_of_a_refusal_names_the_commit_and_the_code(store: Any, look: Any, stream: io.StringIO) -> None:
    generation = commit(store, "nowhere")
    look()
    line = json.loads(stream.getvalue().splitlines()[-1])
    assert line["severity"] == "ERROR"
    assert (line["environment"], line["index"], line["generation"]) == ("staging", "home", generation)
    assert line["code"] == ObjectMissing.code
