"""Wires the webhook up, and serves."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Mapping, Sequence

from cd_webhook.canary import Canaries
from cd_webhook.check import check, rendering_values
from cd_webhook.cluster import Cluster, Object, load_connect
from cd_webhook.config import Config
from cd_webhook.delivery.deliver import Delivery
from cd_webhook.delivery.receipts import Receipts, committed_at
from cd_webhook.delivery.watcher import Watcher
from cd_webhook.filters import Filters
from cd_webhook.http.app import Dependencies, create_app
from cd_webhook.http.auth import make_checks
from cd_webhook.http.server import serve
from cd_webhook.telemetry.index_figures import BuildTimes, Holds, figures
from cd_webhook.telemetry.metrics import Metrics
from manifests.render import Rendered, render
from manifests.values import Values
from model_repository.bucket.gcs_store import GcsStore
from model_repository.clock import SystemClock
from model_repository.deployment import DeploymentRequest
from model_repository.documents.receipts.receipt import Outcome, Receipt
from model_repository.errors import DeliveryError
from model_repository.exit_codes import ExitCode
from model_repository.notify import NoNotifier, PubSubNotifier
from model_repository.telemetry.log import Log
from model_repository.telemetry.spans import close_spans, record_spans

_PATIENCE_SECONDS = 20.0
"""For the bucket: the sender retries what takes longer."""
_LEAVE_SECONDS = 2.0
"""For spans that aren't exported yet, once it was told to stop and has answered."""


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
            return _say_what_is_wrong(variables, log)
        config = Config.from_environment(variables)
        app = create_app(assemble(config, variables, log))
    except DeliveryError as error:
        log.error(str(error), code=error.code)
        return ExitCode.USAGE
    record_spans(variables, "indexpush-webhook", log)
    log.info(f"deploying {config.environment} from gs://{config.bucket}", host=config.host, port=config.port)
    # uvicorn drains on SIGTERM and then raises it again; that must not turn an orderly end into a failure
    signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        serve(app, config.host, config.port)
    except OSError as error:
        log.error(f"{config.host}:{config.port}: {error}", code="can-not-listen")
        return ExitCode.TRY_AGAIN
    finally:
        close_spans(_LEAVE_SECONDS)
    return ExitCode.OK


def assemble(config: Config, variables: Mapping[str, str], log: Log) -> Dependencies:
    """Everything that the door opens to. variables: what cluster and values may read besides."""
    values = rendering_values(config, variables)
    cluster = _cluster(config, values, variables, log)
    store = GcsStore(config.bucket, patience=_PATIENCE_SECONDS)
    clock = SystemClock()
    metrics = Metrics(config.environment, clock, config.freshness)
    times, holds = BuildTimes(store, log), Holds(config.environment, store, log)

    def rendered(request: DeploymentRequest) -> Rendered:
        return render(request, values)

    def ended(receipt: Receipt) -> None:
        metrics.ended(receipt)
        if receipt.outcome is Outcome.SERVED and (committed := committed_at(store, receipt)):
            metrics.ready(committed, receipt.finished)

    def saw(deployments: Sequence[Object]) -> None:
        indexes = list(figures(deployments))
        metrics.saw(indexes, times.of({it.build for it in indexes if it.build}), holds.of(indexes))

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
            on_receipt=ended,
            notifier=notifier,
            url=values.url or "",
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
    return Dependencies(
        config.project,
        make_checks(config),
        delivery,
        filters,
        Watcher(delivery, on_sweep=saw),
        metrics,
        lambda: list(check(variables, log)),
        config.revision,
        f"{values.namespace}/{values.service_account}",
    )


def _cluster(config: Config, values: Values, variables: Mapping[str, str], log: Log) -> Cluster:
    return load_connect(config.cluster)(variables, values.namespace, log)


def _say_what_is_wrong(variables: Mapping[str, str], log: Log) -> int:
    wrong = False
    for each in check(variables, log):
        sys.stdout.write(f"{'ok    ' if each.ok else 'WRONG '} {each.what}: {each.text}\n")
        wrong |= not each.ok
    return ExitCode.USAGE if wrong else ExitCode.OK
