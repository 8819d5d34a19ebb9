"""Who acts on the bucket and on the cluster: the batch, the operator, people with kubectl, and nodes."""

from __future__ import annotations

import copy
import io
import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING

from cd_webhook.cluster import Object
from cd_webhook.state import read_deployed
from embedding_batch.steps.committing import commit as batch_commit
from embedding_batch.steps.committing import look as batch_look
from manifests.metadata import canary_name
from model_repository.documents.commit import Commit
from model_repository.errors import DeliveryError
from model_repository.names import SHADOW, IndexPrefix, Target
from model_repository.repository import write_filter
from operator_cli.context import Context
from operator_cli.main import main as command
from tests import builds
from tests.cd_webhook.fake_pods import QUERIES
from tests.simulation.faults import Death
from tests.simulation.outside import Bucket, Clock, live_generation
from tests.simulation.replica import ENVIRONMENT

if TYPE_CHECKING:
    from tests.simulation.world import World

KINDS = ("good",) * 11 + ("slow",) * 3 + ("bad", "bad", "starting", "incomplete", "malformed")
"""What a build, or its commit, turns out to be."""
WORLDS = ("quota", "nodes", "scale", "policy", "storm", "restart", "filters", "shadows")
"""What besides happens in some worlds; see `People.strange`."""
STARVED = frozenset({"deadline-exceeded", "canary-undecided", "canary-errors", "canary-unreachable"})
"""The codes of what becomes of a good build that gets no pods."""


