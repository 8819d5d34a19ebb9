"""What stands around the parts, behind the interfaces of the real ones: bucket, cluster, notifier, webhook, clock."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from cd_webhook.cluster import ClusterForbids, ClusterUnavailable, Object
from cd_webhook.http.app import refusal
from cd_webhook.status import describe_all
from manifests import metadata as marks
from model_repository.bucket.store import ObjectInfo, StoredObject
from model_repository.deployment import DeploymentRequest, parse_payload
from model_repository.errors import AccessDenied, BucketUnavailable, DeliveryError, ObjectMissing
from model_repository.names import Target
from model_repository.notify import Notice, NotifyRefused, NotifyUnavailable
from on_commit.compare import IndexStatus, read_statuses
from on_commit.webhook import (
    FilterAnswer,
    HttpAnswer,
    WebhookAnswer,
    WebhookSetup,
    WebhookUnavailable,
    failure,
    read_answer,
)
from tests.cd_webhook.fake_cluster import FakeCluster
from tests.memory_store import MemoryStore
from tests.simulation.faults import Death, Errors

if TYPE_CHECKING:
    from tests.simulation.world import World

T = TypeVar("T")
START = datetime(2026, 11, 21, tzinfo=UTC)

BUCKET = Errors(BucketUnavailable, AccessDenied)
CLUSTER = Errors(ClusterUnavailable, ClusterForbids)
NOTIFIER = Errors(NotifyUnavailable, NotifyRefused)
WEBHOOK = Errors(WebhookUnavailable, WebhookSetup)
_URL = "https://cd/webhooks/webhook/indexpush"


class Clock:
    """A process's clock: the world's, and how far it is off."""

    def __init__(self, world: World, skew: float) -> None:
        self._world = world
        self._skew = skew

    def now(self) -> datetime:
        return START + timedelta(seconds=self._world.time + self._skew)

    def sleep(self, seconds: float) -> None:
        """No time passes within an event."""


class TrueBucket(MemoryStore):
    """The bucket itself. on_write: hears of each write: name, generation, bytes, and the generation it replaced."""

    def __init__(self, world: World, on_write: Callable[[str, int, bytes, int | None], None]) -> None:
        super().__init__("sim", seed=world.seed)
        self._world = world
        self._on_write = on_write

    def now(self) -> datetime:
        return START + timedelta(seconds=self._world.time)

    def write(self, name: str, data: bytes, *, if_generation_match: int | None) -> ObjectInfo:
        replaced = self.stat(name)
        info = super().write(name, data, if_generation_match=if_generation_match)
        self._on_write(name, info.generation, data, replaced.generation if replaced else None)
        return info


class Bucket:
    """The bucket as the process `who` sees it."""

    bucket = "sim"

    def __init__(self, world: World, who: str) -> None:
        self._world = world
        self._who = who

    def _call(self, name: str, act: Callable[[], T]) -> T:
        world = self._world
        return world.faults.pass_on(self._who, "bucket", name, world.time, BUCKET, act)

    def read(self, name: str, *, limit: int) -> StoredObject:
        return self._call(name, lambda: self._world.bucket.read(name, limit=limit))

    def stat(self, name: str) -> ObjectInfo | None:
        return self._call(name, lambda: self._world.bucket.stat(name))

    def listing(self, prefix: str) -> list[ObjectInfo]:
        return self._call(prefix, lambda: self._world.bucket.listing(prefix))

    def folders(self, prefix: str) -> list[str]:
        return self._call(prefix, lambda: self._world.bucket.folders(prefix))

    def write(self, name: str, data: bytes, *, if_generation_match: int | None) -> ObjectInfo:
        return self._call(name, lambda: self._world.bucket.write(name, data, if_generation_match=if_generation_match))

    def upload(self, name: str, path: Path, *, if_generation_match: int | None) -> ObjectInfo:
        return self.write(name, path.read_bytes(), if_generation_match=if_generation_match)


class TrueCluster(FakeCluster):
    """The cluster itself. on_store: hears of each Deployment that was written, with what it was before."""

    def __init__(self, on_store: Callable[[str, Object | None, Object], None]) -> None:
        super().__init__(alive=False)
        self._on_store = on_store
        self._known: dict[str, Object] = {}

    def _store(self, value: Object) -> Object:
        name = value["metadata"]["name"]
        found = super()._store(value)
        self._on_store(name, self._known.get(name), found)
        self._known[name] = found
        return found

    def delete(self, value: Object) -> None:
        super().delete(value)
        if value["metadata"]["name"] not in self._deployments:
            self._known.pop(value["metadata"]["name"], None)

    def ready(self, index: str) -> list[int]:
        """The generations of an index's ready pods."""
        found = [pod for pod in self._pods.get(index, []) if _is_ready(pod)]
        return [int(pod["metadata"]["annotations"][marks.COMMIT_GENERATION]) for pod in found]


