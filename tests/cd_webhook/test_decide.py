"""The rule of what goes live, one sentence a test."""

from __future__ import annotations

from cd_webhook.decide import AlreadyDeployed, Deploy, Superseded, decide
from tests.cd_webhook.webhook_scene import request


def test_the_first_commit_of_an_index_is_deployed() -> None:
    assert decide(request(1), None) == Deploy(request(1))


def test_an_older_build_under_a_newer_generation_is_a_rollback_and_is_deployed() -> None:
    rollback = request(3, build="b1")
    assert decide(rollback, 2) == Deploy(rollback)


def test_the_same_commit_uploaded_again_is_deployed_again() -> None:
    again = request(3, build="b2")
    assert decide(again, 2) == Deploy(again)


def test_a_duplicate_delivery_changes_nothing() -> None:
    assert decide(request(2), 2) == AlreadyDeployed(2)


def test_a_late_delivery_never_puts_an_old_commit_over_a_newer_one() -> None:
    assert decide(request(1), 2) == Superseded(by_generation=2)
