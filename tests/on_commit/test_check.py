"""``python main.py --check`` says what is misconfigured, all of it, in sentences."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from local_stack.pubsub import Topics
from on_commit.check import check
from on_commit.main import open_store
from tests.on_commit.doubles import TOPIC, WebhookServer


def wrong(environ: dict[str, str]) -> list[str]:
    return [sentence for fine, sentence in check(environ, open_store) if not fine]


@pytest.fixture
def well(new_bucket: Callable[[], str], webhook_server: WebhookServer, refusals: Topics) -> dict[str, str]:
    del refusals
    return {
        "MODEL_REPOSITORY": f"gs://{new_bucket()}",
        "CD_WEBHOOK_URL": webhook_server.url,
        "NOTIFY_TOPIC": TOPIC,
    }


@pytest.mark.parametrize("status", [200, 405])
def test_all_is_well_when_everything_answers(well: dict[str, str], webhook_server: WebhookServer, status: int) -> None:
    webhook_server.status = status  # a webhook takes POSTs: 405 is its right answer to a look
    assert wrong(well) == []
    assert [method for method, *_ in webhook_server.requests] == ["GET"]


def test_everything_that_is_wrong_is_said_at_once(well: dict[str, str], webhook_server: WebhookServer) -> None:
    webhook_server.status = 404
    gone = {"MODEL_REPOSITORY": "gs://no-such-bucket", "NOTIFY_TOPIC": f"{TOPIC}-gone"}
    found = wrong(well | gone | {"CD_WEBHOOK_URL_STAGING": "http://127.0.0.1:1/"})
    assert len(found) == 4
    assert "gs://no-such-bucket: no such bucket" in found[0]
    assert "correct CD_WEBHOOK_URL" in found[1]
    assert "of staging (http://127.0.0.1:1/) does not answer" in found[2]
    assert f"NOTIFY_TOPIC {TOPIC}-gone: there is no such topic" in found[3]


def test_an_environment_that_says_nothing_is_told_what_is_needed() -> None:
    found = wrong({})
    assert [sentence.split(" ")[0] for sentence in found] == ["MODEL_REPOSITORY", "CD_WEBHOOK_URL"]


def test_a_webhook_that_does_not_let_us_in_is_wrong(well: dict[str, str], webhook_server: WebhookServer) -> None:
    webhook_server.status = 403
    (found,) = wrong(well)
    assert "CD_WEBHOOK_AUTH" in found
