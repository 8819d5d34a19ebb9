"""Which uploads people are told of."""

from __future__ import annotations

import pytest

from model_repository.bucket.events import FINALIZED, MESSAGE_PUBLISHED, SweepAsked
from model_repository.names import IndexPrefix
from notify.event import Event, Look, Reported, read_event
from notify.subject import Subject

HOME = Look(Subject("staging", "home"))


@pytest.mark.parametrize(
    ("name", "event"),
    [
        ("commits/staging/home.json", HOME),
        ("deployments/staging/home/1763683200000001.json", HOME),
        ("incidents/staging/home.json", HOME),
        ("incidents/staging.json", Look(Subject("staging"))),
        ("reports/home/20261121t1200z.json", Reported(IndexPrefix("home", "20261121t1200z"))),
        ("reports/home/20261121t1200z.html", None),
        ("notices/slack/staging/home.json", None),
        ("deployments/staging/home/last.json", None),
        ("deployments/staging/home.json", None),
        ("commits/Staging/home.json", None),
        ("commits/staging/", None),
        ("indexes/home/b1/index.json", None),
        ("indexes/home/b1/a/b/c.json", None),
        ("", None),
    ],
)
def test_an_upload_says_what_to_look_at(name: str, event: Event) -> None:
    assert read_event({"type": FINALIZED}, {"bucket": "a-bucket", "name": name}, "a-bucket") == event
    stated = {"eventType": "OBJECT_FINALIZE", "bucketId": "a-bucket", "objectId": name}
    assert read_event({"type": MESSAGE_PUBLISHED}, {"message": {"attributes": stated}}, "a-bucket") == event
    assert read_event({"type": FINALIZED}, {"bucket": "another", "name": name}, "a-bucket") is None


def test_a_message_may_ask_for_a_sweep() -> None:
    sweep = {"message": {"attributes": {"sweep": "true"}}}
    assert read_event({"type": MESSAGE_PUBLISHED}, sweep, "a-bucket") == SweepAsked()
