"""Who owns which field of a Deployment, as server-side apply keeps it in metadata.managedFields.

An apply removes only what its manager alone owned and no longer wants. So what others added to the pod template by hand
(a volume, a variable) would stay for good, and what a plain create made would never be removable. Before an apply, the
webhook therefore takes those fields over; the apply then removes the ones that the template doesn't have. Not taken
over: spec.replicas, which an autoscaler may own, spec.paused, other people's labels and annotations, and everything
written through a subresource (status, scale).
"""

from __future__ import annotations

import copy
from typing import Any

from manifests.metadata import MANAGER

Fields = dict[str, Any]
_THEIRS = frozenset({"f:replicas", "f:paused"})
"""What an autoscaler, or whoever paused the Deployment, goes on owning."""


def taken_over(managed: list[Fields]) -> list[Fields] | None:
    """The managedFields with the pod template ours alone; None: they are so already.

    managed: metadata.managedFields as the API gives them.
    """
    entries = copy.deepcopy(managed)
    ours = next((entry for entry in entries if _is_ours(entry)), None)
    gained: Fields = {}
    for entry in entries:
        if entry is ours or entry.get("subresource"):
            continue
        fields: Fields = entry.get("fieldsV1") or {}
        if entry.get("manager") == MANAGER:  # a create or an annotation of our own
            _merge(gained, fields)
            entry["fieldsV1"] = {}
        else:
            _merge(gained, _without_spec(fields))
    if not gained:
        return None
    if ours is None:
        ours = {"manager": MANAGER, "operation": "Apply", "apiVersion": "apps/v1", "fieldsType": "FieldsV1"}
        ours["fieldsV1"] = {}
        entries.append(ours)
    _merge(ours["fieldsV1"], gained)
    return [entry for entry in entries if entry.get("fieldsV1")]


def _is_ours(entry: Fields) -> bool:
    return entry.get("manager") == MANAGER and entry.get("operation") == "Apply" and not entry.get("subresource")


def _without_spec(fields: Fields) -> Fields:
    """Take the spec but for `_THEIRS` out of `fields`, and return it."""
    spec: Fields = fields.get("f:spec") or {}
    taken = {key: spec.pop(key) for key in list(spec) if key.startswith("f:") and key not in _THEIRS}
    if not any(key.startswith("f:") for key in spec):
        fields.pop("f:spec", None)
    return {"f:spec": taken} if taken else {}


def _merge(into: Fields, more: Fields) -> None:
    for key, value in more.items():
        if isinstance(into.get(key), dict) and isinstance(value, dict):
            _merge(into[key], value)
        elif key not in into:
            into[key] = copy.deepcopy(value)
