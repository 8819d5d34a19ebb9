"""What each event has the function do."""

from __future__ import annotations

import random

from model_repository.bucket.events import OtherEvent, SweepAsked
from model_repository.bucket.store import Store
from model_repository.clock import Clock
from model_repository.notify import Notifier
from model_repository.programs.function_config import DEFAULTS, Limits
from model_repository.telemetry.log import Log
from model_repository.telemetry.spans import Kind, span
from on_commit.deploy import Deployer
from on_commit.event import CommitUploaded, Event, FilterUploaded, Misnamed
from on_commit.filters import FilterLooker
from on_commit.incidents import Incidents
from on_commit.sweep import Sweeper
from on_commit.webhook import Webhook


class Handler:
    """Handles events. May be used from several threads at a time."""

    def __init__(  # noqa: PLR0917 - what stands around the function
        self,
        store: Store,
        webhook: Webhook,
        notifier: Notifier,
        clock: Clock,
        limits: Limits = DEFAULTS,
        environments: tuple[str, ...] = (),
        chance: random.Random | None = None,
    ) -> None:
        """Make the handler of one Model Repository.

        environments: those that a sweep asks for, without a commit too. chance: what sweeps draw their order from.
        """
        incidents = Incidents(store, notifier, clock, limits.patience)
        self._deployer = Deployer(store, webhook, notifier, clock, incidents)
        self._filters = FilterLooker(store, webhook, incidents)
        self._sweeper = Sweeper(
            store=store,
            webhook=webhook,
            deployer=self._deployer,
            filters=self._filters,
            incidents=incidents,
            clock=clock,
            budget=limits.sweep_budget,
            environments=environments,
            freshness=limits.freshness,
            chance=chance or random.Random(),  # noqa: S311 - an order, no secret
        )

    def handle(self, event: Event, log: Log) -> None:
        """Do what an event asks for.

        Returns when there is nothing left to do: deployed, refused for good and told of, nothing of ours, or swept.
        Raises `TransientError` when another delivery of the event may do better.
        """
        match event:
            case OtherEvent(why):
                log.info(f"passed over: {why}")
            case Misnamed(name, error):
                self._deployer.misnamed(name, error, log)
            case CommitUploaded(target):
                self._deployer.look(target, log)
            case FilterUploaded(target):
                self._filters.look(target, log)
            case SweepAsked():
                with span("sweep", Kind.CONSUMER):
                    self._sweeper.sweep(log)