def _is_ready(pod: Object) -> bool:
    return any(each["type"] == "Ready" and each["status"] == "True" for each in pod["status"].get("conditions", []))


class Cluster:
    """The cluster as the process `who` sees it."""

    def __init__(self, world: World, who: str) -> None:
        self._world = world
        self._who = who

    def __getattr__(self, method: str) -> Any:
        inner = getattr(self._world.cluster, method)

        def call(*arguments: Any, **options: Any) -> Any:
            world, name = self._world, f"{method} {_subject(arguments)}"
            return world.faults.pass_on(
                self._who, "cluster", name, world.time, CLUSTER, lambda: inner(*arguments, **options)
            )

        return call


def _subject(arguments: tuple[Any, ...]) -> str:
    if not arguments:
        return ""
    return str(arguments[0]["metadata"]["name"] if isinstance(arguments[0], dict) else arguments[0])


class Notifier:
    """Pub/Sub as the process `who` sees it."""

    def __init__(self, world: World, who: str) -> None:
        self._world = world
        self._who = who

    def publish(self, notice: Notice) -> None:
        world = self._world
        world.faults.pass_on(
            self._who, "notifier", notice.code, world.time, NOTIFIER, lambda: world.notices.append(notice)
        )


class Webhook:
    """The webhook as the function sees it: one of its replicas, behind HTTP's words."""

    def __init__(self, world: World, who: str) -> None:
        self._world = world
        self._who = who

    def send(self, request: DeploymentRequest) -> WebhookAnswer:
        body = json.dumps(request.to_payload()).encode()
        answer = self._call(str(request.target), lambda: self._post(body))
        if answer.status != HTTPStatus.OK:
            raise failure(_URL, answer)
        return read_answer(_URL, answer)

    def apply_filter(self, target: Target) -> FilterAnswer | None:
        raise AssertionError(f"{target}: nobody uploads filters here")

    def withdraw(self, target: Target) -> str:
        raise AssertionError(f"{target}: nobody has shadows here")

    def statuses(self, environment: str) -> dict[str, IndexStatus] | None:
        return self._call("statuses", lambda: self._get(environment))

    def _call(self, name: str, act: Callable[[], T]) -> T:
        return self._world.faults.pass_on(self._who, "webhook", name, self._world.time, WEBHOOK, act)

    def _post(self, body: bytes) -> HttpAnswer:
        replica = self._world.some_replica()
        try:
            request = parse_payload(body)
            self._world.note(f"{replica.name} is asked for {request.index_prefix} as {request.generation}")
            result = replica.delivery.deliver(request)
            self._world.watch(replica, request.target.index)
        except DeliveryError as error:
            status, said = refusal(error)
            return HttpAnswer(int(status), said)
        except Death:
            replica.die()
            raise WebhookUnavailable("the connection broke") from None
        return HttpAnswer(200, {"eventProcessed": True, "outcome": result.outcome.value, "detail": result.detail})

    def _get(self, environment: str) -> dict[str, IndexStatus]:
        replica = self._world.some_replica()
        try:
            found = describe_all(replica.delivery.cluster, environment)
        except DeliveryError as error:
            raise failure(_URL, HttpAnswer(int(refusal(error)[0]), refusal(error)[1])) from error
        except Death:
            replica.die()
            raise WebhookUnavailable("the connection broke") from None
        return read_statuses(json.loads(json.dumps({"deployments": found})), environment)


def live_generation(bucket: MemoryStore, name: str) -> int | None:
    """Of the commit object, as it truly is."""
    try:
        return bucket.read(name, limit=10**9).generation
    except ObjectMissing:
        return None
