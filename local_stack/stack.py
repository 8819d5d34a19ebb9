"""The whole stack on one machine: bucket, events, function, webhook, cluster.

    with LocalStack(Path("work")) as stack:
        stack.variables()          # what a batch or the CLI needs to find the bucket
        stack.service_url("home-store")

Every part is the real program, as its own process, but for the stand-ins that this room is about.
"""

from __future__ import annotations

import json
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from local_stack import bucket_server, function_host
from local_stack.delivery import DeliveryPolicy, PushDelivery
from local_stack.processes import Program, ProgramFailed, RunningProgram, base_environment, free_port
from local_stack.pubsub import Message, PubSubServer, Topics, topic_name
from local_stack.webhook_cluster import LocalCluster

_PROJECT = "local"
_COMMITS, _NOTIFY = "commits", "notify"
_STOP_GRACE = 3.0
_REVIVED = ("function", "cd-webhook", "bucket-server")
"""The parts that start again when they end: what they remember is in the bucket's folder and in the cluster."""


def _checkout() -> Path:
    return Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class StackOptions:
    """What may be chosen.

    environment: which one the webhook serves; the function refuses commits to others.
    images: image name to Python interpreter. pod_values: the values file of the environment; None: the shipped
    ``local.yaml``. checkout: where the function and the values are taken from.
    collector: where all parts send their spans, ``http://host:port`` of OTLP; empty: they record none.
    freshness_seconds: the longest that what serves may be of age, for the alert on it; 0: nobody said.
    """

    environment: str = "local"
    bucket: str = "model-repository"
    delivery: DeliveryPolicy = field(default_factory=lambda: DeliveryPolicy(duplicates=0.25))
    images: Mapping[str, str] = field(default_factory=lambda: {"indexpush": sys.executable})
    pod_values: Path | None = None
    checkout: Path = field(default_factory=_checkout)
    collector: str = ""
    freshness_seconds: int = 0


