"""What the bucket and people are told of rollouts: receipts, and notices of what was undone or is stuck."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cd_webhook.cluster import Cluster, Object, name_of, version_of
from cd_webhook.rules import plan
from cd_webhook.state import Deployed, marks, read_deployed
from cd_webhook.state.annotations import RECEIPTS_OWED, TRACES, format_receipts
from cd_webhook.telemetry.spans import record_rollout
from model_repository.bucket.store import Store
from model_repository.clock import Clock
from model_repository.deployment import DeploymentRequest
from model_repository.documents.receipts.address import Address, url_of
from model_repository.documents.receipts.receipt import Outcome, Receipt
from model_repository.errors import DeliveryError, PermanentError
from model_repository.names import Target
from model_repository.notify import Event, NoNotifier, Notice, Notifier, NotifyRefused
from model_repository.repository import read_receipt, write_address, write_receipt
from model_repository.telemetry.log import Log

_NOTIFY_PATIENCE = timedelta(minutes=5)
"""So long may a topic refuse what is told; after that the receipt alone has to do."""


def committed_at(store: Store, receipt: Receipt) -> datetime | None:
    """When the commit of a receipt was uploaded; None: another one stands there, or the bucket doesn't answer."""
    try:
        info = store.stat(receipt.target.commit_name)
    except DeliveryError:
        return None
    return info.updated if info and info.generation == receipt.generation else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipts:
    """Writes them, for the indexes of one environment.

    on_receipt: called for each receipt that this process wrote. notifier: where people are told. url: where callers
    outside of the cluster reach an index, with ``{index}`` for its name; empty: nobody knows.
    """

    environment: str
    cluster: Cluster
    store: Store
    clock: Clock
    log: Log
    on_receipt: Callable[[Receipt], None] = lambda _: None
    notifier: Notifier = field(default_factory=NoNotifier)
    url: str = ""
    _rejecting: threading.Lock = field(default_factory=threading.Lock)
    """Of two deliveries at once that are refused, one tells."""

    def write(self, receipt: Receipt, live: Object | None = None) -> bool:
        """Write a receipt, unless its commit has one; True if it is this one that stands. live: the Deployment, if any.

        Whoever was killed after writing it writes it again: then it stands, and whoever was to hear of it still may.
        """
        if receipt.outcome is Outcome.SERVED:
            self._say_where(receipt)
        wrote = write_receipt(self.store, receipt)
        stands = wrote or self._is_there(receipt)
        if stands and live is not None:
            self._note(receipt, live)
        if wrote:
            self.on_receipt(receipt)
            self.log.info(
                f"receipt: {receipt.outcome.value}: {receipt.detail}",
                index=receipt.target.index,
                generation=str(receipt.generation),
                outcome=receipt.outcome.value,
            )
        return stands

    def _is_there(self, receipt: Receipt) -> bool:
        try:
            return read_receipt(self.store, receipt.target, receipt.generation) == receipt
        except PermanentError:
            return False

    def _say_where(self, receipt: Receipt) -> None:
        """Write where the index answers, before anybody hears that it serves; a failure holds nothing up."""
        target = receipt.target
        try:
            inside = self.cluster.url(target.index)
            if inside is not None:
                # callers reach a shadow by its Service alone
                shadow = receipt.index_prefix is not None and target.is_shadow_of(receipt.index_prefix)
                outside = "" if shadow else url_of(self.url, target.index)
                write_address(self.store, Address(target, receipt.generation, inside, outside))
        except DeliveryError as error:
            self.log.warning(f"where {target} answers isn't written: {error}", code=error.code, index=target.index)

    def _note(self, receipt: Receipt, live: Object) -> None:
        """Have `kubectl describe` tell it, too; that it doesn't changes no verdict."""
        said = ": ".join(part for part in (f"commit {receipt.generation}", receipt.detail) if part)
        message = f"{receipt.index_prefix or 'what nobody can read'} was {receipt.outcome} as {said}"
        try:
            bad = receipt.outcome in (Outcome.UNDONE, Outcome.REJECTED)
            self.cluster.note(live, f"Index{receipt.outcome.value.capitalize()}", message, warning=bad)
        except DeliveryError as error:
            self.log.warning(f"no Event: {error}", code=error.code, index=receipt.target.index)

    def settle(self, live: Object) -> None:
        """Write the receipts that the Deployment owes, tell of what was undone, then forget them there.

        All are written before anybody is told: a topic that doesn't answer keeps no receipt from the bucket. What isn't
        the first word on its commit, such as the end of a restoration, is told by whoever finds that in the bucket.

        Raises `Conflict` if others wrote first. Not forgotten, then: the next step writes them again, and the bucket
        keeps the first; whoever dies between telling and forgetting tells twice, not never.
        """
        deployed = read_deployed(live)
        owed = deployed.owed
        standing = [receipt for receipt in owed if self.write(receipt, live)]
        for receipt in standing:
            record_rollout(receipt, deployed.traces.get(receipt.generation, ""))
            if receipt.outcome is Outcome.UNDONE:
                patient = self.clock.now() - receipt.finished < _NOTIFY_PATIENCE
                self._tell(Notice.of_receipt(self.store.bucket, receipt), patient=patient)
        if owed:
            none = marks(live, {RECEIPTS_OWED: format_receipts(()), TRACES: ""})
            self.cluster.mark(name_of(live), none, resource_version=version_of(live))

    def note_rewound(self, live: Object, deployed: Deployed, now: datetime) -> None:
        """Give the commit that somebody took back by hand its receipt, if it has none, and tell of it.

        Nothing is owed for it any more, so it is told first: whoever dies in between tells twice, not never.
        """
        index = name_of(live)
        receipt = plan.rewound(Target(self.environment, index), deployed, now)
        if self.store.stat(receipt.target.receipt_name(receipt.generation)) is not None:
            return
        self._tell(Notice.of_receipt(self.store.bucket, receipt), patient=False)
        if self.write(receipt, live):
            self.log.error(f"{receipt.target}: {deployed.detail}", code=receipt.code, index=index)

    def reject(self, request: DeploymentRequest, why: PermanentError, live: Object | None) -> None:
        """Give a request that can never be applied its receipt, unless its commit has one, and tell of it.

        Told first, as whoever sent it may die before it hears the answer, and finds the receipt when it asks again.
        """
        receipt = plan.rejected(request, str(why), why.code, self.clock.now())
        with self._rejecting:
            if self.store.stat(receipt.target.receipt_name(receipt.generation)) is None:
                self._tell(Notice.of_receipt(self.store.bucket, receipt), patient=False)
                self.write(receipt, live)

    def tell_stuck(self, index: str, detail: str) -> bool:
        """Tell that the rollout of `index` can't be taken on; True if it was told, or nobody wants to know."""
        name, said = Target(self.environment, index).commit_name, f"its rollout can't be taken on: {detail}"
        notice = Notice(Event.FAULT, self.store.bucket, name, "rollout-stuck", said, self.environment, index)
        try:
            self._tell(notice, patient=False)
        except DeliveryError as error:
            self.log.warning(f"not published: {error}", code=error.code, index=index)
            return False
        return True

    def _tell(self, notice: Notice, *, patient: bool) -> None:
        try:
            self.notifier.publish(notice)
        except NotifyRefused as error:  # nobody listens there: that must not keep anything else away for long
            if patient:
                raise
            self.log.error(f"not published: {error}", code=error.code, index=notice.index)
