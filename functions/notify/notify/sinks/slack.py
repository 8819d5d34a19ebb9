"""Slack: a message for each thing, by its Web API."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from http import HTTPStatus
from http.client import HTTPException
from typing import Any

from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError, SlackClientError

from notify.decide import Kind, Step
from notify.sinks.sink import SinkBusy, SinkRefused, SinkSilent, SinkUnavailable, asked_seconds, step_key
from notify.subject import Subject

_SECONDS = 15
_SKEW = timedelta(minutes=2)
"""How far apart Slack's clock and ours may be."""

_NAME = re.compile(r"[a-z0-9_.-]{1,80}")
"""Of Slack's errors."""

_EVENT = "indexpush"
"""The type of the metadata by which a message is found again."""

_SCOPES = "give the app the bot scopes chat:write, channels:history and groups:history, and install it again"
_TOKEN = "put the app's bot token (xoxb-...) into the secret of SLACK_TOKEN, as a new version"  # noqa: S105 - no secret
_CHANNEL = (
    "SLACK_CHANNEL must be a channel's ID (C0123ABCD: at the end of its details), and the app a member: /invite it"
)
_MENDS = {
    "channel_not_found": _CHANNEL,
    "not_in_channel": _CHANNEL,
    "is_archived": "unarchive the channel, or name another one in SLACK_CHANNEL",
    "not_authed": _TOKEN,
    "invalid_auth": _TOKEN,
    "token_expired": _TOKEN,
    "token_revoked": _TOKEN,
    "account_inactive": _TOKEN,
    "org_login_required": _TOKEN,
    "missing_scope": _SCOPES,
    "not_allowed_token_type": _TOKEN,
    "no_permission": _SCOPES,
    "restricted_action": "the workspace's administrators let this app write nowhere there: ask them",
    "ekm_access_denied": "the workspace's administrators suspended writing: ask them",
}
"""What stays until somebody mends it; every other error may pass."""

_CLOSED = {"channel_not_found", "not_in_channel", "is_archived"}
"""The channel is closed to us."""

_GONE = {"message_not_found", "cant_update_message", "edit_window_closed", "thread_not_found"}
"""Somebody deleted the message: there is nothing left to change."""


class _ChannelClosed(SinkRefused):
    """It is no matter where people are told elsewhere by now."""


class Slack:
    """Implements `Sink`."""

    name = "slack"

    def __init__(self, token: Callable[[], str], channel: Callable[[str], str], url: str) -> None:
        """token: read for each call, so that a new one counts at once. channel: of an environment. url: of the API."""
        self._token = token
        self._channel = channel
        self._url = url

    def tell(self, subject: Subject, step: Step, unsure_since: datetime | None) -> str:
        """See `Sink.tell`. A message is called ``<channel> <ts>``.

        One in a channel that was given up, and is closed, isn't changed any more; what calls people is told anew. So is
        that something became bad whose message somebody deleted.
        """
        home = self._channel(subject.environment)
        if not step.after.message:
            return self._say(home, None, subject, step, unsure_since)
        channel, thread = step.after.message.split()
        try:
            if step.kind is Kind.UPDATE:
                self._call("chat_update", gone=True, channel=channel, ts=thread, text=step.text)
            elif not self._say(channel, thread, subject, step, unsure_since) and step.kind is Kind.ALARM:
                return self._say(home, None, subject, step, unsure_since)
        except _ChannelClosed:
            if channel == home:
                raise
            if step.kind is not Kind.UPDATE:
                return self._say(home, None, subject, step, unsure_since)
        return step.after.message

    def _say(
        self, channel: str, thread: str | None, subject: Subject, step: Step, unsure_since: datetime | None
    ) -> str:
        """Post a message, or a line in a thread, unless that was done; returns its name, empty: the thread is gone."""
        key = step_key(subject, step)
        found = self._find(channel, thread, key, unsure_since) if unsure_since else None
        if found is None:
            answer = self._call(
                "chat_postMessage",
                gone=thread is not None,
                channel=channel,
                text=step.text,
                thread_ts=thread,
                reply_broadcast=True if step.kind is Kind.ALARM and thread else None,
                metadata={"event_type": _EVENT, "event_payload": {"id": key}},
                unfurl_links=False,
                unfurl_media=False,
            )
            if thread and not answer:
                return ""
            if not thread and not answer.get("ts"):
                raise SinkUnavailable("Slack answered chat_postMessage without the message's ts; it may pass")
            return f"{answer.get('channel') or channel} {answer.get('ts') or ''}"
        if thread is None:  # whoever posted it may have known less
            self._call("chat_update", gone=True, channel=channel, ts=found.split()[1], text=step.text)
        return found

    def check(self, channel: str) -> str:
        """Look into a channel; returns who the token makes us there. Raises as `tell`."""
        self._call("conversations_history", channel=channel, limit=1)
        answer = self._call("auth_test")
        return f"{answer.get('user')} in {answer.get('team')}"

    def _find(self, channel: str, thread: str | None, key: str, since: datetime) -> str | None:
        """The message that was posted with this key, if it arrived."""
        method = "conversations_replies" if thread else "conversations_history"
        of_thread = {"ts": thread} if thread else {}
        cursor = ""
        while True:
            page = self._call(
                method,
                gone=thread is not None,
                channel=channel,
                oldest=f"{(since - _SKEW).timestamp():.6f}",
                include_all_metadata=True,
                limit=200,
                **({"cursor": cursor} if cursor else {}),
                **of_thread,
            )
            for message in page.get("messages") or ():
                metadata = message.get("metadata") or {}
                if metadata.get("event_type") == _EVENT and metadata.get("event_payload", {}).get("id") == key:
                    return f"{channel} {message['ts']}"
            cursor = (page.get("response_metadata") or {}).get("next_cursor") or ""
            if not cursor:
                return None

    def _call(self, method: str, *, gone: bool = False, **arguments: Any) -> Any:  # noqa: ANN401 - Slack's JSON
        """Call the API. gone: that the message isn't there any more is no error, and answers with nothing."""
        # no retry by the client: a lost connection may mean that the message was posted
        client = WebClient(self._token(), base_url=self._url, timeout=_SECONDS, retry_handlers=[])
        try:
            return getattr(client, method)(**arguments)
        except SlackApiError as error:
            return _failed(method, error, gone=gone)
        except (SlackClientError, HTTPException, OSError) as error:
            raise SinkSilent(f"Slack didn't answer {method}: {type(error).__name__}; it may pass") from error


def _failed(method: str, error: SlackApiError, *, gone: bool) -> dict[str, Any]:
    response: Any = error.response
    name = response.get("error") if isinstance(response.data, dict) else None
    if response.status_code == HTTPStatus.TOO_MANY_REQUESTS or name in {"ratelimited", "rate_limited"}:
        headers = {key.lower(): value for key, value in response.headers.items()}
        seconds = asked_seconds(headers.get("retry-after", ""))
        raise SinkBusy(f"Slack takes no {method} for {seconds:g} s; it passes", seconds) from error
    if name in _MENDS:
        refused = _ChannelClosed if name in _CLOSED else SinkRefused
        raise refused(f"Slack refused {method} with {name}: {_MENDS[name]}") from error
    if name in _GONE and gone:
        return {}
    # the client gives a whole page as the name, where somebody else than Slack answers
    what = name if isinstance(name, str) and _NAME.fullmatch(name) else f"HTTP {response.status_code}"
    raise SinkUnavailable(f"Slack answered {method} with {what}; it may pass") from error