class People:
    """All of them, in one world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._chance = world.chance
        self._builds = itertools.count(1)
        self._model = builds.publish_model(world.bucket)

    def publish(self, index: str, who: str) -> tuple[str, str]:
        """Upload a build; its name and what it is."""
        world, name, kind = self._world, f"b{next(self._builds)}", self._chance.choice(KINDS)
        world.kinds[name] = kind
        parts, prefix = (builds.partition(category="all"),), IndexPrefix(index, name)
        builds.publish_build(Bucket(world, who), prefix, self._model, partitions=parts, golden_queries=QUERIES)
        if kind == "incomplete":
            world.bucket.delete(f"{prefix}/0.annoy")
        return name, kind

    def batch(self, index: str) -> None:
        """The batch publishes a build, and commits it by its own step."""
        world, target = self._world, Target(ENVIRONMENT, index)
        store = Bucket(world, "batch")
        try:
            serving = batch_look(store, target, lambda _: None)
            name, kind = self.publish(index, "batch")
            if kind == "malformed":
                world.bucket.write(target.commit_name, b"{" + name.encode(), if_generation_match=None)
                return
            outcome = batch_commit(store, target, Commit(IndexPrefix(index, name), by="batch"), serving)
            world.note(f"the batch commits {name}: {outcome.generation}")
        except (Death, DeliveryError) as error:
            world.note(f"the batch of {index} ends: {error!r}")

    def operator(self, index: str) -> None:
        """Somebody uses the command."""
        kinds = [("rollback", index), ("redeploy", index), ("rollback", index, "--hold"), ("redeploy", index, "--hold")]
        kinds += [("redeploy", index, "--release")] * 2
        if "shadows" in self._world.strange and (known := list(self._world.kinds)):
            kinds += [("shadow", index, self._chance.choice(known)), ("shadow", index, "--off")] * 3
        self._order(self._chance.choice(kinds))

    def _order(self, chosen: tuple[str, ...]) -> None:
        world, out, err = self._world, io.StringIO(), io.StringIO()
        environ = {"MODEL_REPOSITORY": "gs://sim", "INDEXPUSH_ENVIRONMENT": ENVIRONMENT}
        context = Context(environ, lambda *_: Bucket(world, "operator"), Clock(world, 0.0), out, err)
        who = () if "--off" in chosen else ("--by", "ann", "--reason", "why not")
        try:
            code = command([*chosen, *who], context)
            world.note(f"ann: {' '.join(chosen)}: {code} {err.getvalue().strip()[:120]}")
        except Death:
            world.note("ann's command is killed")

    def hides(self, index: str) -> None:
        """Somebody uploads a filter, or what is none."""
        target, number = Target(ENVIRONMENT, index), self._chance.randint(0, 10**6)
        try:
            if number % 5 == 0:
                self._world.bucket.write(target.filter_name, b"{", if_generation_match=None)
            else:
                write_filter(Bucket(self._world, "batch"), target, [f"sold-{number}"])
        except (Death, DeliveryError) as error:
            self._world.note(f"no filter of {index}: {error!r}")

    def deletes(self, index: str) -> None:
        """A Deployment, a commit or a build's file goes, a rollout is undone by hand, or the bucket is restored."""
        world = self._world
        what = self._chance.choice(("deployment", "deployment", "commit", "file", "restore", "rewind", "rewind"))
        world.note(f"somebody: {what} of {index}")
        world.disturbed.add(index)
        target, live = Target(ENVIRONMENT, index), world.cluster.deployment(index)
        if what == "deployment" and live is not None:
            world.scaled.pop(index, None)
            world.cluster.delete(live)
            world.deleted.add(index)
        elif what == "rewind" and index in world.revisions and live is not None:
            world.cluster.by_hand(index, _rewind(self._chance.choice(world.revisions[index])))
        elif what == "commit" and live_generation(world.bucket, target.commit_name):
            world.bucket.delete(target.commit_name)
        elif what == "file" and world.uploads[index]:
            build = self._chance.choice(world.uploads[index]).build
            name = f"indexes/{index}/{build}/index.json"
            if world.bucket.stat(name):
                world.bucket.delete(name)
                world.kinds[build] = "incomplete"
        elif what == "restore" and live_generation(world.bucket, target.commit_name):
            data = world.bucket.read(target.commit_name, limit=10**6).data
            world.bucket.write(target.commit_name, data, if_generation_match=None)

    def strange(self, what: str, index: str) -> None:
        """One thing of `WORLDS` happens, for a while or for good."""
        self._world.note(f"{what}: {index}")
        getattr(self, f"_{what}")(index)

    def _quota(self, _: str) -> None:
        """A ResourceQuota takes one more pod, or none."""
        world = self._world
        world.cluster.room = len(world.cluster.all_pods()) + self._chance.randint(0, 1)
        world.after(self._while(), self._room)
        for index in (*world.indexes, *(f"{index}{SHADOW}" for index in world.indexes)):
            world.excused[index] |= STARVED

    def _nodes(self, index: str) -> None:
        """Nodes are drained or shut down, or evict what runs on them, one after the other."""
        world, reason = self._world, self._chance.choice(("", "Terminated", "Terminated", "Evicted"))
        if reason == "Evicted":
            world.excused[index].add("pod-evicted")
        for _ in range(3):
            for name in (index, canary_name(index)):
                world.cluster.end_pods(name, reason)
            world.controller()

    def _scale(self, index: str) -> None:
        if self._world.cluster.deployment(index) is not None:
            self.scale(index, self._chance.choice((0, 0, 1, 3)))
            self._world.excused[index] |= STARVED

    def _policy(self, _: str) -> None:
        faults = self._world.faults
        faults.policy = frozenset(self._chance.choice((("create", "apply"), ("create", "apply", "mark"))))
        faults.policy_ends = self._world.time + self._while()

    def _storm(self, _: str) -> None:
        self._world.faults.storm_ends = self._world.time + self._while()

    def _restart(self, index: str) -> None:
        if self._world.cluster.deployment(index) is not None:
            self._world.cluster.by_hand(index, _restart(str(self._world.time)))

    def _filters(self, index: str) -> None:
        self.hides(index)

    def _while(self) -> float:
        return self._chance.choice((60.0, 900.0, 4000.0))

    def _room(self) -> None:
        self._world.cluster.room = None
        self._world.controller()

    def scale(self, index: str, replicas: int) -> None:
        """`kubectl scale`."""
        self._world.scaled[index] = replicas
        self._world.cluster.by_hand(index, lambda live: live["spec"].update(replicas=replicas))

    def scales_up_again(self) -> None:
        """What somebody scaled to 0 runs again; not what was stopped because nothing of it ever served."""
        for index in self._world.indexes:
            live = self._world.cluster.deployment(index)
            if live is not None and live["spec"]["replicas"] == 0 and (read_deployed(live).spec or {}).get("replicas"):
                self.scale(index, 1)


def _rewind(to: Object) -> Callable[[Object], None]:
    """What `kubectl rollout undo` does to a Deployment."""

    def undo(live: Object) -> None:
        live["spec"]["template"] = copy.deepcopy(to["spec"]["template"])
        live["metadata"]["annotations"] = copy.deepcopy(to["metadata"]["annotations"])

    return undo


def _restart(moment: str) -> Callable[[Object], None]:
    """What `kubectl rollout restart` does to a Deployment."""

    def restart(live: Object) -> None:
        live["spec"]["template"]["metadata"]["annotations"]["kubectl.kubernetes.io/restartedAt"] = moment

    return restart
