"""Looks at the filter of one index: has the webhook put the live one in force, which writes its receipt."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from model_repository.bucket.store import Store
from model_repository.errors import NameRefused, TransientError
from model_repository.names import Target
from model_repository.telemetry.log import Log
from on_commit.incidents import Incidents
from on_commit.webhook import Webhook, WebhookFault

FILTER_WAITS = "filter-waits"
"""The code of the incident: a filter that isn't in force, whatever keeps it."""


class FiltersUnsupported(TransientError, code="filters-unsupported"):
    """The CD side of the environment puts no filters in force."""


@dataclass(frozen=True, slots=True)
class FilterLooker:
    """Looks at one filter at a time. May be used from several threads."""

    store: Store
    webhook: Webhook
    incidents: Incidents

    def look(self, target: Target, log: Log) -> None:
        """Have the live filter of `target` put in force. Returns when there is nothing left to do.

        Raises `TransientError` when another look may do better; that it lasts is noted.
        """
        log = log.bind(environment=target.environment, index=target.index)
        try:
            answer = self.webhook.apply_filter(target)
            if answer is None:
                raise FiltersUnsupported(
                    f"{target.filter_name}: the CD webhook of {target.environment!r} puts no filters in force; "
                    "a Spinnaker doesn't, cd_webhook does"
                )
        except WebhookFault as fault:
            self.incidents.of_environment(target.environment, {fault.code: str(fault)}, log)
            raise
        except TransientError as fault:
            self._note(target, {FILTER_WAITS: str(fault)}, log)
            raise
        self._note(target, {}, log)
        log.info(f"{target.filter_name}: {answer.outcome}", outcome=answer.outcome, detail=answer.detail)

    def owed(self, environment: str) -> Iterator[Target]:
        """Those of an environment whose live filter has no receipt: a listing, and a look at each one's."""
        for live in self.store.listing(f"filters/{environment}/", deep=False):
            try:
                target = Target.from_filter_name(live.name)
            except NameRefused:
                continue
            if self.store.stat(target.filter_receipt_name(live.generation)) is None:
                yield target

    def _note(self, target: Target, found: dict[str, str], log: Log) -> None:
        self.incidents.of_index(target, found, FILTER_WAITS.__eq__, log)
