"""A canary: a second, small Deployment of an index behind its Service, and by what rules it is judged."""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass
from typing import Any

from manifests.metadata import CANARY_TRACK, TRACK, canary_name, deployment_selector
from model_repository.fields import Fields


@dataclass(frozen=True, slots=True)
class Canary:
    """What an environment asks of a canary.

    replicas: its pods. seconds: how long they are compared with the stable ones, once all of them are ready.
    max_error_rate: by how much its share of failed requests may exceed that of the stable pods, 0 to 1.
    max_latency_ratio: how many times as long as a stable pod's an answer of it may take.
    latency_floor_ms: answers faster than this, in milliseconds, are fast enough whatever the ratio.
    """

    replicas: int = 1
    seconds: int = 60
    max_error_rate: float = 0.01
    max_latency_ratio: float = 2.0
    latency_floor_ms: float = 20.0

    def to_json(self) -> dict[str, Any]:
        """What `parse_canary` reads."""
        return asdict(self)


def parse_canary(fields: Fields) -> Canary:
    """Read the `canary` of an environment's values; what is left out has its default. Raises `DocumentMalformed`."""
    usual = Canary()
    canary = Canary(
        replicas=fields.whole("replicas", least=1, most=100, default=usual.replicas),
        seconds=fields.whole("seconds", least=1, most=3600, default=usual.seconds),
        max_error_rate=fields.number("max_error_rate", least=0, most=1, default=usual.max_error_rate),
        max_latency_ratio=fields.number("max_latency_ratio", least=1, most=1000, default=usual.max_latency_ratio),
        latency_floor_ms=fields.number("latency_floor_ms", least=0, most=60_000, default=usual.latency_floor_ms),
    )
    fields.done()
    return canary


def canary_of(deployment: dict[str, Any], replicas: int) -> dict[str, Any]:
    """The canary of a rendered Deployment: the same but for its name, its track, and how many pods it has.

    Its pods differ from those that a promotion makes in one label alone, so what was tried out is what will serve.
    """
    value = copy.deepcopy(deployment)
    index = value["metadata"]["name"]
    value["metadata"]["name"] = canary_name(index)
    value["metadata"]["labels"][TRACK] = CANARY_TRACK
    spec = value["spec"]
    spec["replicas"] = replicas
    spec["selector"] = {"matchLabels": deployment_selector(value["metadata"]["name"])}
    spec["template"]["metadata"]["labels"][TRACK] = CANARY_TRACK
    return value
