"""How rollouts go, pod by pod, as a webhook tells command and board; one that is away holds nothing up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from google.auth.exceptions import DefaultCredentialsError

from model_repository.documents.receipts.receipt import Outcome
from model_repository.fields import format_moment
from operator_cli.board.identity import OwnMachine
from operator_cli.board.overview import Row
from operator_cli.board.rollouts import Rollouts
from operator_cli.webhook import Webhook, WebhookSilent
from tests import builds
from tests.answering import Answer, Asked, http_server
from tests.operator_cli.board_scene import events, running
from tests.operator_cli.conftest import Operator
from tests.operator_cli.webhook_server import TOKEN, Answers, answering, comparison, rollout


@pytest.fixture
def webhook() -> Iterator[Answers]:
    with answering() as found:
        yield found


@pytest.fixture
def waiting(operator: Operator) -> int:
    """A commit of which nobody knows yet what becomes of it; its generation."""
    operator.environ["CD_WEBHOOK_TOKEN"] = TOKEN
    operator.clock.moment = builds.NOW + timedelta(hours=1)
    operator.deployed(operator.build("b1"))
    return operator.commit(operator.build("b2"))


# --- the command


def test_status_says_how_many_new_pods_are_ready(operator: Operator, webhook: Answers, waiting: int) -> None:
    webhook.rollouts = [rollout("clothing", waiting), rollout("toys", 7)]
    asked = ("status", "--webhook", f"{webhook.url}/webhooks/webhook/indexpush")
    assert "rollout     1 of 3 new pods ready after 42 s: 2 of 3 pods are new" in operator(*asked).out
    (target,) = operator(*asked, "--output", "json").value["targets"]
    assert (target["rollout"]["pods_ready"], target["rollout"]["pods_wanted"]) == (1, 3)
    operator.receipt(waiting, Outcome.SERVED, operator.build("b2"))
    assert operator(*asked, "--output", "json").value["targets"][0]["rollout"] is None


def test_status_says_what_a_canary_shows_while_it_goes_on(operator: Operator, webhook: Answers, waiting: int) -> None:
    going = rollout("clothing", waiting, canary=True, ready=1, wanted=1, given_up_in=252.0)
    webhook.rollouts = [going | {"comparison": comparison()}]
    asked = ("status", "--webhook", webhook.url)
    text = operator(*asked).out
    assert (
        "rollout     1 of 1 canary pods ready after 42 s\n"
        "  canary      no worse, judged in 18 s: canary p95 4.2 ms, 0/420 probes and 9/900 requests failed; "
        "stable p95 3.9 ms, 0/840 probes and 0/1900 requests failed"
    ) in text
    (target,) = operator(*asked, "--output", "json").value["targets"]
    assert target["rollout"]["comparison"] == comparison()
    assert target["rollout"]["given_up_in"] == 252.0

    webhook.rollouts = [going | {"comparison": comparison("worse", why="9 of 10 failed")}]
    assert "canary      worse: 9 of 10 failed, judged in 18 s" in operator(*asked).out
    webhook.rollouts = [going | {"comparison": comparison("too-few-answers", 0.0)}]
    text = operator(*asked).out
    assert "1 of 1 canary pods ready after 42 s, undone in 4 min unless it gets on\n" in text
    assert "canary      too few answers, judged once there are enough answers" in text
    promoted = comparison("promoted", 0.0)
    del promoted["rules"]
    promoted["figures"]["promoted"] = True
    webhook.rollouts = [going | {"canary": False, "comparison": promoted}]
    assert "canary      promoted after 42 s: canary p95" in operator(*asked).out


@pytest.mark.parametrize(
    "unknown", [None, {}, comparison("better"), comparison(figures={"new": 1}), comparison(seconds_left=-1.0)]
)
def test_figures_that_are_not_understood_hide_no_pods(webhook: Answers, unknown: Any) -> None:
    webhook.rollouts = [rollout("clothing", 1, comparison=unknown)]
    (found,) = Webhook(webhook.url, TOKEN).ask().rollouts
    assert (found.ready, found.comparison) == (1, None)


def test_a_commit_that_the_webhook_has_not_taken_up_is_said_to_be_so(
    operator: Operator, webhook: Answers, waiting: int
) -> None:
    webhook.rollouts = [rollout("clothing", waiting + 1)]
    assert "not taken up" in operator("status", "--webhook", webhook.url).out
    webhook.environment = "staging"
    assert "not taken up" not in operator("status", "--webhook", webhook.url).out


def test_a_webhook_that_does_not_answer_is_one_line_and_the_status_stands(
    operator: Operator, webhook: Answers, waiting: int
) -> None:
    webhook.status = 503
    said = operator("status", "--webhook", webhook.url)
    assert said.code == 0
    assert f"generation {waiting}" in said.out
    assert "/v1/rollouts answers 503: see its log" in said.err


def test_what_is_no_url_is_refused(operator: Operator, waiting: int) -> None:
    assert waiting
    for command in ("status", "board"):
        said = operator(command, "--webhook", "cd.example")
        assert (said.code, "--webhook 'cd.example': expected a URL" in said.err) == (64, True)


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (401, None, "set CD_WEBHOOK_TOKEN"),
        (404, None, "an older webhook, or a Spinnaker"),
        (302, None, "answers 302"),
        (200, [], "no answer of a CD webhook"),
        (200, {"rollouts": []}, "no answer of a CD webhook"),
        (200, {"environment": "production", "rollouts": [rollout("No", 1)]}, "no answer of a CD webhook"),
        (200, {"environment": "production", "rollouts": [rollout("a", 1, seconds=-1)]}, "no answer of a CD webhook"),
        (200, {"environment": "x" * 5_000_000}, "too long"),
    ],
)
def test_an_answer_that_makes_no_sense_says_which(webhook: Answers, status: int, body: Any, words: str) -> None:
    webhook.status, webhook.body = status, body
    with pytest.raises(WebhookSilent, match=words):
        Webhook(webhook.url, TOKEN).ask()


def _metadata(asked: Asked) -> Answer:
    """Google's metadata server: an identity token, which says whom it is for."""
    told = ("application/json", '{"email": "board@acme"}')
    if audiences := parse_qs(urlsplit(asked.path).query).get("audience"):
        told = ("text/plain", identity_token(audiences[0]))
    return Answer(told[1].encode(), headers={"metadata-flavor": "Google", "content-type": told[0]})


