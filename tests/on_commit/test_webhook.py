"""The webhook over real HTTP: what its statuses and bodies mean, decided by status and field alone."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest
from google.auth import exceptions

from model_repository.deployment import AnswerOutcome, AuthKind
from model_repository.names import IndexPrefix, Target
from model_repository.programs.function_config import Config
from model_repository.programs.identity_tokens import IdentityTokens
from model_repository.telemetry.log import tracing
from on_commit import webhook as webhook_module
from on_commit.compare import IndexStatus
from on_commit.webhook import (
    EnvironmentUnknown,
    HttpWebhook,
    WebhookAnswer,
    WebhookNotNow,
    WebhookRefused,
    WebhookSetup,
    WebhookUnavailable,
)
from tests import builds
from tests.on_commit.doubles import WebhookServer

auth: Any = exceptions  # its classes are untyped
REQUEST = builds.request(target=Target("staging-eu", "home"))


def config(url: str, **fields: Any) -> Config:
    return Config("a-bucket", url, {}, **fields)


def test_the_request_arrives_whole_and_in_its_trace(webhook_server: WebhookServer) -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    with tracing({"traceparent": trace}, {}, ""):
        answer = HttpWebhook(config(webhook_server.url)).send(REQUEST)
    assert answer == WebhookAnswer(AnswerOutcome.ACCEPTED, event_id="an-event-id")
    ((method, path, headers, body),) = webhook_server.requests
    assert (method, path) == ("POST", "/webhooks/webhook/indexpush")
    assert headers["content-type"] == "application/json"
    assert headers["traceparent"] == trace
    assert "authorization" not in headers
    assert json.loads(body) == REQUEST.to_payload()


@pytest.mark.parametrize("outcome", ["accepted", "already-deployed", "superseded"])
def test_our_own_webhook_says_what_it_made_of_it(webhook_server: WebhookServer, outcome: str) -> None:
    said = {"eventProcessed": True, "eventId": "5", "outcome": outcome, "detail": "why"}
    webhook_server.body = json.dumps(said).encode()
    assert HttpWebhook(config(webhook_server.url)).send(REQUEST) == WebhookAnswer(AnswerOutcome(outcome), "why", "5")


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"<html>sign in</html>", b"[]", b"null", b"{}", b"\xff\xfe", b"[" * 60_000, b" " * 10_000_000),
        *(b'{"eventId": "5"}', b'{"outcome": "maybe"}', b'{"outcome": 5}'),
    ],
)
def test_a_2xx_that_is_no_cd_webhooks_is_a_fault_of_the_set_up(webhook_server: WebhookServer, body: bytes) -> None:
    webhook_server.body = body
    with pytest.raises(WebhookSetup, match="not as a CD webhook does; see what stands at CD_WEBHOOK_URL"):
        HttpWebhook(config(webhook_server.url)).send(REQUEST)


def test_only_a_verdict_that_says_so_is_the_last_word(webhook_server: WebhookServer) -> None:
    webhook_server.status = 422
    webhook_server.body = b'{"outcome": "rejected", "code": "cluster-refused", "detail": "not managed by indexpush"}'
    with pytest.raises(WebhookRefused, match="cluster-refused: not managed by indexpush"):
        HttpWebhook(config(webhook_server.url)).send(REQUEST)


def test_the_webhooks_own_reason_is_kept(webhook_server: WebhookServer) -> None:
    webhook_server.body = b'{"code": "document-malformed", "detail": "parameters: unknown field \'restores\'"}'
    webhook_server.status = 422
    with pytest.raises(WebhookSetup, match=r"document-malformed: parameters: unknown field 'restores'"):
        HttpWebhook(config(webhook_server.url)).send(REQUEST)
    webhook_server.body = b'{"code": "cluster-forbids", "detail": "compare the Role"}'
    webhook_server.status = 503
    with pytest.raises(WebhookNotNow, match="cluster-forbids: compare the Role"):
        HttpWebhook(config(webhook_server.url)).send(REQUEST)


def test_the_status_of_an_environment_is_read_at_the_webhooks_origin(webhook_server: WebhookServer) -> None:
    served = {"index": "home", "rollout": "served", "service": False}
    served |= {"requested": {"generation": "7", "index_prefix": "indexes/home/b7"}, "last_good": None}
    webhook_server.body = json.dumps({"deployments": [served]}).encode()
    found = HttpWebhook(config(webhook_server.url)).statuses("staging-eu")
    assert found == {"home": IndexStatus("home", 7, IndexPrefix("home", "b7"), service=False)}
    assert [(method, path) for method, path, *_ in webhook_server.requests] == [("GET", "/v1/deployments")]


def test_a_spinnaker_says_no_status(webhook_server: WebhookServer) -> None:
    webhook_server.status = 404
    assert HttpWebhook(config(webhook_server.url)).statuses("staging-eu") is None
    webhook_server.status = 200
    assert HttpWebhook(config(webhook_server.url)).statuses("staging-eu") is None  # something else in JSON


@pytest.mark.parametrize("status", [500, 502, 503, 504, 429, 408, 425, 599])
def test_what_may_pass_is_transient(webhook_server: WebhookServer, status: int) -> None:
    webhook_server.status = status
    with pytest.raises(WebhookUnavailable, match=str(status)):
        HttpWebhook(config(webhook_server.url)).send(REQUEST)


@pytest.mark.parametrize(
    ("status", "mend"),
    [
        (400, "its release"),
        (401, "CD_WEBHOOK_AUTH"),
        (403, "CD_WEBHOOK_AUTH"),
        (404, "correct CD_WEBHOOK_URL"),
        (409, "its release"),
        (422, "its release"),
    ],
)
def test_a_fault_of_the_set_up_says_the_mend_and_the_commit_waits(
    webhook_server: WebhookServer, status: int, mend: str
) -> None:
    webhook_server.status = status
    webhook_server.body = b"503 Service Unavailable, please retry"  # the text decides nothing
    with pytest.raises(WebhookSetup, match=mend):
        HttpWebhook(config(webhook_server.url)).send(REQUEST)


def test_a_redirect_is_not_followed_because_the_post_would_arrive_as_a_get(webhook_server: WebhookServer) -> None:
    webhook_server.status = 302
    webhook_server.headers = {"Location": "/elsewhere"}
    with pytest.raises(WebhookSetup, match="final URL"):
        HttpWebhook(config(webhook_server.url)).send(REQUEST)
    assert len(webhook_server.requests) == 1


def test_nobody_listening_is_transient() -> None:
    with pytest.raises(WebhookUnavailable, match=r"127\.0\.0\.1:1"):
        HttpWebhook(config("http://127.0.0.1:1/hook")).send(REQUEST)


def test_a_webhook_that_never_answers_is_transient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook_module, "_CONNECT_AND_READ_SECONDS", (0.2, 0.2))
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(WebhookUnavailable):
        HttpWebhook(config(f"http://127.0.0.1:{silent.getsockname()[1]}/")).send(REQUEST)


def test_an_environment_without_a_webhook_is_refused_and_names_the_variable() -> None:
    only_production = Config("a-bucket", "", {"production": "http://cd.internal/hook"})
    with pytest.raises(EnvironmentUnknown, match="CD_WEBHOOK_URL_STAGING_EU"):
        HttpWebhook(only_production).send(REQUEST)


def test_each_environment_reaches_its_own_webhook(webhook_server: WebhookServer) -> None:
    both = Config("a-bucket", "http://127.0.0.1:1/", {"staging-eu": webhook_server.url})
    assert HttpWebhook(both).send(REQUEST).said is AnswerOutcome.ACCEPTED


def test_a_bearer_secret_goes_along(webhook_server: WebhookServer) -> None:
    HttpWebhook(config(webhook_server.url, webhook_auth=AuthKind.BEARER, webhook_token="s3cret")).send(REQUEST)
    assert webhook_server.requests[0].headers["authorization"] == "Bearer s3cret"


def test_an_identity_token_is_for_the_webhooks_origin(webhook_server: WebhookServer) -> None:
    audiences: list[str] = []

    def tokens(audience: str) -> str:
        audiences.append(audience)
        return "a-token"

    HttpWebhook(config(webhook_server.url, webhook_auth=AuthKind.GOOGLE_ID_TOKEN), tokens).send(REQUEST)
    assert webhook_server.requests[0].headers["authorization"] == "Bearer a-token"
    assert audiences == [webhook_server.url.removesuffix("/webhooks/webhook/indexpush")]


class _Credentials:
    """Identity-token credentials as google-auth has them: invalid until refreshed."""

    def __init__(self) -> None:
        self.valid = False
        self.refreshed = 0

    @property
    def token(self) -> str:
        return f"token-{self.refreshed}"

    def refresh(self, _request: object) -> None:
        self.valid = True
        self.refreshed += 1


def test_an_identity_token_is_used_for_as_long_as_it_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    credentials = _Credentials()
    monkeypatch.setattr("google.oauth2.id_token.fetch_id_token_credentials", lambda *_a, **_k: credentials)
    tokens = IdentityTokens()
    assert [tokens("https://cd"), tokens("https://cd")] == ["token-1", "token-1"]
    credentials.valid = False  # an hour later
    assert tokens("https://cd") == "token-2"


@pytest.mark.parametrize(
    ("error", "family"),
    [
        (auth.TransportError("metadata server"), WebhookUnavailable),
        (auth.RefreshError("busy", retryable=True), WebhookUnavailable),
        (auth.RefreshError("no such account"), WebhookSetup),
        (auth.DefaultCredentialsError("none"), WebhookSetup),
    ],
)
def test_a_token_that_is_not_to_be_had_is_told_by_kind(
    monkeypatch: pytest.MonkeyPatch, error: Exception, family: type[Exception]
) -> None:
    def fetch(*_arguments: object, **_options: object) -> None:
        raise error

    monkeypatch.setattr("google.oauth2.id_token.fetch_id_token_credentials", fetch)
    with pytest.raises(family, match=r"https://cd\.example\.com: no identity token"):
        HttpWebhook(config("https://cd.example.com/hook", webhook_auth=AuthKind.GOOGLE_ID_TOKEN)).send(REQUEST)
