"""What stands around the parts, behind the interfaces of the real ones: bucket, notifier, webhook, clock."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from cd_webhook.filters import Filters
from cd_webhook.http.app import refusal
from cd_webhook.status import describe_all
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
from tests.memory_store import MemoryStore
from tests.simulation.faults import Death, Errors

if TYPE_CHECKING:
    from tests.simulation.replica import Replica
    from tests.simulation.world import World

T = TypeVar("T")
START = datetime(2026, 11, 21, tzinfo=UTC)

BUCKET = Errors(BucketUnavailable, AccessDenied)
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
        """No time passes within an event, but where somebody waits for what others do."""

    def waits(self, seconds: float) -> None:
        """Sleep, and let others act meanwhile."""
        self._world.others_act()
        self._world.time += seconds


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

    def listing(self, prefix: str, *, deep: bool = True) -> list[ObjectInfo]:
        return self._call(prefix, lambda: self._world.bucket.listing(prefix, deep=deep))

    def folders(self, prefix: str) -> list[str]:
        return self._call(prefix, lambda: self._world.bucket.folders(prefix))

    def write(self, name: str, data: bytes, *, if_generation_match: int | None) -> ObjectInfo:
        return self._call(name, lambda: self._world.bucket.write(name, data, if_generation_match=if_generation_match))

    def upload(self, name: str, path: Path, *, if_generation_match: int | None) -> ObjectInfo:
        return self.write(name, path.read_bytes(), if_generation_match=if_generation_match)

    def delete(self, name: str, *, if_generation_match: int | None = None) -> None:
        self._call(name, lambda: self._world.bucket.delete(name, if_generation_match=if_generation_match))


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
        answer = self._call(target.filter_name, lambda: self._asked(lambda to: _filtered(to.filters, target)))
        if answer.status != HTTPStatus.OK:
            raise failure(_URL, answer)
        return FilterAnswer(answer.text("outcome"), answer.text("detail"))

    def withdraw(self, target: Target) -> str:
        answer = self._call(str(target), lambda: self._asked(lambda to: {"detail": to.delivery.withdraw(target.index)}))
        if answer.status != HTTPStatus.OK:
            raise failure(_URL, answer)
        return answer.text("detail")

    def statuses(self, environment: str) -> dict[str, IndexStatus] | None:
        return self._call("statuses", lambda: self._get(environment))

    def _call(self, name: str, act: Callable[[], T]) -> T:
        return self._world.faults.pass_on(self._who, "webhook", name, self._world.time, WEBHOOK, act)

    def _post(self, body: bytes) -> HttpAnswer:
        return self._asked(lambda replica: self._deliver(replica, body))

    def _deliver(self, replica: Replica, body: bytes) -> dict[str, Any]:
        request = parse_payload(body)
        self._world.note(f"{replica.name} is asked for {request.index_prefix} as {request.generation}")
        result = replica.delivery.deliver(request)
        self._world.watch(replica, request.target.index)
        return {"eventProcessed": True, "outcome": result.outcome.value, "detail": result.detail}

    def _asked(self, does: Callable[[Replica], dict[str, Any]]) -> HttpAnswer:
        """What some replica answers to a request."""
        replica = self._world.some_replica()
        try:
            return HttpAnswer(200, does(replica))
        except DeliveryError as error:
            status, said = refusal(error)
            return HttpAnswer(int(status), said)
        except Death:
            replica.die()
            raise WebhookUnavailable("the connection broke") from None

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


def _filtered(filters: Filters, target: Target) -> dict[str, Any]:
    receipt = filters.apply(target.index)
    return {"outcome": receipt.outcome.value, "detail": receipt.detail} if receipt else {"outcome": "none"}


def live_generation(bucket: MemoryStore, name: str) -> int | None:
    """Of the commit object, as it truly is."""
    try:
        return bucket.read(name, limit=10**9).generation
    except ObjectMissing:
        return None
