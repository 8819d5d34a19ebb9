"""Configuration: everything that is wrong is said at once, in sentences that name the variable."""

from __future__ import annotations

import pytest

from model_repository.deployment import AuthKind
from model_repository.errors import Misconfigured
from model_repository.programs.function_config import Config

ENOUGH = {"MODEL_REPOSITORY": "gs://a-bucket", "CD_WEBHOOK_URL": "http://cd.internal:8080/webhooks/webhook/indexpush"}


def problems(environ: dict[str, str]) -> tuple[str, ...]:
    with pytest.raises(Misconfigured) as caught:
        Config.from_environment(environ)
    return caught.value.problems


def test_two_variables_are_enough() -> None:
    config = Config.from_environment(ENOUGH | {"PATH": "/bin", "PORT": "8080"})
    assert config == Config("a-bucket", ENOUGH["CD_WEBHOOK_URL"], {})
    assert config.webhook_for("staging") == ENOUGH["CD_WEBHOOK_URL"]


def test_each_environment_may_have_its_own_webhook() -> None:
    own = "https://cd.example.com/production-eu"
    config = Config.from_environment(ENOUGH | {"CD_WEBHOOK_URL_PRODUCTION_EU": own})
    assert config.webhook_for("production-eu") == own
    assert config.webhook_for("staging") == ENOUGH["CD_WEBHOOK_URL"]


def test_without_a_common_webhook_only_the_named_environments_may_deploy() -> None:
    config = Config.from_environment(
        {"MODEL_REPOSITORY": "gs://a-bucket/", "CD_WEBHOOK_URL_STAGING": "http://cd.internal/hook"}
    )
    assert config.webhook_for("staging") == "http://cd.internal/hook"
    assert config.webhook_for("production") is None


def test_a_bearer_secret_is_taken_only_for_bearer() -> None:
    bearer = {"CD_WEBHOOK_AUTH": "bearer", "CD_WEBHOOK_TOKEN": "s3cret\n"}  # mounted secrets end with a newline
    assert Config.from_environment(ENOUGH | bearer).webhook_token == "s3cret"
    assert Config.from_environment(ENOUGH | bearer | {"CD_WEBHOOK_AUTH": "none"}).webhook_token == ""
    google = Config.from_environment(ENOUGH | {"CD_WEBHOOK_AUTH": "google-id-token"})
    assert google.webhook_auth is AuthKind.GOOGLE_ID_TOKEN


def test_an_empty_environment_names_both_that_are_needed() -> None:
    found = problems({})
    assert len(found) == 2
    assert found[0].startswith("MODEL_REPOSITORY is not set")
    assert found[1].startswith("CD_WEBHOOK_URL is not set")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("MODEL_REPOSITORY", "a-bucket"),
        ("MODEL_REPOSITORY", "gs://a-bucket/indexes"),
        ("MODEL_REPOSITORY", "gs://"),
        ("CD_WEBHOOK_URL", "cd.internal/hook"),
        ("CD_WEBHOOK_URL", "ftp://cd.internal/hook"),
        ("CD_WEBHOOK_URL", "http://"),
        ("CD_WEBHOOK_URL", "http://cd:port/"),
        ("CD_WEBHOOK_URL", "http://cd/\nhook"),
        ("CD_WEBHOOK_URL_STAGING", ""),
        ("CD_WEBHOOK_URL_STAGING_", "http://cd/"),
        ("CD_WEBHOOK_AUTH", "basic"),
        ("NOTIFY_TOPIC", "refusals"),
        ("NOTIFY_TOPIC", "projects/p/topics/"),
    ],
)
def test_a_value_that_cannot_be_meant_is_named_with_what_is_expected(variable: str, value: str) -> None:
    (found,) = problems(ENOUGH | {variable: value})
    assert found.startswith(variable)


@pytest.mark.parametrize("token", ["", " ", "two\nlines", "s\u00e9cret"])
def test_bearer_without_a_usable_secret_is_refused(token: str) -> None:
    (found,) = problems(ENOUGH | {"CD_WEBHOOK_AUTH": "bearer", "CD_WEBHOOK_TOKEN": token})
    assert "CD_WEBHOOK_TOKEN" in found
    assert not token.strip() or token not in found, "a secret is never printed"
