"""The names that this project writes on Kubernetes objects, and nowhere else are they spelled out."""

from __future__ import annotations

PREFIX = "indexpush.dev/"

# On the Deployment and on its pod template: what is asked for, and what this pod serves.
COMMIT_GENERATION = f"{PREFIX}commit-generation"
INDEX_PREFIX = f"{PREFIX}index-prefix"
INDEX_DIGEST = f"{PREFIX}index-digest"
MODEL_DIGEST = f"{PREFIX}model-digest"

# On the Deployment alone: the state of its rollout, which is all the state that the CD side has.
REQUEST = f"{PREFIX}request"
"""JSON: the parameters of the newest request."""
MANIFEST = f"{PREFIX}manifest"
"""JSON: the Deployment's spec as it was last applied; what differs from it was changed by hand."""
LAST_GOOD = f"{PREFIX}last-good"
"""JSON: the parameters of the request that served last; empty: none ever did."""
LAST_GOOD_MANIFEST = f"{PREFIX}last-good-manifest"
"""JSON: the spec that `LAST_GOOD` was served with, so that an undo also takes back a bad image or bad values."""
ROLLOUT = f"{PREFIX}rollout"
"""canary, in-progress, served or undone."""
DETAIL = f"{PREFIX}detail"
"""One sentence for people: how the newest request ended."""
STARTED = f"{PREFIX}started"
"""RFC 3339: when the newest request was taken up."""
CANARY = f"{PREFIX}canary"
"""JSON: by what rules the canary of the newest request is judged; empty: there is none to judge."""
CANARY_SPEC = f"{PREFIX}canary-spec"
"""JSON: the spec that the canary tries out, and that its promotion makes the Deployment's own; else empty."""
CANARY_FIGURES = f"{PREFIX}canary-figures"
"""JSON: what the promoted canary of the newest request showed; else empty."""
PROMOTED = f"{PREFIX}promoted"
"""RFC 3339: when that canary was promoted; else empty."""
RECEIPTS_OWED = f"{PREFIX}receipts-owed"
"""JSON: receipts that are decided and perhaps not yet in the bucket; a restart writes them."""

MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGER = "indexpush"
"""The value of `MANAGED_BY`, and the field manager of every write."""
NAME = "app.kubernetes.io/name"
INSTANCE = "app.kubernetes.io/instance"
COMPONENT = "app.kubernetes.io/component"
PART_OF = "app.kubernetes.io/part-of"
SEARCH = "indexpush-search"
"""The value of `NAME` on everything that belongs to an index."""
TRACK = f"{PREFIX}track"
"""Tells an index's canary from what serves: `STABLE` or `CANARY_TRACK`."""
STABLE = "stable"
CANARY_TRACK = "canary"
_CANARY_SUFFIX = ".canary"
"""With a dot, which no index's name may have: so no index's Deployment is another one's canary."""


def selector(index: str) -> dict[str, str]:
    """The labels that find all pods of an index, a canary's too: the Service's."""
    return {NAME: SEARCH, INSTANCE: index}


def deployment_selector(deployment: str) -> dict[str, str]:
    """The labels that find the pods of one Deployment, by its name. They never change: the selector is immutable."""
    return {**selector(index_of(deployment)), TRACK: CANARY_TRACK if is_canary(deployment) else STABLE}


def canary_name(index: str) -> str:
    """The name of the Deployment of an index's canary."""
    return f"{index}{_CANARY_SUFFIX}"


def is_canary(deployment: str) -> bool:
    """Whether a Deployment of that name is a canary's."""
    return deployment.endswith(_CANARY_SUFFIX)


def index_of(deployment: str) -> str:
    """The index that a Deployment of that name serves."""
    return deployment.removesuffix(_CANARY_SUFFIX)


def labels(index: str) -> dict[str, str]:
    """The recommended labels of the objects of an index."""
    return {**selector(index), MANAGED_BY: MANAGER, COMPONENT: "search-server", PART_OF: "indexpush"}
