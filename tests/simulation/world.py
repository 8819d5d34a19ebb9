"""The actors, and the order in which they act."""

from __future__ import annotations

import copy
import heapq
import io
import itertools
import random
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from cd_webhook.canary import Canaries
from cd_webhook.cluster import Conflict, Object, name_of
from cd_webhook.delivery.deliver import Delivery
from cd_webhook.delivery.receipts import Receipts
from cd_webhook.state import Rollout, read_deployed
from embedding_batch.steps.committing import commit as batch_commit
from embedding_batch.steps.committing import look as batch_look
from manifests.metadata import index_of, is_canary
from manifests.render import Rendered
from model_repository.bucket.events import SweepAsked
from model_repository.deployment import DeploymentRequest
from model_repository.documents.commit import Commit, parse_commit
from model_repository.documents.receipts.receipt import Outcome
from model_repository.errors import DeliveryError, DocumentMalformed, NameRefused, ObjectMissing
from model_repository.names import IndexPrefix, Target
from model_repository.notify import Notice
from model_repository.repository import read_receipt
from model_repository.telemetry.log import Log
from on_commit.event import CommitUploaded, Event
from on_commit.handle import Handler
from operator_cli.context import Context
from operator_cli.main import main as command
from tests import builds
from tests.cd_webhook import fake_cluster as pods
from tests.cd_webhook.fake_pods import QUERIES, FakePods
from tests.cd_webhook.webhook_scene import VALUES, rendered_once, values
from tests.simulation.faults import Death, Faults
from tests.simulation.outside import Bucket, Clock, Cluster, Notifier, TrueBucket, TrueCluster, Webhook, live_generation

ENVIRONMENT = "test"
KINDS = ("good",) * 14 + ("bad", "bad", "starting", "incomplete", "malformed")
"""What a build, or its commit, turns out to be."""
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


