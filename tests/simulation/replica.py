"""A webhook process."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from cd_webhook.canary import Canaries
from cd_webhook.delivery.deliver import Delivery
from cd_webhook.delivery.receipts import Receipts
from cd_webhook.filters import Filters
from manifests.render import Rendered
from model_repository.deployment import DeploymentRequest
from tests.cd_webhook.webhook_scene import rendered_once
from tests.simulation.cluster import Cluster
from tests.simulation.outside import Bucket, Clock, Notifier

if TYPE_CHECKING:
    from tests.simulation.world import World

ENVIRONMENT = "test"


class _Waiting:
    """The clock of what waits within an event."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def now(self) -> datetime:
        return self._clock.now()

    def sleep(self, seconds: float) -> None:
        self._clock.waits(seconds)


@dataclass
class Replica:
    """One webhook process."""

    world: World
    name: str
    skew: float
    delivery: Delivery = field(init=False)
    filters: Filters = field(init=False)
    watched: set[str] = field(default_factory=set)
    lives: int = 0

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        """A fresh process: what it knew is gone."""
        world = self.world
        self.lives += 1
        self.watched = set()
        who = f"webhook-{self.name}"
        cluster, bucket, clock = Cluster(world, who), Bucket(world, who), Clock(world, self.skew)
        notifier, chosen = Notifier(world, who), world.values

        def rendered(asked: DeploymentRequest) -> Rendered:
            return rendered_once(asked, chosen)

        receipts = Receipts(
            environment=ENVIRONMENT, cluster=cluster, store=bucket, clock=clock, log=world.log, notifier=notifier
        )
        self.delivery = Delivery(
            environment=ENVIRONMENT,
            cluster=cluster,
            store=bucket,
            render=rendered,
            canaries=Canaries(chosen.canary, cluster, bucket, world.log, world.pods.ask),
            clock=clock,
            log=world.log,
            receipts=receipts,
        )
        self.filters = Filters(
            environment=ENVIRONMENT,
            cluster=cluster,
            store=bucket,
            clock=_Waiting(clock),
            log=world.log,
            notifier=notifier,
            tell=world.cluster.tell,
        )

    def die(self) -> None:
        """It comes back after a while, and takes up what it finds."""
        self.world.note(f"{self.name} dies")
        self.start()
