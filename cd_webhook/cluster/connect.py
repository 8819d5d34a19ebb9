"""Finds the cluster that CLUSTER asks for, so that this package knows of none but Kubernetes."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import cast

from cd_webhook.cluster.interface import Cluster
from model_repository.errors import Misconfigured
from model_repository.telemetry.log import Log

Connect = Callable[[Mapping[str, str], str, Log], Cluster]
"""From the environment's variables, the namespace and a log to the cluster; raises `Misconfigured`."""

_KUBERNETES = "cd_webhook.cluster.kubernetes:connect"


def load_connect(cluster: str) -> Connect:
    """`kubernetes`, or ``<module>:<callable>`` of a `Connect`; raises `Misconfigured` where that can't be imported.

    A module is imported only where it is asked for: Kubernetes' client takes longer than everything else together
    (docs/rollout.md has the figures).
    """
    module, _, name = (_KUBERNETES if cluster == "kubernetes" else cluster).partition(":")
    try:
        return cast("Connect", getattr(importlib.import_module(module), name))
    except (ImportError, AttributeError, ValueError) as error:
        raise Misconfigured(
            f"CLUSTER is {cluster[:200]!r}: expected kubernetes, or <module>:<callable> that can be imported ({error})"
        ) from error
