"""One world: time, what is asked of function and webhook in it, and what truly happened."""

from __future__ import annotations

import heapq
import io
import itertools
import random
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from cd_webhook.cluster import Conflict, Object, name_of
from cd_webhook.state import Rollout, read_deployed
from manifests.metadata import index_of, is_canary
from model_repository.documents.commit import parse_commit
from model_repository.errors import DeliveryError, DocumentMalformed, NameRefused, ObjectMissing
from model_repository.names import Target
from model_repository.notify import Notice
from model_repository.repository import read_live_filter
from model_repository.telemetry.log import Log
from on_commit.event import CommitUploaded, Event, FilterUploaded
from on_commit.handle import Handler
from tests.cd_webhook import fake_cluster as pods
from tests.cd_webhook.fake_pods import FakePods
from tests.cd_webhook.webhook_scene import VALUES, values
from tests.simulation.cluster import TrueCluster
from tests.simulation.faults import Death, Faults
from tests.simulation.outside import Bucket, Clock, Notifier, TrueBucket, Webhook, live_generation
from tests.simulation.people import WORLDS, People
from tests.simulation.replica import ENVIRONMENT, Replica

RETRIES = 12
"""Deliveries of one event, before it is dropped."""


@dataclass(frozen=True, slots=True)
class Upload:
    """One version of a commit object, as it truly was. kind: see `KINDS`; ``unreadable`` for a malformed commit."""

    generation: int
    build: str
    kind: str
    time: float
    by: str
    hold: bool
    replaced_hold: bool


