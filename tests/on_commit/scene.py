"""The function without its wiring: the real rule over a bucket in memory, a webhook and a notifier that remember."""

from __future__ import annotations

import io
import json
from typing import Any

from model_repository.bucket.events import SweepAsked
from model_repository.documents.commit import Commit
from model_repository.documents.index_manifest import IndexManifest
from model_repository.documents.receipts.receipt import Outcome, Receipt
from model_repository.names import IndexPrefix, Target
from model_repository.programs.function_config import Limits
from model_repository.repository import read_receipt, write_commit
from model_repository.telemetry.log import Log
from on_commit.event import CommitUploaded, Event
from on_commit.handle import Handler
from tests import builds
from tests.fake_clock import FakeClock
from tests.on_commit.doubles import CountingStore, RememberingWebhook
from tests.remembering_notifier import RememberingNotifier

HOME = builds.TARGET


class Scene:
    """One function, and what stands around it."""

    def __init__(self) -> None:
        self.store = CountingStore()
        self.webhook = RememberingWebhook()
        self.notifier = RememberingNotifier()
        self.stream = io.StringIO()
        self.clock = FakeClock()
        self.limits = Limits()

    def publish(self, build: str = "b1", index: str = "home", **fields: Any) -> IndexManifest:
        """Upload a whole build, with its model."""
        return builds.publish_build(self.store, IndexPrefix(index, build), **fields)

    def commit(self, build: str = "b1", target: Target = HOME, **fields: Any) -> int:
        """Upload a commit; its generation."""
        wanted = Commit(IndexPrefix(target.index, build), **fields)
        return write_commit(self.store, target, wanted, if_generation_match=None).generation

    def handle(self, event: Event) -> None:
        """As a function that was started just now does: what it knows stands in the bucket."""
        handler = Handler(self.store, self.webhook, self.notifier, self.clock, self.limits, ("staging", "production"))
        handler.handle(event, Log(stream=self.stream))

    def look(self, target: Target = HOME) -> None:
        """The event of a commit arrives."""
        self.handle(CommitUploaded(target))

    def sweep(self) -> None:
        self.handle(SweepAsked())

    def refusal(self, generation: int, target: Target = HOME) -> Receipt:
        """The receipt of a refused commit, which says the same as the one refusal that was published."""
        receipt = read_receipt(self.store, target, generation)
        assert receipt.outcome is Outcome.REJECTED
        (refusal,) = self.notifier.notices
        assert (refusal.environment, refusal.index) == (target.environment, target.index)
        assert (refusal.generation, refusal.code) == (generation, receipt.code)
        assert refusal.detail == receipt.detail
        return receipt

    def lines(self) -> list[dict[str, Any]]:
        """The log."""
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]
