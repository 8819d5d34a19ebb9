"""The CD webhook: ours, or a Spinnaker."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any, Protocol

import requests

from model_repository.deployment import AnswerOutcome, AuthKind, DeploymentRequest
from model_repository.errors import DocumentMalformed, PermanentError, TransientError
from model_repository.names import Target
from model_repository.programs.function_config import Config
from model_repository.programs.identity_tokens import IdentityTokens, NoIdentityToken, audience_of
from model_repository.telemetry.log import trace_headers
from model_repository.telemetry.spans import Kind, note, span, traceparent
from on_commit.compare import IndexStatus, read_statuses

_CONNECT_AND_READ_SECONDS = (5.0, 30.0)
_ANSWER_LIMIT = 64 * 1024
_STATUSES_LIMIT = 64 * 1024 * 1024
_MAY_PASS = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS}


class WebhookRefused(PermanentError, code="webhook-refused"):
    """The webhook refused this deployment, which is its last word on that commit."""


class WebhookNotNow(TransientError, code="webhook-not-now"):
    """The webhook can't take up this index now, and said why."""


class WebhookFault(TransientError, code="webhook-fault"):
    """Something is wrong with the way to the webhook, or with it: no index of the environment gets through."""


class WebhookUnavailable(WebhookFault, code="webhook-unavailable"):
    """The webhook didn't answer, or something before it answered 408, 425, 429 or 5xx."""


class WebhookSetup(WebhookFault, code="webhook-setup"):
    """The credentials, the address or the release isn't right: the answer is another than a CD webhook gives."""


class EnvironmentUnknown(WebhookFault, code="environment-unknown"):
    """No webhook is configured for the environment of a commit."""


@dataclass(frozen=True, slots=True)
class WebhookAnswer:
    """The webhook's answer to a request that it took. event_id: finds the run on the CD side; may be empty."""

    said: AnswerOutcome
    detail: str = ""
    event_id: str = ""


@dataclass(frozen=True, slots=True)
class FilterAnswer:
    """What became of a filter, as its receipt says it: `applied`, `rejected`, `superseded`, or `none`."""

    outcome: str
    detail: str = ""


class Webhook(Protocol):
    """The CD side."""

    def send(self, request: DeploymentRequest) -> WebhookAnswer:
        """Ask for a deployment. Raises `WebhookRefused`, `WebhookNotNow` or a kind of `WebhookFault`."""
        ...

    def apply_filter(self, target: Target) -> FilterAnswer | None:
        """Have the live filter of `target` put in force; None: that webhook can't. Raises as `send`."""
        ...

    def withdraw(self, target: Target) -> str:
        """Have the shadow `target` deleted, if its commit is gone; returns what was done. Raises as `send`."""
        ...

    def statuses(self, environment: str) -> dict[str, IndexStatus] | None:
        """What the cluster of `environment` has, by index; None: that webhook can't say. Raises as `send`."""
        ...


class HttpWebhook:
    """Implements `Webhook` over HTTP."""

    def __init__(self, config: Config, tokens: Callable[[str], str] | None = None) -> None:
        """Make the client. tokens: gives an identity token for an audience; Google's own by default."""
        self._config = config
        self._tokens = tokens or IdentityTokens()

    def send(self, request: DeploymentRequest) -> WebhookAnswer:
        """See `Webhook.send`."""
        environment = request.target.environment
        url = self._url(environment)
        about = {"index": request.target.index, "environment": environment, "generation": str(request.generation)}
        with span("ask webhook", Kind.CLIENT, **about, build=str(request.index_prefix)):
            headers = self.credentials(url) | trace_headers()
            asked = replace(request, traceparent=traceparent())  # a Spinnaker passes no header on to its pipeline
            answer = _exchange("POST", url, headers, _ANSWER_LIMIT, asked.to_payload())
            if not HTTPStatus.OK <= answer.status < HTTPStatus.MULTIPLE_CHOICES:
                raise failure(url, answer)
            said = read_answer(url, answer)
            note(outcome=said.said.value)
            return said

    def apply_filter(self, target: Target) -> FilterAnswer | None:
        """See `Webhook.apply_filter`: ``POST /v1/filters/<index>`` at the origin of the webhook's URL."""
        url = self._at_origin(target.environment, f"/v1/filters/{target.index}")
        answer = _exchange("POST", url, self.credentials(url) | trace_headers(), _ANSWER_LIMIT)
        if answer.status == HTTPStatus.NOT_FOUND:  # a Spinnaker
            return None
        if answer.status != HTTPStatus.OK:
            raise failure(url, answer)
        outcome = answer.text("outcome", 100)
        if not outcome:
            raise WebhookSetup(f"{url}: answered {answer.status}, but not as cd_webhook does; see what stands there")
        return FilterAnswer(outcome, answer.text("detail", 2000))

    def withdraw(self, target: Target) -> str:
        """See `Webhook.withdraw`: ``DELETE /v1/deployments/<index>`` at the origin of the webhook's URL."""
        url = self._at_origin(target.environment, f"/v1/deployments/{target.index}")
        answer = _exchange("DELETE", url, self.credentials(url) | trace_headers(), _ANSWER_LIMIT)
        if answer.status != HTTPStatus.OK:
            raise failure(url, answer)
        return answer.text("detail", 2000)

    def statuses(self, environment: str) -> dict[str, IndexStatus] | None:
        """See `Webhook.statuses`: ``GET /v1/deployments`` at the origin of the webhook's URL."""
        url = self._at_origin(environment, "/v1/deployments")
        answer = _exchange("GET", url, self.credentials(url), _STATUSES_LIMIT)
        if answer.status == HTTPStatus.NOT_FOUND:  # a Spinnaker
            return None
        if answer.status != HTTPStatus.OK:
            raise failure(url, answer)
        try:
            return read_statuses(answer.said, environment) if "deployments" in answer.said else None
        except DocumentMalformed as error:
            raise WebhookSetup(f"{url}: {error}; the webhook's release must match the function's") from error

    def _at_origin(self, environment: str, path: str) -> str:
        return f"{audience_of(self._url(environment))}{path}"

    def _url(self, environment: str) -> str:
        url = self._config.webhook_for(environment)
        if url is None:
            variable = f"CD_WEBHOOK_URL_{environment.upper().replace('-', '_')}"
            raise EnvironmentUnknown(
                f"no CD webhook is configured for the environment {environment!r}; "
                f"set {variable} on the function, or delete what is below commits/{environment}/ if that is a slip"
            )
        return url

    def credentials(self, url: str) -> dict[str, str]:
        """The headers that tell the webhook at `url` who we are. Raises as `Webhook.send`."""
        match self._config.webhook_auth:
            case AuthKind.NONE:
                return {}
            case AuthKind.BEARER:
                return {"Authorization": f"Bearer {self._config.webhook_token}"}
            case AuthKind.GOOGLE_ID_TOKEN:
                try:
                    return {"Authorization": f"Bearer {self._tokens(audience_of(url))}"}
                except NoIdentityToken as error:
                    raise (WebhookUnavailable if error.may_pass else WebhookSetup)(str(error)) from error


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """status: of HTTP. said: the JSON object that came, or nothing of it."""

    status: int
    said: Mapping[str, Any]

    def text(self, field: str, longest: int = 500) -> str:
        """A field that is a string, on one line; empty where it isn't."""
        value = self.said.get(field)
        return " ".join(value.split())[:longest] if isinstance(value, str) else ""