@dataclass
class Replica:
    """One webhook process."""

    world: World
    name: str
    skew: float
    delivery: Delivery = field(init=False)
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
        chosen = world.values

        def rendered(asked: DeploymentRequest) -> Rendered:
            return rendered_once(asked, chosen)

        receipts = Receipts(
            environment=ENVIRONMENT,
            cluster=cluster,
            store=bucket,
            clock=clock,
            log=world.log,
            notifier=Notifier(world, who),
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

    def die(self) -> None:
        """It comes back after a while, and takes up what it finds."""
        self.world.note(f"{self.name} dies")
        self.start()


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
        self.values = values(VALUES + ("canary: {replicas: 1, seconds: 30}\n" if seed % 3 == 2 else ""))
        self.faults = Faults(self.chance, self.chance.choice((0.0, 0.01, 0.03, 0.08)), self._others_act)
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
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._depth = 0
        self._ticking = False
        self.bucket = TrueBucket(self, self._written)
        self.cluster = TrueCluster(self._stored)
        self.pods = FakePods(self.cluster, Clock(self, 0.0))  # type: ignore[arg-type] # it only passes it on
        self.model = builds.publish_model(self.bucket)
        self.indexes = [f"index-{n}" for n in range(indexes or self.chance.randint(1, 6))]
        skews = [self.chance.choice((0.0, 0.0, 2.0, -300.0, 300.0)) for _ in range(2)]
        self.replicas = [Replica(self, name, skew) for name, skew in zip(("first", "second"), skews, strict=True)]
        self._builds = itertools.count(1)
        self.ends = 3600.0 * 4

    # Time

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        """Have `act` done in so many seconds."""
        heapq.heappush(self._queue, (self.time + seconds, next(self._numbers), act))

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

    def _others_act(self) -> None:
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

    def event(self, index: str) -> None:
        """A commit was uploaded: its event is lost, late, doubled, or simply delivered."""
        lost = self.faults.rate > 0 and self.chance.random() < 0.1
        times = 0 if lost else self.chance.choice((1, 1, 1, 2, 3))
        for _ in range(times):
            late = self.chance.choice((0.1, 1.0, 1.0, 5.0, 60.0, 900.0))
            self.after(late, lambda: self.deliver(CommitUploaded(Target(ENVIRONMENT, index)), 1))

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

    # Batch, operator, people

    def publish(self, index: str, who: str) -> tuple[str, str]:
        """Upload a build; its name and what it is."""
        name = f"b{next(self._builds)}"
        kind = self.chance.choice(KINDS)
        self.kinds[name] = kind
        store = Bucket(self, who)
        parts = (builds.partition(category="all"),)
        prefix = IndexPrefix(index, name)
        builds.publish_build(store, prefix, self.model, partitions=parts, golden_queries=QUERIES)
        if kind == "incomplete":
            self.bucket.delete(f"{prefix}/0.annoy")
        return name, kind

    def batch(self, index: str) -> None:
        """The batch publishes a build, and commits it by its own step."""
        target = Target(ENVIRONMENT, index)
        store = Bucket(self, "batch")
        try:
            serving = batch_look(store, target, lambda _: None)
            name, kind = self.publish(index, "batch")
            if kind == "malformed":
                self.bucket.write(target.commit_name, b"{" + name.encode(), if_generation_match=None)
                return
            outcome = batch_commit(store, target, Commit(IndexPrefix(index, name), by="batch"), serving)
            self.note(f"the batch commits {name}: {outcome.generation}")
        except (Death, DeliveryError) as error:
            self.note(f"the batch of {index} ends: {error!r}")

    def operator(self, index: str) -> None:
        """Somebody uses the command."""
        kinds = (
            ("rollback", index),
            ("redeploy", index),
            ("rollback", index, "--hold"),
            ("redeploy", index, "--release"),
        )
        chosen = self.chance.choice(kinds)
        out, err = io.StringIO(), io.StringIO()
        environ = {"MODEL_REPOSITORY": "gs://sim", "INDEXPUSH_ENVIRONMENT": ENVIRONMENT}
        context = Context(environ, lambda *_: Bucket(self, "operator"), Clock(self, 0.0), out, err)
        try:
            code = command([*chosen, "--by", "ann", "--reason", "why not"], context)
            self.note(f"ann: {' '.join(chosen)}: {code} {err.getvalue().strip()[:120]}")
        except Death:
            self.note("ann's command is killed")

    def somebody_deletes(self, index: str) -> None:
        """A Deployment, a commit or a build's file goes, a rollout is undone by hand, or the bucket is restored."""
        what = self.chance.choice(("deployment", "deployment", "commit", "file", "restore", "rewind", "rewind"))
        self.note(f"somebody: {what} of {index}")
        self.disturbed.add(index)
        target = Target(ENVIRONMENT, index)
        if what == "deployment":
            live = self.cluster.deployment(index)
            if live is not None:
                self.cluster.delete(live)
                self.deleted.add(index)
        elif what == "rewind" and index in self.revisions and self.cluster.deployment(index):
            self.cluster.by_hand(index, self._rewind(self.chance.choice(self.revisions[index])))
        elif what == "commit" and live_generation(self.bucket, target.commit_name):
            self.bucket.delete(target.commit_name)
        elif what == "file" and self.uploads[index]:
            build = self.chance.choice(self.uploads[index]).build
            name = f"indexes/{index}/{build}/index.json"
            if self.bucket.stat(name):
                self.bucket.delete(name)
                self.kinds[build] = "incomplete"
        elif what == "restore" and live_generation(self.bucket, target.commit_name):
            data = self.bucket.read(target.commit_name, limit=10**6).data
            self.bucket.write(target.commit_name, data, if_generation_match=None)

    def _rewind(self, to: Object) -> Callable[[Object], None]:
        """What `kubectl rollout undo` does to a Deployment."""

        def undo(live: Object) -> None:
            live["spec"]["template"] = copy.deepcopy(to["spec"]["template"])
            live["metadata"]["annotations"] = copy.deepcopy(to["metadata"]["annotations"])

        return undo

    # What truly happened

    def _written(self, name: str, generation: int, data: bytes, replaced: int | None) -> None:
        if name.startswith("deployments/"):
            self.receipts[name] = self.receipts.get(name, 0) + 1
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
        except DocumentMalformed:
            build, by, hold, kind = "", "", False, "unreadable"
        before.append(Upload(generation, build, kind, self.time, by, hold, held))
        fates = {"bad": pods.ended(65, "refused"), "starting": pods.starting}
        self.cluster.fates[str(generation)] = fates.get(kind, pods.ready)
        self.note(f"commit of {target.index}: {generation} = {build or 'nonsense'} ({kind}) by {by}")
        self.event(target.index)

    def _stored(self, name: str, before: Object | None, after: Object) -> None:
        self.writes.append((name, before, after))
        deployed = read_deployed(after)
        if not is_canary(name) and deployed.rollout is Rollout.SERVED:
            self.revisions[name].append(after)
            self.went_live[name].add(deployed.generation)
        if not self._ticking:
            self._ticking = True
            self.after(2.0, self.controller)

    # A run

    def begin(self, *, commits: int) -> None:
        """Put everything that will happen into the queue."""
        for replica in self.replicas:
            self.after(1.0, lambda replica=replica: self.watcher_sweeps(replica))  # type: ignore[misc]
        for moment in range(1, int(self.ends), 900):
            self.after(moment, lambda: self.deliver(SweepAsked(), RETRIES))
        for _ in range(commits):
            index, moment = self.chance.choice(self.indexes), self.chance.uniform(0, self.ends)
            burst = self.chance.choice((1, 1, 1, 1, 5))
            for number in range(burst):
                act = self.chance.choice((self.batch, self.batch, self.batch, self.operator))
                self.after(moment + 20.0 * number, lambda act=act, index=index: act(index))  # type: ignore[misc]
        if self.faults.rate:
            for _ in range(max(1, commits // 10)):
                index = self.chance.choice(self.indexes)
                self.after(self.chance.uniform(0, self.ends), lambda index=index: self.somebody_deletes(index))  # type: ignore[misc]
            for _ in range(3):
                who = self.chance.choice(("function", "webhook", "batch"))
                what = self.chance.choice(("bucket", "cluster", "webhook", "notifier"))
                self.after(self.chance.uniform(0, self.ends), lambda w=(who, what): self._outage(w))  # type: ignore[misc]

    def _outage(self, between: tuple[str, str]) -> None:
        seconds = self.chance.choice((60.0, 400.0, 3000.0))
        self.note(f"for {seconds:.0f} s every call of {between[0]} to {between[1]} is denied")
        self.faults.outages[between] = self.time + seconds
        self.deaf |= between[1] == "notifier" and seconds > 300

    def calm_down(self) -> None:
        """Faults stop, what is on its way is lost, rollouts end, and one sweep runs: what is then must be right."""
        self.faults.rate, self.faults.outages = 0.0, {}
        self._queue = []
        self._ticking = False
        for replica in self.replicas:
            replica.start()
            self.after(1.0, lambda replica=replica: self.watcher_sweeps(replica))  # type: ignore[misc]
        self.after(1.0, self.controller)
        self._run_for(2000.0)
        if self.faults.met:
            self._somebody_deletes_what_only_a_restoration_brings_back()
        self.note("one sweep, when all is calm")
        self.after(0.0, lambda: self.deliver(SweepAsked(), RETRIES))
        self._run_for(4000.0)

    def _somebody_deletes_what_only_a_restoration_brings_back(self) -> None:
        """The Deployment of an index whose live commit can't be deployed: by chance that is seldom the end."""
        for index in self.indexes:
            target = Target(ENVIRONMENT, index)
            generation = live_generation(self.bucket, target.commit_name)
            live = self.cluster.deployment(index)
            if not generation or live is None:
                continue
            with suppress(ObjectMissing, DocumentMalformed):
                if read_receipt(self.bucket, target, generation).outcome in {Outcome.UNDONE, Outcome.REJECTED}:
                    self.note(f"somebody: deployment of {index}, when all is calm")
                    # no excuse for a receipt: all are written by now, so the index isn't among those that are disturbed
                    self.cluster.delete(live)
                    return

    def _run_for(self, seconds: float) -> None:
        until = self.time + seconds
        while self._queue and self._queue[0][0] <= until:
            self.step()
        self.time = until
