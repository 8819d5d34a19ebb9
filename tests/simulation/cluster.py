"""The cluster: what befalls its pods, and what it refuses."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from cd_webhook.cluster import ClusterForbids, ClusterRefused, ClusterUnavailable, Conflict, Object
from cd_webhook.pod_client import Told
from cd_webhook.rules.pods import is_ready
from cd_webhook.rules.rollout import new_pods
from manifests import metadata as marks
from model_repository.names import SHADOW
from tests.cd_webhook import fake_cluster as pods
from tests.cd_webhook.fake_cluster import FakeCluster
from tests.simulation.faults import Errors

if TYPE_CHECKING:
    from tests.simulation.world import World

READS = Errors(ClusterUnavailable, ClusterForbids)
WRITES = Errors(ClusterUnavailable, ClusterForbids, (Conflict,))
_OF_THE_LAST = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
"""As a rollout before this one left it, until Kubernetes sees progress."""
_FULL = {"type": "ReplicaFailure", "status": "True", "message": "pods is forbidden: exceeded quota: pods"}


class TrueCluster(FakeCluster):
    """The cluster itself.

    room: how many pods a ResourceQuota lets there be; None: there is none. slow: by commit generation, how many seconds
    its pods take to get ready.
    """

    def __init__(
        self,
        world: World,
        on_store: Callable[[str, Object | None, Object], None],
        live_filter: Callable[[str], int | None],
    ) -> None:
        """on_store: hears of each Deployment that was written, with what it was before.

        live_filter: the generation of an index's live filter, 0 for none; None: it can't be read.
        """
        super().__init__(alive=False)
        self.room: int | None = None
        self.slow: dict[str, float] = {}
        self.filters: dict[str, int] = {}
        """By pod, the generation of the filter that it has in force."""
        self._world = world
        self._on_store = on_store
        self._live_filter = live_filter
        self._known: dict[str, Object] = {}
        self._born: dict[str, float] = {}
        self._ended: dict[str, list[Object]] = defaultdict(list)
        self._to_come: dict[str, list[Object]] = defaultdict(list)
        """The templates of pods that ended, and that the ReplicaSets make again."""

    def _store(self, value: Object) -> Object:
        name = value["metadata"]["name"]
        found = super()._store(value)
        self._on_store(name, self._known.get(name), found)
        self._known[name] = found
        return found

    def delete(self, value: Object) -> None:
        super().delete(value)
        name = value["metadata"]["name"]
        if name not in self._deployments:
            for kept in (self._known, self._ended, self._to_come):
                kept.pop(name, None)

    def pods(self, name: str) -> list[Object]:
        return super().pods(name) + self._ended.get(name, [])

    def all_pods(self) -> list[Object]:
        return super().all_pods() + [pod for ended in self._ended.values() for pod in ended]

    def end_pods(self, name: str, reason: str) -> None:
        """Every pod of a Deployment ends, and stays as a failed one; reason: why, empty: it is deleted."""
        ended = self._pods.get(name, [])
        self._pods[name] = []
        self._to_come[name] = [{"metadata": dict(pod["metadata"]), "spec": pod["spec"]} for pod in ended]
        if reason:
            status = {"phase": "Failed", "reason": reason, "message": "by its node"}
            self._ended[name] = [*self._ended[name], *({**pod, "status": status} for pod in ended)][-6:]

    def ready(self, name: str) -> list[int]:
        """The generations of a Deployment's ready pods."""
        return [_generation(pod) for pod in self._pods.get(name, []) if is_ready(pod)]

    def unsettled(self) -> bool:
        """Whether pods come by themselves as time goes by."""
        return any(self._starts(pod) for found in self._pods.values() for pod in found)

    def tell(self, address: str, _: int) -> Told | int:
        """What the pod at an address says when it is told of a filter; it reads the live one."""
        found = [pod for each in self._pods.values() for pod in each if address.startswith(f"{pod['metadata']['ip']}:")]
        if not found or not is_ready(found[0]):
            return Told.NOBODY_LISTENS
        if self._world.faults.rate and (hash_of(address) + int(self._world.time)) % 7 == 0:
            return Told.NOT_YET
        return Told.NOT_YET if self._read_filter(found[0]) is None else self.filters[found[0]["metadata"]["name"]]

    def hiding(self, index: str) -> set[int]:
        """Which filters the ready pods of an index have in force, its canary's and shadow's too."""
        mine = (index, marks.canary_name(index), f"{index}{SHADOW}")
        ready = [pod for name in mine for pod in self._pods.get(name, []) if is_ready(pod)]
        return {self.filters[pod["metadata"]["name"]] for pod in ready}

    def _control(self, name: str, live: Object) -> None:
        found = self._pods.setdefault(name, [])
        while self._to_come[name] and not self._full():
            found.append(self._pod(name, self._to_come[name].pop()))
        super()._control(name, live)
        now = self._pods[name]
        for pod in now:
            pod["status"] = self.fates.get(str(_generation(pod)), pods.ready)() | {"podIP": pod["metadata"]["ip"]}
            if self._starts(pod):
                pod["status"] = pods.starting() | {"podIP": pod["metadata"]["ip"]}
            elif is_ready(pod) and pod["metadata"]["name"] not in self.filters:
                self._read_filter(pod)
        status = live["status"]
        status["readyReplicas"] = status["availableReplicas"] = sum(is_ready(pod) for pod in now)
        status["conditions"] = [_FULL] if len(now) < int(live["spec"]["replicas"]) else []
        if not any(map(is_ready, new_pods(live["spec"], now))):
            status["conditions"].append(_OF_THE_LAST)

    def _pod(self, name: str, template: Object) -> Object:
        made = super()._pod(name, template)
        self._born[made["metadata"]["name"]] = self._world.time
        made["status"] = pods.starting()
        return made

    def _starts(self, pod: Object) -> bool:
        takes = self.slow.get(str(_generation(pod)), 0.0)
        return self._world.time < self._born[pod["metadata"]["name"]] + takes

    def _full(self) -> bool:
        return self.room is not None and sum(map(len, self._pods.values())) >= self.room

    def _read_filter(self, pod: Object) -> int | None:
        labels = pod["metadata"]["labels"]
        found = self._live_filter(labels[marks.INSTANCE].removesuffix(SHADOW))
        self.filters.setdefault(pod["metadata"]["name"], 0)
        if found is not None:
            self.filters[pod["metadata"]["name"]] = found
        return found


