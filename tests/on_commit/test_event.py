"""An event only says "look": which commit, or that it is of no concern here."""

from __future__ import annotations

from typing import Any

import pytest

from model_repository.bucket.events import OtherEvent, SweepAsked
from model_repository.names import Target
from on_commit.event import CommitUploaded, FilterUploaded, Misnamed, read_event

STORAGE = {
    "id": "1",
    "type": "google.cloud.storage.object.v1.finalized",
    "source": "//storage.googleapis.com/projects/_/buckets/a-bucket",
    "subject": "objects/commits/staging/home.json",
}
STORAGE_DATA = {"bucket": "a-bucket", "name": "commits/staging/home.json", "generation": "1763683200000001"}
PUBSUB = {
    "id": "2",
    "type": "google.cloud.pubsub.topic.v1.messagePublished",
    "source": "//pubsub.googleapis.com/projects/p/topics/commits",
}
HOME = CommitUploaded(Target("staging", "home"))


def notification(**changes: Any) -> dict[str, Any]:
    attributes = {
        "eventType": "OBJECT_FINALIZE",
        "payloadFormat": "JSON_API_V1",
        "bucketId": "a-bucket",
        "objectId": "commits/staging/home.json",
        "objectGeneration": "1763683200000001",
    }
    return {"message": {"messageId": "5", "data": "e30=", "attributes": attributes | changes}, "subscription": "s"}


def test_the_storage_event_of_a_commit_says_look() -> None:
    assert read_event(STORAGE, STORAGE_DATA, "a-bucket") == HOME


def test_a_notification_in_a_pubsub_message_says_the_same() -> None:
    assert read_event(PUBSUB, notification(), "a-bucket") == HOME


def test_the_event_of_a_filter_says_look_at_it_and_those_of_its_data_and_receipts_say_nothing() -> None:
    home = Target("staging", "home")
    assert read_event(PUBSUB, notification(objectId=home.filter_name), "a-bucket") == FilterUploaded(home)
    assert read_event(STORAGE, STORAGE_DATA | {"name": home.filter_name}, "a-bucket") == FilterUploaded(home)
    for name in (home.filter_data("sha256:" + "0" * 64), home.filter_receipt_name(7), "filters/staging/", "filters/"):
        assert isinstance(read_event(PUBSUB, notification(objectId=name), "a-bucket"), OtherEvent)


@pytest.mark.parametrize("data", [b'{"bucket": "a-buck', None, "text", [], {}, {"bucket": 5, "name": None}])
def test_a_storage_event_with_damaged_data_is_read_by_its_attributes(data: object) -> None:
    assert read_event(STORAGE, data, "a-bucket") == HOME


def test_an_event_of_another_bucket_is_of_no_concern() -> None:
    for found in (read_event(STORAGE, STORAGE_DATA, "other"), read_event(PUBSUB, notification(), "other")):
        assert isinstance(found, OtherEvent)
        assert "a-bucket" in found.why
        assert "gs://other" in found.why


@pytest.mark.parametrize(
    "name",
    [
        "indexes/home/b1/index.json",
        "models/lite/1/model.json",
        "deployments/staging/home/5.json",
        "commits/",
        "commits/staging/",
        "old/commits/staging/home.json",
        "",
    ],
)
def test_other_objects_are_of_no_concern(name: str) -> None:
    assert isinstance(read_event(STORAGE, STORAGE_DATA | {"name": name} if name else {}, "x" * 5), OtherEvent)
    assert isinstance(read_event(PUBSUB, notification(objectId=name), "a-bucket"), OtherEvent)


@pytest.mark.parametrize(
    "name",
    [
        "commits/home.json",
        "commits/staging/Home.json",
        "commits/staging/home.txt",
        "commits/a/b/c.json",
        "filters/staging/Home.json",
        "filters/staging/home.txt",
    ],
)
def test_a_commit_under_a_name_that_none_may_have_is_said_so(name: str) -> None:
    found = read_event(PUBSUB, notification(objectId=name), "a-bucket")
    assert isinstance(found, Misnamed)
    assert found.name == name


@pytest.mark.parametrize("kind", ["OBJECT_METADATA_UPDATE", "OBJECT_DELETE", "OBJECT_ARCHIVE", ""])
def test_only_finished_uploads_count(kind: str) -> None:
    assert isinstance(read_event(PUBSUB, notification(eventType=kind), "a-bucket"), OtherEvent)


@pytest.mark.parametrize("attributes", [{"sweep": "true"}, {"sweep": "TRUE", "by": "scheduler"}])
def test_a_message_may_ask_for_a_sweep(attributes: dict[str, str]) -> None:
    assert read_event(PUBSUB, {"message": {"attributes": attributes}}, "a-bucket") == SweepAsked()


@pytest.mark.parametrize(
    "data",
    [
        b"{not json",
        None,
        "text",
        5,
        [],
        {},
        {"message": None},
        {"message": "text"},
        {"message": {"data": "e30="}},
        {"message": {"attributes": []}},
        {"message": {"attributes": {"eventType": 5, "sweep": True}}},
        {"message": {"attributes": {"sweep": "false"}}},
    ],
)
def test_a_message_that_is_anything_else_is_passed_over(data: object) -> None:
    assert isinstance(read_event(PUBSUB, data, "a-bucket"), OtherEvent)


@pytest.mark.parametrize("kind", ["google.cloud.storage.object.v1.deleted", "com.example.anything", None, 5])
def test_an_event_of_another_kind_is_passed_over(kind: object) -> None:
    assert isinstance(read_event(STORAGE | {"type": kind}, STORAGE_DATA, "a-bucket"), OtherEvent)
