"""What a plan makes, read from its JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_ON = ("bucket", "topic", "subscription", "repository", "name", "cloud_run_service_name", "secret_id", "project")
"""Which attribute names what is granted, the narrowest first."""


@dataclass(frozen=True, slots=True, order=True)
class Grant:
    """A member's role on one thing. condition: empty: none."""

    member: str
    role: str
    on: str
    condition: str = ""


def resources(plan: dict[str, Any], kind: str) -> dict[str, dict[str, Any]]:
    """The resources of one kind that are made, by address; what isn't known yet is left out, or None."""
    return {
        change["address"].removeprefix("module.indexpush."): change["change"]["after"]
        for change in plan["resource_changes"]
        if change["type"] == kind and change["mode"] == "managed"
    }


def grants(plan: dict[str, Any]) -> Iterator[Grant]:
    """Every grant. Raises ValueError for a kind of resource that grants and isn't a single member's."""
    for change in plan["resource_changes"]:
        kind, after = change["type"], change["change"]["after"]
        if "_iam_" not in kind or kind == "google_project_iam_custom_role":
            continue
        if not kind.endswith("_iam_member"):
            raise ValueError(f"{change['address']} replaces or audits grants; only single members' are read here")
        thing = kind.removeprefix("google_").removesuffix("_iam_member")
        name = next(after[attribute] for attribute in _ON if after.get(attribute))
        condition = "".join(each["expression"] for each in after.get("condition") or ())
        yield Grant(after["member"], after["role"], f"{thing} {name}", condition)