def hash_of(text: str) -> int:
    """The same in every process."""
    return sum(text.encode())


def _generation(pod: Object) -> int:
    return int(pod["metadata"]["annotations"][marks.COMMIT_GENERATION])


class Cluster:
    """The cluster as the process `who` sees it."""

    def __init__(self, world: World, who: str) -> None:
        self._world = world
        self._who = who

    def __getattr__(self, method: str) -> Any:
        inner = getattr(self._world.cluster, method)
        writes = method in {"create", "apply", "mark", "delete"}

        def call(*arguments: Any, **options: Any) -> Any:
            world, name = self._world, f"{method} {_subject(arguments)}"

            def act() -> Any:
                self._admit(method)
                return inner(*arguments, **options)

            return world.faults.pass_on(self._who, "cluster", name, world.time, WRITES if writes else READS, act)

        return call

    def _admit(self, method: str) -> None:
        """What stands before every write for a while: a policy's webhook, or others who write all the time."""
        faults, now = self._world.faults, self._world.time
        if method in faults.policy and faults.policy_ends > now:
            faults.met += 1
            raise ClusterRefused(f"{method}: 422: a policy says no")
        if method in {"apply", "mark", "delete"} and faults.storm_ends > now and self._world.chance.random() < 0.8:
            faults.met += 1
            raise Conflict(f"{method}: 409: others wrote")


def _subject(arguments: tuple[Any, ...]) -> str:
    if not arguments:
        return ""
    return str(arguments[0]["metadata"]["name"] if isinstance(arguments[0], dict) else arguments[0])
