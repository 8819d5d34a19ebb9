"""A canary: a second, small Deployment of an index behind its Service, and by what rules it is judged."""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from manifests.metadata import CANARY_TRACK, TRACK, canary_name, deployment_selector
from model_repository.fields import Fields
from model_repository.records import Bound, Share, read


@dataclass(frozen=True, slots=True)
class Canary:
    """What an environment asks of a canary.

    replicas: its pods. seconds: how long they are compared with the stable ones, once all of them are ready.
    max_error_rate: by how much its share of failed requests may exceed that of the stable pods, 0 to 1.
    max_latency_ratio: how many times as long as a stable pod's an answer of it may take.
    latency_floor_ms: answers faster than this, in milliseconds, are fast enough whatever the ratio.
    """

    replicas: Annotated[int, Bound(1, 100)] = 1
    seconds: Annotated[int, Bound(1, 3600)] = 60
    max_error_rate: Share = 0.01
    max_latency_ratio: Annotated[float, Bound(1, 1000)] = 2.0
    latency_floor_ms: Annotated[float, Bound(0, 60_000)] = 20.0

    def to_json(self) -> dict[str, Any]:
        """What `parse_canary` reads."""
        return asdict(self)


def parse_canary(fields: Fields) -> Canary:
    """Read the `canary` of an environment's values; what is left out has its default. Raises `DocumentMalformed`."""
    return read(Canary, fields)


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
