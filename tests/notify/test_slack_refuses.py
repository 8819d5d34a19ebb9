"""Slack that refuses, asks for time, answers nonsense or not at all."""

from __future__ import annotations

import pytest

from model_repository.documents.receipts.receipt import Outcome
from model_repository.errors import TransientError
from notify.deliver import Claimed
from notify.sinks.sink import SinkBusy
from tests.notify.scene import Scene
from tests.notify.slack_server import CHANNEL, TOKEN, SlackServer


def test_slack_that_asks_for_time_gets_it(scene: Scene, slack: SlackServer) -> None:
    generation = scene.commit()
    slack.answer = lambda _: (429, {"Retry-After": "90"}, {"ok": False, "error": "ratelimited"})
    with pytest.raises(SinkBusy, match="90 s"):
        scene.look()
    scene.after(seconds=60)
    with pytest.raises(Claimed):
        scene.look()
    assert slack.calls == ["chat.postMessage"]
    slack.answer = lambda _: None
    scene.receipt(generation)
    scene.after(seconds=31)
    scene.look()
    assert slack.calls == ["chat.postMessage"] * 2  # and nothing was looked for: nothing was in doubt
    assert len(slack.messages) == 1


@pytest.mark.parametrize(
    ("error", "mend"),
    [
        ("channel_not_found", "SLACK_CHANNEL must be a channel's ID"),
        ("not_in_channel", "/invite it"),
        ("is_archived", "unarchive the channel"),
        ("invalid_auth", "secret of SLACK_TOKEN"),
        ("token_revoked", "secret of SLACK_TOKEN"),
        ("missing_scope", "chat:write, channels:history"),
    ],
)
def test_what_slack_refuses_for_good_is_acknowledged_named_and_told_once_it_is_mended(
    scene: Scene, slack: SlackServer, error: str, mend: str
) -> None:
    scene.commit()
    slack.refuse(error)
    scene.look()
    line = scene.lines()[-1]
    assert (line["severity"], line["code"]) == ("ERROR", "tell-refused")
    assert error in line["message"]
    assert mend in line["message"]
    slack.answer = lambda _: None
    scene.sweep()
    assert len(slack.messages) == 1


@pytest.mark.parametrize("error", ["internal_error", "fatal_error", "service_unavailable", "something_new"])
def test_what_slack_says_of_itself_may_pass(scene: Scene, slack: SlackServer, error: str) -> None:
    scene.commit()
    slack.refuse(error)
    with pytest.raises(TransientError, match=error):
        scene.look()


def test_a_wrong_token_and_a_wrong_channel_are_found_by_the_server_itself(scene: Scene, slack: SlackServer) -> None:
    scene.commit()
    scene.token = "xoxb-another"
    scene.look()
    scene.token, scene.channel = TOKEN, "C0000NONE"
    scene.look()
    assert ["invalid_auth" in scene.lines()[0]["message"], "channel_not_found" in scene.lines()[1]["message"]] == [
        True,
        True,
    ]
    assert slack.messages == []


def test_a_channel_that_was_given_up_keeps_nothing_from_being_told_in_the_other(
    scene: Scene, slack: SlackServer
) -> None:
    undone = scene.commit("b1")
    scene.receipt(undone, Outcome.UNDONE, detail="no")
    scene.look()
    waits = scene.commit("b2")
    scene.look()
    slack.channels = {CHANNEL: "is_archived", "C0ANOTHER": ""}
    scene.channel = "C0ANOTHER"
    scene.receipt(waits, Outcome.UNDONE, detail="neither")
    scene.look()
    scene.receipt(scene.commit("b3"))
    scene.look()
    told = [message for message in slack.posted if message.channel == "C0ANOTHER"]
    assert ["neither" in told[0].text, "Served" in told[1].text] == [True, True]  # who must be called is called here
    assert told[0].text.endswith("No longer live.")
    assert len(told) == 2
    assert scene.lines()[-1]["severity"] == "INFO"


def test_a_sweep_leaves_alone_whoever_asks_for_time_or_does_not_answer(scene: Scene, slack: SlackServer) -> None:
    for number in range(5):
        data = f'{{"index_prefix": "indexes/i{number}/b1"}}'.encode()
        scene.store.write(f"commits/staging/i{number}.json", data, if_generation_match=0)
    slack.answer = lambda _: (429, {"Retry-After": "60"}, {"ok": False, "error": "ratelimited"})
    scene.sweep()
    assert slack.calls == ["chat.postMessage"]
    slack.answer, slack.lost = lambda _: None, {"chat.postMessage"}
    scene.after(minutes=2)
    scene.sweep()
    assert slack.calls == ["chat.postMessage"] * 2
    slack.lost = set()
    scene.after(minutes=2)
    scene.sweep()
    assert len(slack.messages) == 5


@pytest.mark.parametrize(
    "answer",
    [
        b'HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"ok": tr',
        b"BOOM\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 8\r\n\r\n<secret>",
        b"HTTP/1.1 502 Bad\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
        b'HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{"ok": true}',
        b'HTTP/1.1 429 No\r\nRetry-After: 99999999999999\r\nContent-Length: 13\r\n\r\n{"ok": false}',
    ],
)
def test_what_is_no_answer_of_slack_may_pass_and_is_not_repeated_in_the_log(
    scene: Scene, slack: SlackServer, answer: bytes
) -> None:
    scene.commit()
    slack.broken = answer
    with pytest.raises(TransientError) as raised:
        scene.look()
    assert "secret" not in str(raised.value)
    slack.broken = b""
    scene.after(hours=1, seconds=1)
    scene.look()
    assert len(slack.messages) == 1