class LocalStack:
    """Starts everything, gives the addresses, stops everything. Start it from the main thread.

    work_dir: a folder that is ours; an earlier run's bucket in it is kept, its logs are appended to.
    lose: events for which it says True are never delivered.
    """

    def __init__(
        self,
        work_dir: Path,
        options: StackOptions | None = None,
        *,
        lose: Callable[[Message], bool] = lambda _message: False,
    ) -> None:
        self.options = options or StackOptions()
        self.work_dir = work_dir.resolve()
        self.logs = self.work_dir / "logs"
        self.seconds: dict[str, float] = {}
        """How long each part took from the beginning until it was ready."""
        self.topics = Topics()
        for topic in (_COMMITS, _NOTIFY):
            self.topics.create(topic_name(_PROJECT, topic))
        self._ports = {name: free_port() for name in ("bucket", "cluster", "function", "webhook")}
        self._pubsub = PubSubServer(self.topics)
        self._token = secrets.token_hex(16)
        self._running: list[RunningProgram] = []
        self.cluster = LocalCluster(self._url("cluster"))
        self.delivery = PushDelivery(
            f"{self._url('function')}/",
            f"projects/{_PROJECT}/subscriptions/on-commit",
            self.options.delivery,
            lose=lose,
        )

    # Addresses

    @property
    def bucket_url(self) -> str:
        """The bucket server: what STORAGE_EMULATOR_HOST wants."""
        return self._url("bucket")

    @property
    def pubsub_address(self) -> str:
        """What PUBSUB_EMULATOR_HOST wants."""
        return self._pubsub.address

    @property
    def webhook_url(self) -> str:
        """The CD webhook; `webhook_headers` open it."""
        return self._url("webhook")

    @property
    def webhook_headers(self) -> dict[str, str]:
        """What a request to the webhook must carry."""
        return {"Authorization": f"Bearer {self._token}"}

    def service_url(self, index: str) -> str | None:
        """Where the index answers queries, or None before its first commit."""
        return self.cluster.url(index)

    def variables(self) -> dict[str, str]:
        """The environment that points a batch, the CLI or Google's clients at this stack."""
        return {
            "MODEL_REPOSITORY": f"gs://{self.options.bucket}",
            "STORAGE_EMULATOR_HOST": self.bucket_url,
            "PUBSUB_EMULATOR_HOST": self.pubsub_address,
        }

    def notifications(self) -> list[dict[str, Any]]:
        """What people were told on NOTIFY_TOPIC, oldest first."""
        return [json.loads(message.data) for message in self.topics.messages(topic_name(_PROJECT, _NOTIFY))]

    def wait_for_notification(self, wanted: Callable[[dict[str, Any]], bool], timeout: float) -> dict[str, Any] | None:
        """The first notification (old ones count) that is `wanted`, or None after `timeout` seconds."""
        topic = topic_name(_PROJECT, _NOTIFY)
        found = self.topics.wait_for(topic, lambda message: wanted(json.loads(message.data)), timeout)
        return None if found is None else dict(json.loads(found.data))

    # Start and stop

    def start(self) -> None:
        """Start everything and return when all of it answers.

        Raises `ProgramFailed`, and then leaves nothing running.
        """
        began = time.monotonic()
        try:
            bucket, cluster, function = map(self._start, (self._bucket(), self._cluster(), self._function()))
            self._pubsub.start()
            self.topics.subscribe(topic_name(_PROJECT, _COMMITS), self._deliver)
            # The webhook looks at the cluster as soon as it runs, and would wait half a minute for a second look.
            self._wait(cluster, began)
            webhook = self._start(self._webhook())
            self._wait(bucket, began)
            bucket_server.create_bucket(self.bucket_url, self.options.bucket)
            self._wait(webhook, began)
            self._wait(function, began)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End everything; the bucket's content and the logs stay."""
        self.delivery.stop()
        for running in self._running:
            running.ask_to_end()
        for running in reversed(self._running):
            running.stop(_STOP_GRACE)
        self._running.clear()
        self._pubsub.stop()

    def check(self) -> None:
        """Raise `ProgramFailed` if a part has ended."""
        for running in self._running:
            running.check()

    def pid(self, part: str) -> int:
        """The process of a part: function, cd-webhook, bucket-server or cluster."""
        return self._part(part).pid

    def kill(self, part: str) -> None:
        """SIGKILL a part, and whatever it started with it."""
        self._part(part).kill()

    def sweep(self) -> None:
        """Ask the function for a sweep, as a scheduler's job does."""
        self.topics.publish(topic_name(_PROJECT, _COMMITS), b"sweep", {"sweep": "true"})

    def revive(self) -> list[str]:
        """Start the function, the webhook and the bucket server again where they have ended; says how each ended.

        From the thread that started the stack. Raises `ProgramFailed` if another part ended, or one does not come back.
        """
        ended = []
        for place, running in enumerate(self._running):
            if running.program.name not in _REVIVED:
                running.check()
            elif running.end is not None:
                ended.append(f"{running.program.name} {running.end}")
                running.stop()  # what is left of its session holds its port
                self._running[place] = RunningProgram.start(running.program)
                self._running[place].wait_ready()
        return ended

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()

    def _deliver(self, message: Message) -> None:
        if bucket_server.is_notified(message):
            self.delivery.deliver(message)

    def _part(self, name: str) -> RunningProgram:
        return next(running for running in self._running if running.program.name == name)

    def _start(self, program: Program) -> RunningProgram:
        running = RunningProgram.start(program)
        self._running.append(running)
        return running

    def _wait(self, running: RunningProgram, began: float) -> None:
        running.wait_ready()
        self.seconds[running.program.name] = time.monotonic() - began

    def _url(self, part: str) -> str:
        return f"http://127.0.0.1:{self._ports[part]}"

    # The programs

    def _traces(self) -> dict[str, str]:
        named = {"OTEL_EXPORTER_OTLP_ENDPOINT": self.options.collector, "OTEL_BSP_SCHEDULE_DELAY": "200"}
        return named if self.options.collector else {}

    def _bucket(self) -> Program:
        events = bucket_server.EventTopic(self.pubsub_address, _PROJECT, _COMMITS)
        return bucket_server.program(
            self.work_dir / "bucket", self.logs / "bucket-server.log", self._ports["bucket"], events
        )

    def _cluster(self) -> Program:
        state = self.work_dir / "cluster"
        shutil.rmtree(state / "pods", ignore_errors=True)  # of a cluster that was killed
        command = [sys.executable, "-m", "local_stack.cluster", "--port", str(self._ports["cluster"])]
        command += ["--state", str(state)]
        for name, interpreter in self.options.images.items():
            command += ["--image", f"{name}={interpreter}"]
        return Program(
            name="cluster",
            command=tuple(command),
            environment=base_environment(),
            log=self.logs / "cluster.log",
            ready_url=f"{self._url('cluster')}/readyz",
        )

    def _function(self) -> Program:
        suffix = self.options.environment.upper().replace("-", "_")
        environment = {
            **self.variables(),
            **self._traces(),
            f"CD_WEBHOOK_URL_{suffix}": f"{self.webhook_url}/webhooks/webhook/model-repository",
            "CD_WEBHOOK_AUTH": "bearer",
            "CD_WEBHOOK_TOKEN": self._token,
            "NOTIFY_TOPIC": topic_name(_PROJECT, _NOTIFY),
        }
        functions = self.options.checkout / "functions"
        if not (functions / "on_commit" / "main.py").is_file():
            raise ProgramFailed(
                f"{functions}/on_commit isn't there: run the local stack from a checkout of the project"
            )
        folder = function_host.deployed(functions, "on_commit", self.work_dir / "function")
        return function_host.program(folder, self._ports["function"], self.logs / "function.log", environment)

    def _webhook(self) -> Program:
        shipped = self.options.checkout / "manifests" / "environments" / "local.yaml"
        values = self.work_dir / "environments" / f"{self.options.environment}.yaml"
        values.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.options.pod_values or shipped, values)
        environment = {
            **base_environment(),
            **self.variables(),
            **self._traces(),
            "ENVIRONMENT": self.options.environment,
            "ENVIRONMENTS": str(values.parent),
            "CLUSTER": "local_stack.webhook_cluster:connect",
            "LOCAL_CLUSTER_URL": self._url("cluster"),
            "NOTIFY_TOPIC": topic_name(_PROJECT, _NOTIFY),
            "FRESHNESS_SECONDS": str(self.options.freshness_seconds),
            "WEBHOOK_AUTH": "bearer",
            "WEBHOOK_TOKEN": self._token,
            "HOST": "127.0.0.1",
            "PORT": str(self._ports["webhook"]),
        }
        return Program(
            name="cd-webhook",
            command=(sys.executable, "-m", "cd_webhook"),
            environment=environment,
            log=self.logs / "cd-webhook.log",
            ready_url=f"{self.webhook_url}/readyz",
        )
