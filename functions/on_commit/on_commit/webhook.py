"""The CD webhook: ours, or a Spinnaker."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, ClassVar, Protocol
from urllib.parse import urlsplit

import requests
from google.auth import exceptions as auth_exceptions
from google.auth.transport.requests import Request as AuthRequest
from google.oauth2 import id_token

from model_repository.deployment import AnswerOutcome, AuthKind, DeploymentRequest
from model_repository.errors import PermanentError, TransientError
from model_repository.log import trace_headers
from on_commit.config import Config

_CONNECT_AND_READ_SECONDS = (5.0, 30.0)
_ANSWER_LIMIT = 64 * 1024
_MAY_PASS = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS}


class WebhookRefused(PermanentError):
    """The webhook answered 3xx or 4xx, or refused the deployment itself."""

    code: ClassVar[str] = "webhook-refused"


class EnvironmentUnknown(PermanentError):
    """No webhook is configured for the environment of a commit."""

    code: ClassVar[str] = "environment-unknown"


class WebhookUnavailable(TransientError):
    """The webhook didn't answer, or answered 408, 425, 429 or 5xx."""

    code: ClassVar[str] = "webhook-unavailable"


@dataclass(frozen=True, slots=True)
class WebhookAnswer:
    """The webhook's answer to a request that reached it.

    event_id: finds the run on the CD side; may be empty. understood: False if the body isn't what a CD webhook says:
    then something else may be standing at that URL.
    """

    said: AnswerOutcome
    detail: str = ""
    event_id: str = ""
    understood: bool = True


class Webhook(Protocol):
    """The CD side."""

    def send(self, request: DeploymentRequest) -> WebhookAnswer:
        """Ask for a deployment. Raises `WebhookUnavailable`, `WebhookRefused` or `EnvironmentUnknown`."""
        ...


class HttpWebhook:
    """Implements `Webhook` over HTTP."""

    def __init__(self, config: Config, tokens: Callable[[str], str] | None = None) -> None:
        """Make the client. tokens: gives an identity token for an audience; Google's own by default."""
        self._config = config
        self._tokens = tokens or IdTokens()

    def send(self, request: DeploymentRequest) -> WebhookAnswer:
        """See `Webhook.send`."""
        environment = request.target.environment
        url = self._config.webhook_for(environment)
        if url is None:
            variable = f"CD_WEBHOOK_URL_{environment.upper().replace('-', '_')}"
            raise EnvironmentUnknown(
                f"no CD webhook is configured for the environment {environment!r}; commit to another one, "
                f"or set {variable} on the function and upload the commit again"
            )
        status, body = _post(url, request.to_payload(), self.credentials(url) | trace_headers())
        if status < HTTPStatus.OK or status >= HTTPStatus.MULTIPLE_CHOICES:
            raise failure(url, status)
        return read_answer(body)

    def credentials(self, url: str) -> dict[str, str]:
        """The headers that tell the webhook at `url` who we are. Raises as `Webhook.send`."""
        match self._config.webhook_auth:
            case AuthKind.NONE:
                return {}
            case AuthKind.BEARER:
                return {"Authorization": f"Bearer {self._config.webhook_token}"}
            case AuthKind.GOOGLE_ID_TOKEN:
                parts = urlsplit(url)
                return {"Authorization": f"Bearer {self._tokens(f'{parts.scheme}://{parts.netloc}')}"}


class IdTokens:
    """Google's identity tokens for the service account that the function runs as, each used for as long as it lasts."""

    def __init__(self) -> None:
        self._credentials: dict[str, Any] = {}

    def __call__(self, audience: str) -> str:
        """A valid token for `audience`. Raises `WebhookUnavailable` or `WebhookRefused`."""
        try:
            if audience not in self._credentials:
                self._credentials[audience] = id_token.fetch_id_token_credentials(  # type: ignore[no-untyped-call]
                    audience, request=AuthRequest()
                )
            credentials = self._credentials[audience]
            if not credentials.valid:
                credentials.refresh(AuthRequest())
            return str(credentials.token)
        except auth_exceptions.GoogleAuthError as error:
            if isinstance(error, auth_exceptions.TransportError) or error.retryable:
                raise WebhookUnavailable(f"{audience}: no identity token yet ({error}); it may pass") from error
            raise WebhookRefused(
                f"{audience}: no identity token to be had ({error}); run the function as a service account, "
                "or choose another CD_WEBHOOK_AUTH"
            ) from error


def _post(url: str, payload: dict[str, Any], headers: Mapping[str, str]) -> tuple[int, bytes]:
    try:
        # A session of its own for each request: events are minutes apart, and sessions belong to one thread.
        # Redirects are not followed: a POST would arrive as a GET, and the credentials somewhere else.
        with requests.post(
            url,
            json=payload,
            headers=headers,
            timeout=_CONNECT_AND_READ_SECONDS,
            allow_redirects=False,
            stream=True,
        ) as answer:
            body = bytearray()
            for chunk in answer.iter_content(4096):
                body += chunk
                if len(body) > _ANSWER_LIMIT:
                    break
            return answer.status_code, bytes(body)
    except requests.RequestException as error:
        raise WebhookUnavailable(f"{url}: no answer ({type(error).__name__}); it may pass") from error


def failure(url: str, status: int) -> WebhookUnavailable | WebhookRefused:
    """What an answer outside of 2xx means."""
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _MAY_PASS:
        return WebhookUnavailable(f"{url}: answered {status}; it may pass")
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        mend = "set CD_WEBHOOK_AUTH and its token, or let this service account in"
    elif status == HTTPStatus.NOT_FOUND:
        mend = "correct CD_WEBHOOK_URL"
    elif status < HTTPStatus.BAD_REQUEST:
        mend = "redirects are not followed: give the final URL in CD_WEBHOOK_URL"
    else:
        mend = "see the webhook's log, and that its release matches the function's"
    return WebhookRefused(f"{url}: answered {status}; {mend}; then upload the commit again")


def read_answer(body: bytes) -> WebhookAnswer:
    """Read a 2xx answer. A Spinnaker says `eventProcessed` and `eventId` alone, and has then accepted."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        return WebhookAnswer(AnswerOutcome.ACCEPTED, understood=False)
    stated = answer.get("outcome")
    known = next((said for said in AnswerOutcome if said.value == stated), None)
    return WebhookAnswer(
        said=known or AnswerOutcome.ACCEPTED,
        detail=_text(answer, "detail", 2000),
        event_id=_text(answer, "eventId", 100),
        understood=known is not None or (stated is None and "eventProcessed" in answer),
    )


def _text(answer: Mapping[str, object], field: str, longest: int) -> str:
    value = answer.get(field)
    return value[:longest] if isinstance(value, str) else ""
