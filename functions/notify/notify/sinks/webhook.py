"""Any webhook: one POST of JSON for each thing told, in order."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from http import HTTPStatus

import requests

from notify.decide import Step
from notify.sinks.sink import SinkBusy, SinkRefused, SinkSilent, SinkUnavailable, asked_seconds, step_key
from notify.subject import Subject

_SECONDS = (5.0, 15.0)


class HttpWebhook:
    """Implements `Sink`. A receiver that minds may pass over an ``Idempotency-Key`` that it knows."""

    name = "webhook"

    def __init__(self, url: str, token: Callable[[], str]) -> None:
        """token: the bearer secret, read for each call; empty: none."""
        self._url = url
        self._token = token

    def tell(self, subject: Subject, step: Step, unsure_since: datetime | None) -> str:
        """See `Sink.tell`. It can't be asked what it has, so it may get twice, with one key, what it didn't answer."""
        key = step_key(subject, step)
        value = {
            "id": key,
            "kind": step.kind.value,
            "about": step.after.key,
            "stage": step.after.stage.value,
            "environment": subject.environment,
            "index": subject.index,
            "text": step.text,
            "retry": unsure_since is not None,
        }
        headers = {"Idempotency-Key": key}
        if token := self._token():
            headers["Authorization"] = f"Bearer {token}"
        try:
            answer = requests.post(
                self._url, json=value, headers=headers, timeout=_SECONDS, allow_redirects=False, stream=True
            )
        except (requests.RequestException, ValueError) as error:  # ValueError: urllib3's, of a name that can be none
            # neither the error's words nor its cause: the address is in them, and often is a secret
            raise SinkSilent(f"WEBHOOK_URL didn't answer: {type(error).__name__}; it may pass") from None
        with answer:
            _check(answer)
        return key


def _check(answer: requests.Response) -> None:
    status = answer.status_code
    if status in {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}:
        seconds = asked_seconds(answer.headers.get("Retry-After", ""))
        raise SinkBusy(f"WEBHOOK_URL takes nothing for {seconds:g} s: {status}; it passes", seconds)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.REQUEST_TIMEOUT:
        raise SinkUnavailable(f"WEBHOOK_URL answered {status}; it may pass")
    if status >= HTTPStatus.MULTIPLE_CHOICES:
        raise SinkRefused(f"WEBHOOK_URL answered {status}: correct the address, or the secret of WEBHOOK_TOKEN")
