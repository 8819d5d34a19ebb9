"""Wiring."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import uvicorn

from cd_webhook.app import Parts, create_app
from cd_webhook.auth import make_check
from cd_webhook.cluster import Cluster
from cd_webhook.config import ClusterKind, Config
from cd_webhook.deliver import Delivery
from cd_webhook.local_cluster import LocalCluster
from cd_webhook.log import Log
from cd_webhook.metrics import Metrics
from cd_webhook.pod_client import HttpPodClient
from cd_webhook.watcher import Watcher
from manifests.render import Rendered, render
from manifests.values import Values, load_values
from model_repository.deployment import DeploymentRequest
from model_repository.errors import DeliveryError
from model_repository.gcs_store import GcsStore

_PATIENCE_SECONDS = 20.0
"""For the bucket: the sender retries what takes longer."""


class SystemClock:
    """Implements `deliver.Clock`."""

    def now(self) -> datetime:
        """The time in UTC."""
        return datetime.now(UTC)

    def sleep(self, seconds: float) -> None:
        """Let so many seconds pass."""
        time.sleep(seconds)


def connect(config: Config, values: Values, log: Log) -> Cluster:
    """The configured cluster."""
    if config.cluster is ClusterKind.LOCAL:
        return LocalCluster(config.local_cluster)
    # here, because importing the client takes longer than everything else together
    from cd_webhook.kubernetes_api import KubernetesApi  # noqa: PLC0415
    from cd_webhook.kubernetes_cluster import KubernetesCluster  # noqa: PLC0415

    return KubernetesCluster(KubernetesApi.connect(config.kubeconfig), values.namespace, log)


def assemble(config: Config, variables: Mapping[str, str], log: Log) -> Parts:
    """Everything that the door opens to. variables: what the values may pass on to the pods."""
    values = load_values(config.environment, folder=config.environments, variables=variables)
    cluster = connect(config, values, log)
    clock, metrics = SystemClock(), Metrics()

    def rendered(request: DeploymentRequest) -> Rendered:
        return render(request, values)

    delivery = Delivery(
        environment=config.environment,
        cluster=cluster,
        store=GcsStore(config.bucket, patience=_PATIENCE_SECONDS),
        render=rendered,
        clock=clock,
        log=log,
        pod_client=HttpPodClient(),
        on_receipt=metrics.ended,
    )
    return Parts(
        environment=config.environment,
        project=config.project,
        check=make_check(config),
        delivery=delivery,
        watcher=Watcher(delivery, cluster, log),
        cluster=cluster,
        clock=clock,
        metrics=metrics,
        log=log,
    )


def main(arguments: Sequence[str] | None = None, environment: Mapping[str, str] | None = None) -> int:
    """Serve, or with --check say what is misconfigured. Returns the exit status: 0, or 64 when misconfigured."""
    parser = argparse.ArgumentParser(prog="python -m cd_webhook", description="The CD webhook of one environment.")
    parser.add_argument("--check", action="store_true", help="say what is misconfigured, and end")
    options = parser.parse_args(arguments)
    variables = os.environ if environment is None else environment
    log = Log()
    try:
        config = Config.from_environment(variables)
        if options.check:
            return _check(config, variables, log)
        parts = assemble(config, variables, log)
    except DeliveryError as error:
        log.line("ERROR", str(error), code=error.code)
        return os.EX_USAGE
    log.line("INFO", f"deploying {config.environment} from gs://{config.bucket}", host=config.host, port=config.port)
    # uvicorn drains on SIGTERM and then raises it again; that must not turn an orderly end into a failure
    signal.signal(signal.SIGTERM, lambda *_: None)
    uvicorn.run(
        create_app(parts),
        host=config.host,
        port=config.port,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=25,
    )
    return 0


def _check(config: Config, variables: Mapping[str, str], log: Log) -> int:
    """Try everything once, and print one line for each."""
    status = 0

    def tried(what: str, act: object) -> None:
        nonlocal status
        try:
            found = act() if callable(act) else act
        except DeliveryError as error:
            status = os.EX_USAGE
            sys.stdout.write(f"WRONG  {what}: {error}\n")
        else:
            sys.stdout.write(f"ok     {what}: {found}\n")

    values: list[Values] = []

    def read_values() -> str:
        values.append(load_values(config.environment, folder=config.environments, variables=variables))
        return f"namespace {values[0].namespace}, image {values[0].image}"

    tried("values", read_values)
    store = GcsStore(config.bucket, patience=5.0)
    tried("bucket", lambda: f"{len(store.folders('commits/'))} environments have commits in gs://{config.bucket}")
    if values:
        tried("cluster", lambda: f"{len(connect(config, values[0], log).deployments())} indexes deployed")
    return status