def _exchange(
    method: str, url: str, headers: Mapping[str, str], limit: int, payload: dict[str, Any] | None = None
) -> HttpAnswer:
    try:
        # A session of its own for each request: events are minutes apart, and sessions belong to one thread.
        # Redirects are not followed: a POST would arrive as a GET, and the credentials somewhere else.
        with requests.request(
            method,
            url,
            json=payload,
            headers=headers,
            timeout=_CONNECT_AND_READ_SECONDS,
            allow_redirects=False,
            stream=True,
        ) as answer:
            body = bytearray()
            for chunk in answer.iter_content(16 * 1024):
                body += chunk
                if len(body) > limit:
                    break
    except requests.RequestException as error:
        raise WebhookUnavailable(f"{url}: no answer ({type(error).__name__}); it may pass") from error
    try:
        found = json.loads(bytes(body))
    except (ValueError, RecursionError):
        found = None
    return HttpAnswer(answer.status_code, found if isinstance(found, dict) else {})


def failure(url: str, answer: HttpAnswer) -> WebhookRefused | WebhookNotNow | WebhookFault:
    """What an answer outside of 2xx means: a verdict only where a CD webhook says that it is one."""
    status, code = answer.status, answer.text("code", 100)
    reason = f" ({code}: {answer.text('detail')})" if code else ""
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _MAY_PASS:
        if code:
            return WebhookNotNow(f"{url}: answered {status}{reason}; it may pass")
        return WebhookUnavailable(f"{url}: answered {status}; it may pass")
    if answer.said.get("outcome") == AnswerOutcome.REJECTED.value and code:
        return WebhookRefused(f"{code}: {answer.text('detail', 2000)}")
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        mend = "set CD_WEBHOOK_AUTH and its token, or let this service account in"
    elif status == HTTPStatus.NOT_FOUND:
        mend = "correct CD_WEBHOOK_URL"
    elif status < HTTPStatus.BAD_REQUEST:
        mend = "redirects are not followed: give the final URL in CD_WEBHOOK_URL"
    else:
        mend = "see the webhook's log, and that its release matches the function's"
    return WebhookSetup(f"{url}: answered {status}{reason}; {mend}; the commit waits")


def read_answer(url: str, answer: HttpAnswer) -> WebhookAnswer:
    """Read a 2xx answer. A Spinnaker says `eventProcessed` and `eventId` alone, and has then accepted.

    Raises `WebhookSetup` for anything that is no CD webhook's: somebody's page for signing in would else count as yes.
    """
    stated = answer.said.get("outcome")
    said = next((known for known in AnswerOutcome if known.value == stated), None)
    if said is AnswerOutcome.REJECTED:
        why = "the CD webhook rejected it and didn't say why; see its log"
        raise WebhookRefused(f"{url}: {answer.text('detail', 2000) or why}")
    if said is None and (stated is not None or "eventProcessed" not in answer.said):
        raise WebhookSetup(
            f"{url}: answered {answer.status}, but not as a CD webhook does; see what stands at CD_WEBHOOK_URL"
        )
    detail, event_id = answer.text("detail", 2000), answer.text("eventId", 100)
    return WebhookAnswer(said or AnswerOutcome.ACCEPTED, detail, event_id)
