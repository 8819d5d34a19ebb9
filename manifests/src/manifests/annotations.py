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
"""in-progress, served or undone."""
DETAIL = f"{PREFIX}detail"
"""One sentence for people: how the newest request ended."""
STARTED = f"{PREFIX}started"
"""RFC 3339: when the newest request was taken up."""
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


def selector(index: str) -> dict[str, str]:
    """The labels that find the pods of an index. They never change: a Deployment's selector is immutable."""
    return {NAME: SEARCH, INSTANCE: index}


def labels(index: str) -> dict[str, str]:
    """The recommended labels of the objects of an index."""
    return {**selector(index), MANAGED_BY: MANAGER, COMPONENT: "search-server", PART_OF: "indexpush"}
