"""Filters: what the live one of an index hides, every pod of that index hides.

Level-triggered, as deployments are: whoever asks only says "look". The pods fetch the live filter themselves; they are
told that there is one, and asked which is in force. A pod that starts reads it before it is ready, so nothing is owed
to pods that don't listen yet, and this keeps no state.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cd_webhook.cluster import Cluster, Object
from cd_webhook.pod_client import Tell, Told, address_of, tell_pod
from cd_webhook.rules.pods import is_ready
from manifests.metadata import INSTANCE
from model_repository.bucket.store import Store
from model_repository.clock import Clock
from model_repository.documents.items.item_filter import FILTER_LIMIT, LiveFilter, parse_item_filter
from model_repository.documents.receipts.filter_receipt import FilterOutcome, FilterReceipt
from model_repository.errors import DocumentMalformed, GenerationConflict, ObjectMissing, PermanentError, TransientError
from model_repository.names import SHADOW, Target
from model_repository.notify import Event, NoNotifier, Notice, Notifier, NotifyRefused
from model_repository.repository import keep_last_good_filter, read_hidden, write_filter_receipt
from model_repository.telemetry.log import Log

PROBES = "probes"
"""The port of a pod that is told, by its name in the template."""
_AT_ONCE = 16
_LOOKS = 5
"""At filters of which each is replaced while pods are told of it."""
_PATIENCE = timedelta(seconds=8)
_PAUSE_SECONDS = 0.5


class FilterNotInForce(TransientError, code="filter-not-in-force"):
    """Some pod that serves doesn't confirm the live filter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Has filters put in force, for the indexes of one environment. on_receipt: of each that this process wrote."""

    environment: str
    cluster: Cluster
    store: Store
    clock: Clock
    log: Log
    notifier: Notifier = field(default_factory=NoNotifier)
    tell: Tell = tell_pod
    on_receipt: Callable[[FilterReceipt], None] = lambda _: None

    def apply(self, index: str) -> FilterReceipt | None:
        """Have the live filter of `index` put in force on all of its pods; returns what became of it.

        None: there is no filter. One that can't be read is refused, and the one before goes on. Raises
        `FilterNotInForce` where a pod that serves doesn't confirm it, and what cluster and bucket raise.
        """
        target = Target(self.environment, index)
        for _ in range(_LOOKS):
            started = self.clock.now()
            found = self._read(target)
            if found is None:
                return None
            if isinstance(found, FilterReceipt):
                return self._end(found)
            noted = self.store.stat(target.last_good_filter_name)
            pods = self._put_in_force(found)
            now = self.store.stat(target.filter_name)
            superseded = now is None or now.generation != found.generation
            if not superseded:
                try:
                    keep_last_good_filter(self.store, found, replacing=0 if noted is None else noted.generation)
                except GenerationConflict:  # another process has just put this or a newer one in force
                    continue
            outcome = FilterOutcome.SUPERSEDED if superseded else FilterOutcome.APPLIED
            detail = "another filter came while pods were told of it" if superseded else ""
            receipt = self._end(self._receipt(found, outcome, started, pods=pods, detail=detail))
            if not superseded:
                return receipt
        raise FilterNotInForce(f"{target.filter_name}: replaced {_LOOKS} times in a row; try again")

    def _read(self, target: Target) -> LiveFilter | FilterReceipt | None:
        """The live filter, whose data are whole; or the receipt of one that can't be read; None: there is none."""
        started = self.clock.now()
        try:
            stored = self.store.read(target.filter_name, limit=FILTER_LIMIT)
        except ObjectMissing:
            return None
        except DocumentMalformed as error:  # too large to be read
            info = self.store.stat(target.filter_name)
            return None if info is None else self._rejected(target, info.generation, error, started)
        try:
            live = LiveFilter(target, stored.generation, parse_item_filter(stored.data, target))
            read_hidden(self.store, live)
        except PermanentError as error:
            return self._rejected(target, stored.generation, error, started)
        return live

    def _put_in_force(self, live: LiveFilter) -> int:
        """Tell all pods until each that serves has it in force; returns how many confirmed it."""
        until = self.clock.now() + _PATIENCE
        confirmed: set[str] = set()
        while True:
            pods = [pod for pod in self._pods(live.target.index) if pod["metadata"]["name"] not in confirmed]
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                answers = list(pool.map(lambda pod: self._tell(pod, live.generation), pods))
            confirmed |= {
                pod["metadata"]["name"]
                for pod, answer in zip(pods, answers, strict=True)
                if not isinstance(answer, Told)
            }
            late = [pod["metadata"]["name"] for pod, answer in zip(pods, answers, strict=True) if _owes(pod, answer)]
            if not late:
                return len(confirmed)
            if self.clock.now() >= until:
                some = ", ".join(late[:3]) + (" and others" if len(late) > 3 else "")  # noqa: PLR2004
                raise FilterNotInForce(
                    f"{live.target.filter_name}: {len(late)} pods don't confirm generation {live.generation} ({some}); "
                    "see their logs: they fetch it from the bucket by themselves"
                )
            self.clock.sleep(_PAUSE_SECONDS)

    def _pods(self, index: str) -> list[Object]:
        """Those of the index that stay, a canary's and a shadow's too."""
        return [
            pod
            for pod in self.cluster.all_pods()
            if (pod["metadata"].get("labels") or {}).get(INSTANCE) in (index, f"{index}{SHADOW}")
            and not pod["metadata"].get("deletionTimestamp")
            and (pod.get("status") or {}).get("phase") != "Failed"  # its address may be another's by now
        ]

    def _tell(self, pod: Object, generation: int) -> Told | int:
        address = address_of(pod, PROBES)
        return Told.NOBODY_LISTENS if address is None else self.tell(address, generation)

    def _end(self, receipt: FilterReceipt) -> FilterReceipt:
        """Write the receipt, if there is none, and tell people of a refusal: before, so that it is twice, not never."""
        refused = receipt.outcome is FilterOutcome.REJECTED
        target = receipt.target
        if refused and self.store.stat(target.filter_receipt_name(receipt.generation)) is None:
            self._tell_refused(receipt)
        if not write_filter_receipt(self.store, receipt):
            return receipt
        self.on_receipt(receipt)
        about = {"index": target.index, "generation": str(receipt.generation)}
        if refused:
            self.log.error(f"filter rejected: {receipt.detail}", code=receipt.code, **about)
        else:
            self.log.info(f"filter {receipt.outcome}: {receipt.hidden} items, {receipt.pods} pods", **about)
        return receipt

    def _tell_refused(self, receipt: FilterReceipt) -> None:
        target = receipt.target
        notice = Notice(
            Event.REJECTED,
            self.store.bucket,
            target.filter_name,
            receipt.code,
            receipt.detail,
            target.environment,
            target.index,
            receipt.generation,
        )
        with suppress(NotifyRefused):  # nobody listens there
            self.notifier.publish(notice)

    def _rejected(self, target: Target, generation: int, error: PermanentError, started: datetime) -> FilterReceipt:
        detail = f"{error}; upload the filter again; what was hidden before goes on"
        return FilterReceipt(
            target, generation, FilterOutcome.REJECTED, 0, 0, detail, started, self.clock.now(), error.code
        )

    def _receipt(
        self, live: LiveFilter, outcome: FilterOutcome, started: datetime, *, pods: int, detail: str
    ) -> FilterReceipt:
        return FilterReceipt(
            live.target,
            live.generation,
            outcome,
            live.filter.hidden,
            pods,
            detail,
            started,
            self.clock.now(),
            by=live.filter.by,
            reason=live.filter.reason,
        )


def _owes(pod: Object, answer: Told | int) -> bool:
    """Whether a pod may serve without the filter; one that doesn't listen yet reads it before it is ready."""
    return answer is Told.NOT_YET or (answer is Told.NOBODY_LISTENS and is_ready(pod))
