"""What the cluster understands of a manifest, as values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]
"""A Kubernetes object, or a part of one, as JSON has it."""


@dataclass(frozen=True, slots=True)
class Probe:
    """An HTTP probe. Times are in seconds; port is a number."""

    path: str
    port: int
    headers: Mapping[str, str]
    initial_delay: int
    period: int
    timeout: int
    failure_threshold: int
    success_threshold: int


@dataclass(frozen=True, slots=True)
class Variable:
    """An environment variable. field_path: of the pod (``status.podIP``), or empty: then `value` counts."""

    name: str
    value: str
    field_path: str


@dataclass(frozen=True, slots=True)
class Container:
    """One container. command: with its arguments. ports: by name. mounts: mount path to the volume's name."""

    name: str
    image: str
    command: tuple[str, ...]
    variables: tuple[Variable, ...]
    ports: Mapping[str, int]
    mounts: Mapping[str, str]
    startup: Probe | None
    readiness: Probe | None
    liveness: Probe | None
    pre_stop_seconds: int
    logs_are_last_words: bool
    """terminationMessagePolicy FallbackToLogsOnError."""


@dataclass(frozen=True, slots=True)
class PodTemplate:
    """What every pod of a ReplicaSet is made from. hash: of `raw`. grace: seconds from deletion to SIGKILL."""

    hash: str
    raw: Json
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    init_containers: tuple[Container, ...]
    containers: tuple[Container, ...]
    volumes: frozenset[str]
    grace: int


@dataclass(frozen=True, slots=True)
class Share:
    """A number of pods, or a percentage of the wanted ones."""

    amount: int
    percent: bool

    def of(self, replicas: int, *, up: bool) -> int:
        """The number of pods, a fraction rounded `up` (maxSurge) or down (maxUnavailable)."""
        if not self.percent:
            return self.amount
        exact = self.amount * replicas / 100
        return math.ceil(exact) if up else math.floor(exact)


@dataclass(frozen=True, slots=True)
class DeploymentSpec:
    """A Deployment as it was applied. replicas: None if the manifest leaves them to somebody else."""

    name: str
    namespace: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    resource_version: str | None = field(compare=False)  # a guard, not a wish
    replicas: int | None
    selector: Mapping[str, str]
    template: PodTemplate
    max_surge: Share
    max_unavailable: Share
    min_ready: int
    deadline: int
    raw_spec: Json


@dataclass(frozen=True, slots=True)
class ServicePort:
    """One port of a Service. target: a container port's name or number."""

    name: str
    port: int
    target: str | int


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """A Service as it was applied."""

    name: str
    namespace: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    resource_version: str | None = field(compare=False)  # a guard, not a wish
    selector: Mapping[str, str]
    ports: tuple[ServicePort, ...]
    raw_spec: Json
