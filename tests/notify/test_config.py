"""The environment, the secrets, and ``--check``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from model_repository.errors import Misconfigured
from notify.check import check
from notify.config import Config, Secret
from notify.main import open_store
from tests.notify.slack_server import CHANNEL, TOKEN, SlackServer

WELL = {"MODEL_REPOSITORY": "gs://a-bucket", "SLACK_CHANNEL": CHANNEL, "SLACK_TOKEN": TOKEN}


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"SLACK_CHANNEL": "#deployments"}, "expected a channel's ID"),
        ({"SLACK_CHANNEL": ""}, "need each other"),
        ({"SLACK_TOKEN": ""}, "need each other"),
        ({"SLACK_TOKEN": "two\nlines"}, "printable ASCII"),
        ({"SLACK_TOKEN_FILE": "/secrets/slack"}, "keep one"),
        ({"SLACK_CHANNEL_9": CHANNEL}, "SLACK_CHANNEL_9"),
        ({"SLACK_CHANNEL": "", "SLACK_TOKEN": ""}, "nobody would be told"),
        ({"WEBHOOK_URL": "ftp://x"}, "WEBHOOK_URL"),
        ({"WEBHOOK_URL": "http://[::1/x"}, "WEBHOOK_URL"),
        ({"RECEIPT_MINUTES": "soon"}, "RECEIPT_MINUTES"),
        ({"MODEL_REPOSITORY": ""}, "MODEL_REPOSITORY is not set"),
    ],
)
def test_what_is_wrong_is_named(changed: dict[str, str], problem: str) -> None:
    with pytest.raises(Misconfigured, match=problem):
        Config.from_environment(WELL | changed)


def test_an_address_that_may_be_a_secret_is_not_repeated() -> None:
    with pytest.raises(Misconfigured, match="WEBHOOK_URL: expected") as raised:
        Config.from_environment(WELL | {"WEBHOOK_URL": "hooks.slack.com/services/T0/B0/a-secret"})
    assert "a-secret" not in str(raised.value)


def test_each_environment_may_have_a_channel_of_its_own() -> None:
    config = Config.from_environment(WELL | {"SLACK_CHANNEL_PRODUCTION_EU": "C0999WXYZ"})
    assert [config.channel(name) for name in ("production-eu", "staging")] == ["C0999WXYZ", CHANNEL]
    only = Config.from_environment({**WELL, "SLACK_CHANNEL": "", "SLACK_CHANNEL_PRODUCTION": CHANNEL})
    assert [only.tells_slack(name) for name in ("production", "staging")] == [True, False]


def test_a_mounted_secret_is_read_anew_for_each_use_and_shown_nowhere(tmp_path: Path) -> None:
    file = tmp_path / "token"
    config = Config.from_environment({**WELL, "SLACK_TOKEN": "", "SLACK_TOKEN_FILE": str(file)})
    with pytest.raises(Misconfigured, match="can't be read"):
        config.slack_token.read()
    for token in ("one", "two"):
        file.write_text(f"{token}\n")
        assert config.slack_token.read() == token
    assert TOKEN not in repr(Secret(TOKEN))


def test_the_check_looks_at_bucket_and_channels(new_bucket: Callable[[], str], slack: SlackServer) -> None:
    well = WELL | {"MODEL_REPOSITORY": f"gs://{new_bucket()}", "SLACK_API_URL": slack.url}
    found = list(check(well, open_store))
    assert [fine for fine, _ in found] == [True, True, True]
    assert "(C0123ABCD) to indexpush in Acme" in found[2][1]
    assert "chat.postMessage" not in slack.calls
    wrong = [said for fine, said in check(well | {"SLACK_CHANNEL": "C0999WXYZ"}, open_store) if not fine]
    assert len(wrong) == 1
    assert "channel_not_found: SLACK_CHANNEL must be a channel's ID" in wrong[0]
    assert [fine for fine, _ in check({}, open_store)] == [False, False]
