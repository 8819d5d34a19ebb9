"""What somebody changed by hand: how a live spec differs from what the cluster made of the last apply."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_KEYS = ("name", "mountPath", "containerPort", "topologyKey", "key")
"""What tells the entries of a list apart, as Kubernetes' own merge keys do."""


def changes(accepted: dict[str, Any], live: dict[str, Any]) -> list[str]:
    """One line for each field that differs from what the cluster made of the last apply, additions included."""
    return list(_changes(accepted, live, ""))


def _changes(before: object, after: object, path: str) -> Iterator[str]:
    if before == after:
        return
    if isinstance(before, dict) and isinstance(after, dict):
        for key in [*before, *(key for key in after if key not in before)]:
            yield from _changes(before.get(key), after.get(key), f"{path}.{key}" if path else str(key))
        return
    if isinstance(before, list) and isinstance(after, list) and (key := _merge_key([*before, *after])):
        was, now = ({entry[key]: entry for entry in entries} for entries in (before, after))
        for name in [*was, *(name for name in now if name not in was)]:
            yield from _changes(was.get(name), now.get(name), f"{path}[{name}]")
        return
    if before is None:
        yield f"{path}: added: {_show(after)}"
    elif after is None:
        yield f"{path}: was applied, is gone"
    else:
        yield f"{path}: {_show(before)} was applied, {_show(after)} is there"


def _merge_key(entries: list[Any]) -> str | None:
    for key in _KEYS:
        if entries and all(isinstance(entry, dict) and key in entry for entry in entries):
            return key
    return None


def _show(value: object) -> str:
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."  # noqa: PLR2004 - one line
