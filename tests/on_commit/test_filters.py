"""Filters: the function has the webhook put them in force, and a sweep those whose event was lost."""

from __future__ import annotations

from datetime import timedelta

import pytest

from model_repository.documents.receipts.filter_receipt import FilterOutcome, FilterReceipt
from model_repository.errors import BucketUnavailable
from model_repository.names import Target
from model_repository.repository import write_filter, write_filter_receipt
from on_commit.event import FilterUploaded
from on_commit.filters import FiltersUnsupported
from on_commit.webhook import FilterAnswer, HttpWebhook, WebhookNotNow, WebhookSetup, WebhookUnavailable
from tests.on_commit.doubles import WebhookServer
from tests.on_commit.scene import HOME, Scene
from tests.on_commit.test_webhook import config

GARDEN = Target("production", "garden")


def hide(scene: Scene, target: Target, *, ended: bool = False) -> int:
    """Somebody uploads a filter; ended: and what became of it is known."""
    generation = write_filter(scene.store, target, ["a"]).generation
    if ended:
        now = scene.clock.now()
        receipt = FilterReceipt(target, generation, FilterOutcome.APPLIED, 1, 3, "", now, now)
        write_filter_receipt(scene.store, receipt)
    return generation


def test_the_webhook_is_asked_to_look(scene: Scene) -> None:
    scene.handle(FilterUploaded(HOME))
    assert scene.webhook.filters == [HOME]
    assert scene.lines()[-1]["outcome"] == "applied"


def test_what_may_pass_is_raised_and_told_once_when_it_lasts_and_once_when_it_is_over(scene: Scene) -> None:
    scene.webhook.failure = WebhookNotNow("filter-not-in-force: 1 pods don't confirm")
    for _ in range(3):
        with pytest.raises(WebhookNotNow):
            scene.handle(FilterUploaded(HOME))
        scene.clock.moment += timedelta(minutes=4)
    (told,) = scene.notifier.notices
    assert (told.event, told.code, told.index) == ("fault", "filter-waits", HOME.index)
    assert "don't confirm" in told.detail
    scene.webhook.failure = None
    scene.handle(FilterUploaded(HOME))
    assert [notice.event for notice in scene.notifier.notices] == ["fault", "over"]


def test_a_commit_that_is_well_does_not_end_the_trouble_of_a_filter_nor_the_other_way_round(scene: Scene) -> None:
    scene.publish()
    scene.commit()
    scene.webhook.failure = WebhookNotNow("no")
    for _ in range(2):
        with pytest.raises(WebhookNotNow):
            scene.handle(FilterUploaded(HOME))
        scene.clock.moment += timedelta(minutes=6)
    scene.webhook.failure = None
    scene.look()
    assert [notice.event for notice in scene.notifier.notices] == ["fault"]


def test_where_the_cd_side_is_a_spinnaker_the_filter_waits_and_it_is_said(scene: Scene) -> None:
    scene.webhook.filter_answer = None
    with pytest.raises(FiltersUnsupported, match=r"filters/staging/home\.json: .*a Spinnaker doesn't"):
        scene.handle(FilterUploaded(HOME))


def test_a_sweep_looks_at_filters_without_a_receipt_and_at_no_others(scene: Scene) -> None:
    hide(scene, HOME, ended=True)
    scene.sweep()
    assert scene.webhook.filters == []
    hide(scene, HOME)
    hide(scene, GARDEN)
    scene.store.write("filters/staging/Not_An_Index/x", b"", if_generation_match=0)
    scene.sweep()
    assert sorted(map(str, scene.webhook.filters)) == ["production/garden", "staging/home"]


def test_a_sweep_looks_at_a_first_filter_that_came_without_data(scene: Scene) -> None:
    """As somebody uploads one by hand that makes no sense: nothing of it stands in a folder yet."""
    scene.store.write(HOME.filter_name, b"{", if_generation_match=0)
    scene.store.write("filters/staging/Not_An_Index.json", b"", if_generation_match=0)
    scene.sweep()
    assert scene.webhook.filters == [HOME]


def test_a_sweep_goes_on_where_one_environment_s_webhook_can_do_nothing(scene: Scene) -> None:
    hide(scene, HOME)
    hide(scene, GARDEN)
    scene.store.fail = lambda kind, name: (
        BucketUnavailable("away") if kind == "listing" and name == "filters/production/" else None
    )
    scene.sweep()
    assert scene.webhook.filters == [HOME]


def test_the_look_is_a_post_at_the_webhook_s_origin(webhook_server: WebhookServer) -> None:
    webhook_server.body = b'{"eventProcessed": true, "outcome": "rejected", "detail": "not JSON"}'
    webhook = HttpWebhook(config(webhook_server.url))
    assert webhook.apply_filter(HOME) == FilterAnswer("rejected", "not JSON")
    assert [(method, path) for method, path, *_ in webhook_server.requests] == [("POST", "/v1/filters/home")]


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, b"<html>", WebhookSetup),
        (200, b"{}", WebhookSetup),
        (401, b"", WebhookSetup),
        (503, b'{"code": "filter-not-in-force", "detail": "1 pods"}', WebhookNotNow),
        (503, b"", WebhookUnavailable),
    ],
)
def test_what_is_no_answer_of_cd_webhook_may_pass(
    webhook_server: WebhookServer, status: int, body: bytes, expected: type[Exception]
) -> None:
    webhook_server.status, webhook_server.body = status, body
    with pytest.raises(expected):
        HttpWebhook(config(webhook_server.url)).apply_filter(HOME)


def test_a_spinnaker_has_no_such_door(webhook_server: WebhookServer) -> None:
    webhook_server.status = 404
    assert HttpWebhook(config(webhook_server.url)).apply_filter(HOME) is None
