"""How the rollouts go, as webhooks say: beside what the bucket says, which nothing here may hold up."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from model_repository.clock import Clock
from model_repository.fields import format_moment
from model_repository.names import Target
from operator_cli.board.overview import Row
from operator_cli.output.programs import comparison
from operator_cli.webhook import Progress, Webhook, WebhookSilent, going

_UNASKED = "no webhook is asked: start the board with --webhook URL"
_JITTER = timedelta(seconds=3)
"""A rollout's beginning is told by how long it has gone on; so much later or earlier it is the same one."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """A rollout, and when it began by this machine's clock."""

    progress: Progress
    since: datetime


class Rollouts:
    """What webhooks said last, kept by whoever calls `look` now and then. May be read from several threads."""

    def __init__(self, webhooks: Sequence[Webhook], clock: Clock) -> None:
        """Ask nothing yet."""
        self._webhooks, self._clock = webhooks, clock
        self._environments: dict[Webhook, str] = {}
        self._said: dict[str, dict[Target, _Seen]] = {}
        self._silent: dict[Webhook, str] = {}
        self._one_at_a_time = threading.Lock()

    @property
    def asks(self) -> bool:
        """Whether there is anybody to ask."""
        return bool(self._webhooks)

    def look(self) -> bool:
        """Ask each webhook once; returns whether anything is different from before."""
        with self._one_at_a_time:
            before = (self._said, self._silent)
            for webhook in self._webhooks:
                self._ask(webhook)
            return before != (self._said, self._silent)

    def _ask(self, webhook: Webhook) -> None:
        silent = {other: why for other, why in self._silent.items() if other != webhook}
        try:
            said = webhook.ask()
        except WebhookSilent as error:
            # what was known of its rollouts is no longer true
            kept = self._environments.get(webhook)
            self._said = {name: found for name, found in self._said.items() if name != kept}
            self._silent = {**silent, webhook: str(error)}
            return
        self._environments[webhook] = said.environment
        now = self._clock.now()
        found = {each.target: self._seen(each, now) for each in said.rollouts}
        self._said, self._silent = {**self._said, said.environment: found}, silent

    def _seen(self, progress: Progress, now: datetime) -> _Seen:
        since = now - timedelta(seconds=progress.seconds)
        before = self._said.get(progress.target.environment, {}).get(progress.target)
        same = before is not None and before.progress.generation == progress.generation
        if before is not None and same and abs(before.since - since) < _JITTER:
            since = before.since
        return _Seen(progress, since)

    def of(self, row: Row) -> dict[str, Any] | None:
        """How the rollout of a row goes: None where none can go on: an end is known, or nobody can read the commit.

        word: how it goes, as `indexpush status` says. pods: `ready` of `wanted`, or None where that isn't known, and
        `unknown` says why; or where the webhook hasn't taken the commit up yet. since: when it began, or was committed.
        ends: when it is undone at the latest, if it is known. comparison: what its canary shows, as `indexpush status`
        tells it.
        """
        if row.get("state") != "waiting" or row["commit"]["malformed"]:
            return None
        value = {"word": going(None), "pods": None, "canary": False, "since": row["commit"]["updated"], "detail": ""}
        value |= {"unknown": None, "ends": None, "comparison": None}
        said = self._said.get(row["environment"])
        if said is None:
            elsewhere = "no webhook that is asked deploys to this environment" if self._webhooks else _UNASKED
            return value | {"unknown": next(iter(self._silent.values()), elsewhere)}
        seen = said.get(Target(row["environment"], row["index"]))
        if seen is None or str(seen.progress.generation) != row["commit"]["generation"]:
            return value | {"detail": "not taken up yet"}
        it = seen.progress
        return value | {
            "word": going(it),
            "pods": {"ready": it.ready, "wanted": it.wanted},
            "canary": it.canary,
            "since": format_moment(seen.since),
            "detail": it.detail,
            "ends": _ends(seen),
            "comparison": comparison(it.comparison) if it.comparison else None,
        }


def _ends(seen: _Seen) -> str | None:
    it = seen.progress
    if it.given_up_in is None:
        return None
    # told a little later again it is the same moment: nothing that a browser must be sent
    return format_moment(seen.since + timedelta(seconds=round(it.seconds + it.given_up_in)))
