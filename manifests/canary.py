"""A canary: a second, small Deployment of an index behind its Service, and by what rules it is judged."""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass
from typing import Any

from manifests import annotations as marks
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


def parse_canary(document: Fields) -> Canary:
    """Read the `canary` of an environment's values; what is left out has its default. Raises `DocumentMalformed`."""
    default = Canary()

    def whole(field: str, otherwise: int, most: int) -> int:
        return document.whole(field, least=1, most=most) if document.has(field) else otherwise

    def number(field: str, otherwise: float, least: float, most: float) -> float:
        return document.number(field, least=least, most=most) if document.has(field) else otherwise

    canary = Canary(
        replicas=whole("replicas", default.replicas, 100),
        seconds=whole("seconds", default.seconds, 3600),
        max_error_rate=number("max_error_rate", default.max_error_rate, 0, 1),
        max_latency_ratio=number("max_latency_ratio", default.max_latency_ratio, 1, 1000),
        latency_floor_ms=number("latency_floor_ms", default.latency_floor_ms, 0, 60_000),
    )
    document.done()
    return canary


def canary_of(deployment: dict[str, Any], replicas: int) -> dict[str, Any]:
    """The canary of a rendered Deployment: the same but for its name, its track, and how many pods it has.

    Its pods differ from those that a promotion makes in one label alone, so what was tried out is what will serve.
    """
    value = copy.deepcopy(deployment)
    index = value["metadata"]["name"]
    value["metadata"]["name"] = marks.canary_name(index)
    value["metadata"]["labels"][marks.TRACK] = marks.CANARY_TRACK
    spec = value["spec"]
    spec["replicas"] = replicas
    spec["selector"] = {"matchLabels": marks.deployment_selector(value["metadata"]["name"])}
    spec["template"]["metadata"]["labels"][marks.TRACK] = marks.CANARY_TRACK
    return value