def identity_token(audience: str) -> str:
    parts = ({"alg": "none"}, {"aud": audience, "exp": 4_000_000_000})
    return ".".join([*(urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts), "c2ln"])


def test_a_board_that_runs_as_a_service_account_shows_its_identity_token(webhook: Answers) -> None:
    webhook.rollouts = [rollout("clothing", 1)]
    webhook.token = identity_token(webhook.url)
    asked = "import sys; from operator_cli.webhook import Webhook; print(Webhook.named(sys.argv[1], os.environ).ask())"
    command = [sys.executable, "-c", f"import os; {asked}", f"{webhook.url}/webhooks/webhook/indexpush"]
    with http_server(_metadata) as url:
        here = url.removeprefix("http://")
        # google-auth reads where the metadata server is when it is imported, hence the process
        metadata = {"GCE_METADATA_HOST": here, "GCE_METADATA_IP": here, "CLOUDSDK_CONFIG": "/nonexistent"}
        said = subprocess.run(
            command,
            env=os.environ | metadata | {"CD_WEBHOOK_AUTH": "google-id-token", "CD_WEBHOOK_TOKEN": "unused"},
            capture_output=True,
            text=True,
            check=True,
        )
    assert "wanted=3" in said.stdout


def test_a_token_that_is_not_to_be_had_is_said_and_nothing_is_asked(
    webhook: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(*_arguments: object, **_options: object) -> None:
        raise DefaultCredentialsError("none")

    monkeypatch.setattr("google.oauth2.id_token.fetch_id_token_credentials", fetch)
    with pytest.raises(WebhookSilent, match=r"no identity token \(none\); run it as a service account"):
        Webhook.named(webhook.url, {"CD_WEBHOOK_AUTH": "google-id-token"}).ask()
    assert not webhook.asked.is_set()


def test_what_pods_say_is_one_printable_line(webhook: Answers) -> None:
    webhook.rollouts = [rollout("clothing", 1, detail="a\x1b[31m\nb")]
    assert Webhook(webhook.url, TOKEN).ask().rollouts[0].detail == "a [31m b"


# --- the board


def row(operator: Operator, generation: int, **more: Any) -> Row:
    commit = {"generation": str(generation), "updated": format_moment(operator.clock.moment), "malformed": None}
    return {"environment": "production", "index": "clothing", "state": "waiting", "commit": commit} | more


def test_a_row_that_rolls_out_has_its_pods_and_since_when(operator: Operator, webhook: Answers) -> None:
    rollouts = Rollouts([Webhook(webhook.url, TOKEN)], operator.clock)
    webhook.rollouts = [rollout("clothing", 7)]
    assert rollouts.look()
    began = format_moment(operator.clock.moment - timedelta(seconds=42))
    expected = {"word": "rolling out", "canary": False, "since": began, "detail": "2 of 3 pods are new"}
    expected |= {"unknown": None, "ends": None, "comparison": None}
    assert rollouts.of(row(operator, 7)) == expected | {"pods": {"ready": 1, "wanted": 3}}
    assert rollouts.of(row(operator, 7, state="served")) is None
    unreadable = row(operator, 7)
    unreadable["commit"]["malformed"] = "not JSON"
    assert rollouts.of(unreadable) is None
    # told a little later again, it is the same beginning: nothing that a browser must be sent
    operator.clock.moment += timedelta(seconds=2)
    webhook.rollouts[0]["seconds"] = 44.4
    rollouts.look()
    assert rollouts.of(row(operator, 7)) == expected | {"pods": {"ready": 1, "wanted": 3}}


def test_a_row_has_what_its_canary_shows_and_when_it_ends_which_stays_the_same_moment(
    operator: Operator, webhook: Answers
) -> None:
    rollouts = Rollouts([Webhook(webhook.url, TOKEN)], operator.clock)
    ends = format_moment(operator.clock.moment + timedelta(seconds=300))
    for seconds, left in ((0.0, 300.0), (2.3, 297.6)):
        going = rollout("clothing", 7, canary=True, seconds=seconds, given_up_in=left, comparison=comparison())
        webhook.rollouts = [going]
        rollouts.look()
        found = rollouts.of(row(operator, 7))
        assert found
        assert (found["ends"], found["comparison"]) == (ends, comparison())
        operator.clock.moment += timedelta(seconds=2)


def test_a_commit_that_is_not_taken_up_is_told_since_it_was_made(operator: Operator, webhook: Answers) -> None:
    rollouts = Rollouts([Webhook(webhook.url, TOKEN)], operator.clock)
    webhook.rollouts = [rollout("clothing", 6)]
    rollouts.look()
    found = rollouts.of(row(operator, 7))
    assert found
    assert (found["word"], found["pods"], found["detail"]) == ("waiting", None, "not taken up yet")
    assert found["unknown"] is None
    assert found["since"] == format_moment(operator.clock.moment)


@pytest.mark.parametrize(
    ("more", "word"),
    [(None, "waiting"), ({"generation": "1"}, "waiting"), ({}, "rolling out"), ({"canary": True}, "trying out")],
)
def test_the_command_and_the_board_say_the_same_word_of_a_commit_without_a_receipt(
    operator: Operator, webhook: Answers, more: dict[str, Any] | None, word: str
) -> None:
    operator.environ["CD_WEBHOOK_TOKEN"] = TOKEN
    generation = operator.commit(operator.build("b1"))
    webhook.rollouts = [] if more is None else [rollout("clothing", generation) | more]
    rollouts = Rollouts([Webhook(webhook.url, TOKEN)], operator.clock)
    rollouts.look()
    found = rollouts.of(row(operator, generation))
    assert found
    assert found["word"] == word
    assert f"outcome     {word}: no receipt yet" in operator("status", "--webhook", webhook.url).out


def test_what_no_webhook_says_is_unknown_with_the_reason(operator: Operator, webhook: Answers) -> None:
    def why(rollouts: Rollouts, **more: Any) -> str:
        found = rollouts.of(row(operator, 7, **more))
        assert found
        assert found["pods"] is None
        return str(found["unknown"])

    assert "start the board with --webhook" in why(Rollouts([], operator.clock))
    rollouts = Rollouts([Webhook(webhook.url, TOKEN)], operator.clock)
    webhook.rollouts = [rollout("clothing", 7)]
    rollouts.look()
    assert "no webhook that is asked deploys to this environment" in why(rollouts, environment="staging")
    webhook.status = 503
    assert rollouts.look()
    assert "answers 503" in why(rollouts)
    webhook.status = 200
    assert rollouts.look()
    assert rollouts.of(row(operator, 7))["pods"] == {"ready": 1, "wanted": 3}  # type: ignore[index]


def test_pods_come_by_themselves_while_a_rollout_goes_on(operator: Operator, webhook: Answers, waiting: int) -> None:
    webhook.rollouts = [rollout("clothing", waiting)]
    with (
        running(operator, OwnMachine("eve"), webhooks=[Webhook(webhook.url, TOKEN)]) as board,
        board.client.stream("GET", "/api/events") as answer,
    ):
        said = events(answer)
        for ready in (1, 2):
            webhook.rollouts = [rollout("clothing", waiting, ready=ready)]
            found = None
            while found != {"ready": ready, "wanted": 3}:
                found = next(said)["rows"]["production/clothing"]["rollout"]["pods"]


def test_a_webhook_that_never_answers_holds_up_neither_the_rows_nor_what_changes(
    operator: Operator, webhook: Answers, waiting: int
) -> None:
    webhook.open.clear()
    with (
        running(operator, OwnMachine("eve"), webhooks=[Webhook(webhook.url, TOKEN)]) as board,
        board.client.stream("GET", "/api/events") as answer,
    ):
        said = events(answer)
        first = next(said)["rows"]["production/clothing"]
        assert (first["state"], first["rollout"]["pods"]) == ("waiting", None)
        assert webhook.asked.wait(60)
        operator.receipt(waiting, Outcome.SERVED, operator.build("b2"))
        while first["state"] != "served":
            first = next(said)["rows"].get("production/clothing", first)
        assert not webhook.open.is_set()
        webhook.open.set()


def test_nobody_is_asked_while_nothing_rolls_out(operator: Operator, webhook: Answers) -> None:
    operator.deployed(operator.build("b1"))
    with (
        running(operator, OwnMachine("eve"), webhooks=[Webhook(webhook.url, TOKEN)]) as board,
        board.client.stream("GET", "/api/events") as answer,
    ):
        said = events(answer)
        next(said)
        operator.store.delete(operator.target.commit_name)
        assert next(said)["gone"] == ["production/clothing"]
    assert not webhook.asked.is_set()