class World:
    """Everything, from a seed."""

    deaf = False
    """Whether people could not be told for good (a topic that is missing)."""

    def __init__(self, seed: int, *, indexes: int | None = None, story: bool = False) -> None:
        self.seed = seed
        self.chance = random.Random(seed)
        self.story: list[str] | None = [] if story else None
        self.time = 0.0
        self.steps = 0
        self.log = Log(stream=io.StringIO())
        aside = random.Random(f"{seed} worlds")
        self.strange = frozenset(aside.sample(WORLDS, aside.choice((0, 1, 2, 3))))
        """What of `WORLDS` happens here."""
        asked = VALUES.replace("replicas: 1", f"replicas: {aside.choice((1, 1, 2))}")
        self.values = values(asked + ("canary: {replicas: 1, seconds: 30}\n" if seed % 3 == 2 else ""))
        self.faults = Faults(self.chance, self.chance.choice((0.0, 0.01, 0.03, 0.08)), self.others_act)
        self.uploads: dict[str, list[Upload]] = defaultdict(list)
        """By index, in the true order."""
        self.kinds: dict[str, str] = {}
        """By build."""
        self.notices: list[Notice] = []
        self.acknowledged: dict[str, set[int]] = defaultdict(set)
        """By index: the live generations of which the function said that nothing is left to do."""
        self.writes: list[tuple[str, Object | None, Object]] = []
        """Of Deployments, since they were checked last."""
        self.receipts: dict[str, int] = {}
        """How often each name under deployments/ was written."""
        self.revisions: dict[str, list[Object]] = defaultdict(list)
        """By index, what its Deployment was when something served: what a person may put back."""
        self.went_live: dict[str, set[int]] = defaultdict(set)
        """By index, the commits of which the Deployment once said that they serve."""
        self.deleted: set[str] = set()
        """Indexes whose Deployment somebody deleted, and with it what was owed."""
        self.disturbed: set[str] = set()
        """Indexes that people deleted something of."""
        self.excused: dict[str, set[str]] = defaultdict(set)
        """By index, the codes with which a good build may have been undone here."""
        self.scaled: dict[str, int] = {}
        """By index, to how many pods somebody scaled it last."""
        self.filters: dict[str, list[int]] = defaultdict(list)
        """By index, the generations of its filters, in the true order."""
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._depth = 0
        self._ticking = False
        self.bucket = TrueBucket(self, self._written)
        self.cluster = TrueCluster(self, self._stored, self._live_filter)
        self.pods = FakePods(self.cluster, Clock(self, 0.0))  # type: ignore[arg-type] # it only passes it on
        self.people = People(self)
        self.indexes = [f"index-{n}" for n in range(indexes or self.chance.randint(1, 6))]
        skews = [self.chance.choice((0.0, 0.0, 2.0, -300.0, 300.0)) for _ in range(2)]
        self.replicas = [Replica(self, name, skew) for name, skew in zip(("first", "second"), skews, strict=True)]
        self.ends = 3600.0 * 4

    # Time

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        """Have `act` done in so many seconds."""
        heapq.heappush(self._queue, (self.time + seconds, next(self._numbers), act))

    def forget(self) -> None:
        """What is on its way is lost."""
        self._queue = []
        self._ticking = False

    def run_for(self, seconds: float) -> None:
        """Do what is due within so many seconds, which pass."""
        until = self.time + seconds
        while self._queue and self._queue[0][0] <= until:
            self.step()
        self.time = until

    def step(self) -> bool:
        """Do what is due next; False: nothing is."""
        if not self._queue:
            return False
        due, _, act = heapq.heappop(self._queue)
        self.time = max(self.time, due)
        self.steps += 1
        self._depth += 1
        try:
            act()
        finally:
            self._depth -= 1
        return True

    def others_act(self) -> None:
        """A process stalls in the middle of a call, and some time goes by."""
        if self._depth > 3:
            return
        for _ in range(self.chance.randint(1, 12)):
            if not self.step():
                return

    def note(self, line: str) -> None:
        """One line of the story."""
        if self.story is not None:
            minutes, seconds = divmod(self.time, 60)
            self.story.append(f"{int(minutes):4}:{seconds:04.1f} {'  ' * (self._depth - 1)}{line}")

    # The function

    def event(self, event: Event) -> None:
        """A commit or a filter was uploaded: its event is lost, late, doubled, or simply delivered."""
        lost = self.faults.rate > 0 and self.chance.random() < 0.1
        times = 0 if lost else self.chance.choice((1, 1, 1, 2, 3))
        for _ in range(times):
            late = self.chance.choice((0.1, 1.0, 1.0, 5.0, 60.0, 900.0))
            self.after(late, lambda: self.deliver(event, 1))

    def deliver(self, event: Event, number: int) -> None:
        """Deliver an event to the function; what it doesn't acknowledge comes again."""
        who = "function"
        self.note(f"the function hears: {event}")
        clock = Clock(self, self.chance.choice((0.0, 1.0, -2.0)))
        outside = (Bucket(self, who), Webhook(self, who), Notifier(self, who))
        handler = Handler(*outside, clock, environments=(ENVIRONMENT,), chance=self.chance)
        before = self._live(event)
        try:
            handler.handle(event, self.log)
        except (Death, DeliveryError) as error:
            self.note(f"  not acknowledged: {error!r}")
            if number < RETRIES:
                self.after(min(600.0, 10.0 * 2**number), lambda: self.deliver(event, number + 1))
            return
        if isinstance(event, CommitUploaded) and before is not None and before == self._live(event):
            self.acknowledged[event.target.index].add(before)

    def _live(self, event: Event) -> int | None:
        return live_generation(self.bucket, event.target.commit_name) if isinstance(event, CommitUploaded) else None

    # The webhook

    def some_replica(self) -> Replica:
        """The one that a load balancer takes."""
        return self.chance.choice(self.replicas)

    def watch(self, replica: Replica, index: str) -> None:
        """Have the replica look at an index until its rollout is finished."""
        if index not in replica.watched:
            replica.watched.add(index)
            self.after(0.5, lambda: self._advance(replica, index, replica.lives))

    def _advance(self, replica: Replica, index: str, life: int) -> None:
        if life != replica.lives:
            return
        pause = 5.0
        try:
            step = replica.delivery.advance(index)
            self.note(f"{replica.name} looks at {index}: {step.sentence}")
            if step.finished:
                replica.watched.discard(index)
                return
            pause = max(0.5, min(step.pause, 20.0))
        except Conflict:
            pause = 0.1
        except Death:
            replica.die()
            return
        except DeliveryError as error:
            self.note(f"{replica.name} can't look at {index}: {error}")
        self.after(pause, lambda: self._advance(replica, index, life))

    def watcher_sweeps(self, replica: Replica) -> None:
        """As the watcher does every half minute; here less often."""
        try:
            for found in replica.delivery.cluster.deployments():
                if is_canary(name_of(found)) or read_deployed(found).unfinished:
                    self.watch(replica, index_of(name_of(found)))
        except Death:
            replica.die()
        except DeliveryError:
            pass
        self.after(90.0, lambda: self.watcher_sweeps(replica))

    def controller(self) -> None:
        """The cluster's controllers move."""
        self._ticking = False
        self.cluster.tick()
        self.cluster.tick()
        if self.cluster.unsettled():
            self._tick_in(20.0)

    def _tick_in(self, seconds: float) -> None:
        if not self._ticking:
            self._ticking = True
            self.after(seconds, self.controller)

    # What truly happened

    def _written(self, name: str, generation: int, data: bytes, replaced: int | None) -> None:
        if name.startswith(("deployments/", "filters/")) and name.rpartition("/")[2].removesuffix(".json").isdecimal():
            self.receipts[name] = self.receipts.get(name, 0) + 1
        with suppress(NameRefused):
            hidden = Target.from_filter_name(name)
            self.filters[hidden.index].append(generation)
            self.event(FilterUploaded(hidden))
        try:
            target = Target.from_commit_name(name)
        except NameRefused:
            return
        before = self.uploads[target.index]
        held = bool(before) and before[-1].hold and before[-1].generation == replaced
        try:
            commit = parse_commit(data, target)
            build, by, hold = commit.index_prefix.build, commit.by, commit.hold
            kind = self.kinds[build]
            kind = "good" if kind == "malformed" else kind  # its first commit was, not the build
        except DocumentMalformed:
            build, by, hold, kind = "", "", False, "unreadable"
        before.append(Upload(generation, build, kind, self.time, by, hold, held))
        fates = {"bad": pods.ended(65, "refused"), "starting": pods.starting}
        self.cluster.fates[str(generation)] = fates.get(kind, pods.ready)
        if kind == "slow":
            self.cluster.slow[str(generation)] = 90.0
        self.note(f"commit of {target.index}: {generation} = {build or 'nonsense'} ({kind}) by {by}")
        self.event(CommitUploaded(target))

    def _live_filter(self, index: str) -> int | None:
        """What a pod of the index reads: see `TrueCluster`."""
        try:
            return read_live_filter(self.bucket, Target(ENVIRONMENT, index)).generation
        except ObjectMissing:
            return 0
        except DocumentMalformed:
            return None

    def _stored(self, name: str, before: Object | None, after: Object) -> None:
        self.writes.append((name, before, after))
        deployed = read_deployed(after)
        if not is_canary(name) and deployed.rollout is Rollout.SERVED:
            self.revisions[name].append(after)
            self.went_live[name].add(deployed.generation)
        if deployed.rollout is Rollout.UNDONE and (deployed.spec or {}).get("replicas") == 0:
            self.scaled.pop(name, None)  # stopped, since nothing of it ever served: how many pods it had is forgotten
        self._tick_in(2.0)
