"""Any webhook, beside Slack: what it gets, and that neither waits for the other."""

from __future__ import annotations

import json
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from model_repository.documents.receipts.receipt import Outcome
from notify.sinks.sink import SinkBusy, SinkUnavailable
from notify.sinks.webhook import HttpWebhook
from tests.answering import Answer, Asked, http_server
from tests.notify.scene import Scene
from tests.notify.slack_server import SlackServer


@dataclass
class Receiver:
    url: str = ""
    status: int = 200
    retry_after: str = ""
    got: list[tuple[Mapping[str, str], dict[str, Any]]] = field(default_factory=list)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()

    def answer(asked: Asked) -> Answer:
        found.got.append((asked.headers, json.loads(asked.body)))
        return Answer(status=found.status, headers={"Retry-After": found.retry_after} if found.retry_after else {})

    with http_server(answer) as url:
        found.url = f"{url}/told"
        yield found


@pytest.fixture
def both(scene: Scene, receiver: Receiver) -> Scene:
    scene.sinks = [scene.sink(), HttpWebhook(receiver.url, lambda: "a-secret")]
    return scene


def test_a_webhook_gets_each_thing_that_is_told(both: Scene, receiver: Receiver) -> None:
    generation = both.commit()
    both.look()
    both.receipt(generation, Outcome.UNDONE, detail="no")
    both.look()
    both.look()
    assert [(said["kind"], said["stage"]) for _, said in receiver.got] == [
        ("post", "open"),
        ("alarm", "bad"),
        ("update", "bad"),
    ]
    headers, said = receiver.got[0]
    assert headers["authorization"] == "Bearer a-secret"
    assert headers["idempotency-key"] == said["id"] == f"staging/home commit {generation}"
    assert (said["environment"], said["index"], said["about"]) == ("staging", "home", f"commit {generation}")


def test_neither_waits_for_the_other(both: Scene, slack: SlackServer, receiver: Receiver) -> None:
    both.commit()
    slack.refuse("internal_error")
    with pytest.raises(SinkUnavailable):
        both.look()
    assert len(receiver.got) == 1
    slack.answer = lambda _: None
    both.after(minutes=1)
    both.look()
    assert len(slack.messages) == 1
    assert [said["kind"] for _, said in receiver.got] == ["post", "update"]


def test_what_was_not_answered_comes_again_with_its_key(both: Scene, receiver: Receiver) -> None:
    both.commit()
    receiver.status = 502
    with pytest.raises(SinkUnavailable, match="502"):
        both.look()
    receiver.status = 200
    both.after(minutes=1)
    both.look()
    (first, _), (second, said) = receiver.got
    assert first["idempotency-key"] == second["idempotency-key"]
    assert said["retry"]


def test_a_webhook_that_asks_for_time_gets_it(both: Scene, receiver: Receiver) -> None:
    both.commit()
    receiver.status, receiver.retry_after = 503, "7"
    with pytest.raises(SinkBusy, match="7 s"):
        both.look()


@pytest.mark.parametrize("host", ["127.0.0.1:1", "a..b", "[::1", "x:99999", "*"])
def test_the_address_of_a_webhook_is_told_nobody(scene: Scene, host: str) -> None:
    scene.sinks = [HttpWebhook(f"http://{host}/services/a-secret", lambda: "")]
    scene.commit()
    with pytest.raises(SinkUnavailable) as raised:
        scene.look()
    assert "a-secret" not in "".join(traceback.format_exception(raised.value))


@pytest.mark.parametrize("status", [302, 401, 404])
def test_what_a_webhook_refuses_is_acknowledged_and_named(both: Scene, receiver: Receiver, status: int) -> None:
    both.commit()
    receiver.status = status
    both.look()
    assert f"WEBHOOK_URL answered {status}: correct the address" in both.lines()[-1]["message"]
