"""Wires the webhook up, and serves."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from cd_webhook.app import Dependencies, create_app
from cd_webhook.auth import make_check
from cd_webhook.canary import Canaries
from cd_webhook.cluster import Cluster, ClusterRefused, load_connect
from cd_webhook.config import Config
from cd_webhook.deliver import Delivery
from cd_webhook.filters import Filters
from cd_webhook.metrics import Metrics
from cd_webhook.receipts import Receipts
from cd_webhook.server import serve
from cd_webhook.watcher import Watcher
from manifests.render import Rendered, render
from manifests.values import Values, load_values
from model_repository.clock import SystemClock
from model_repository.deployment import DeploymentRequest
from model_repository.errors import DeliveryError
from model_repository.exit_codes import ExitCode
from model_repository.gcs_store import GcsStore
from model_repository.log import Log
from model_repository.notify import NoNotifier, PubSubNotifier

T = TypeVar("T")

LEAST_KUBERNETES = (1, 30)
"""From there on a pod may sleep before it is stopped (`preStop.sleep`) without a feature gate."""
_PATIENCE_SECONDS = 20.0
"""For the bucket: the sender retries what takes longer."""


def main(arguments: Sequence[str] | None = None, environment: Mapping[str, str] | None = None) -> int:
    """Serve, or with --check say what is misconfigured.

    Returns the exit status: 0, 64 when misconfigured, 75 when the port is taken.
    """
    parser = argparse.ArgumentParser(prog="python -m cd_webhook", description="The CD webhook of one environment.")
    parser.add_argument("--check", action="store_true", help="say what is misconfigured, and end")
    options = parser.parse_args(arguments)
    variables = os.environ if environment is None else environment
    log = Log()
    try:
        if options.check:
            return _check(variables, log)
        config = Config.from_environment(variables)
        app = create_app(assemble(config, variables, log))
    except DeliveryError as error:
        log.error(str(error), code=error.code)
        return ExitCode.USAGE
    log.info(f"deploying {config.environment} from gs://{config.bucket}", host=config.host, port=config.port)
    # uvicorn drains on SIGTERM and then raises it again; that must not turn an orderly end into a failure
    signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        serve(app, config.host, config.port)
    except OSError as error:
        log.error(f"{config.host}:{config.port}: {error}", code="can-not-listen")
        return ExitCode.TRY_AGAIN
    return ExitCode.OK


def assemble(config: Config, variables: Mapping[str, str], log: Log) -> Dependencies:
    """Everything that the door opens to. variables: what cluster and values may read besides."""
    values = _values(config, variables)
    cluster = _cluster(config, values, variables, log)
    store = GcsStore(config.bucket, patience=_PATIENCE_SECONDS)
    metrics = Metrics()

    def rendered(request: DeploymentRequest) -> Rendered:
        return render(request, values)

    clock = SystemClock()
    notifier = PubSubNotifier(config.notify_topic) if config.notify_topic else NoNotifier()
    delivery = Delivery(
        environment=config.environment,
        cluster=cluster,
        store=store,
        render=rendered,
        canaries=Canaries(values.canary, cluster, store, log),
        clock=clock,
        log=log,
        receipts=Receipts(
            environment=config.environment,
            cluster=cluster,
            store=store,
            clock=clock,
            log=log,
            on_receipt=metrics.ended,
            notifier=notifier,
        ),
    )
    filters = Filters(
        environment=config.environment,
        cluster=cluster,
        store=store,
        clock=clock,
        log=log,
        notifier=notifier,
        on_receipt=metrics.filtered,
    )
    return Dependencies(config.project, make_check(config), delivery, filters, Watcher(delivery), metrics)


def _values(config: Config, variables: Mapping[str, str]) -> Values:
    return load_values(config.environment, folder=config.environments, variables=variables)


def _cluster(config: Config, values: Values, variables: Mapping[str, str], log: Log) -> Cluster:
    return load_connect(config.cluster)(variables, values.namespace, log)


def _cluster_as_found(cluster: Cluster) -> str:
    return f"{len(cluster.deployments())} indexes deployed, {_version(cluster)}"


def _version(cluster: Cluster) -> str:
    """What the cluster is; raises `ClusterRefused` for one that is too old for what the manifests ask of it."""
    found = cluster.version()
    if found is None:
        return "no Kubernetes"
    said = f"Kubernetes {found[0]}.{found[1]}"
    if found < LEAST_KUBERNETES:
        least = f"{LEAST_KUBERNETES[0]}.{LEAST_KUBERNETES[1]}"
        raise ClusterRefused(f"{said}: the pods need {least} at least (preStop.sleep); upgrade the cluster")
    return said


def _check(variables: Mapping[str, str], log: Log) -> int:
    """Try everything once, and print one line for each; without values nobody knows the cluster's namespace."""
    config, problems = Config.read(variables)
    wrong = list(problems)
    for problem in problems:
        sys.stdout.write(f"WRONG  settings: {problem}\n")

    def tried(what: str, act: Callable[[], T], said: Callable[[T], str]) -> T | None:
        try:
            found = act()
        except DeliveryError as error:
            wrong.append(what)
            sys.stdout.write(f"WRONG  {what}: {error}\n")
            return None
        sys.stdout.write(f"ok     {what}: {said(found)}\n")
        return found

    values = None
    if config.environment:
        values = tried(
            "values", lambda: _values(config, variables), lambda it: f"namespace {it.namespace}, image {it.image}"
        )
    if config.bucket:
        commits = f"environments have commits in gs://{config.bucket}"
        tried(
            "bucket",
            lambda: GcsStore(config.bucket, patience=5.0).folders("commits/"),
            lambda found: f"{len(found)} {commits}",
        )
    if config.notify_topic:
        tried("topic", PubSubNotifier(config.notify_topic).check, lambda _: config.notify_topic)
    if values:
        tried("cluster", lambda: _cluster_as_found(_cluster(config, values, variables, log)), str)
    return ExitCode.USAGE if wrong else ExitCode.OK
