"""What somebody changed by hand: how a live spec differs from the one that was applied last."""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

_UNITS = {"m": Decimal("0.001"), "": Decimal(1), "k": Decimal(10**3), "M": Decimal(10**6), "G": Decimal(10**9)}
_UNITS |= {"Ki": Decimal(2**10), "Mi": Decimal(2**20), "Gi": Decimal(2**30), "Ti": Decimal(2**40)}
_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]+)?)(m|k|M|G|Ki|Mi|Gi|Ti)?", re.ASCII)
_KEYS = ("name", "mountPath", "containerPort", "topologyKey", "key")
"""What tells the entries of a list apart, as Kubernetes' own merge keys do."""
_CLOSED = frozenset({"containers", "initContainers", "volumes", "env", "volumeMounts"})
"""Lists to which Kubernetes itself adds nothing: an entry more is somebody's."""


def differences(applied: dict[str, Any], live: dict[str, Any]) -> list[str]:
    """One line for each field of `applied` that the live spec has otherwise, and each addition that matters.

    What Kubernetes fills in by itself doesn't count, nor a field that was never applied (replicas, if an autoscaler
    owns them), nor another way to write the same quantity.
    """
    return list(_compare(applied, live, ""))


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


def _compare(applied: object, live: object, path: str) -> Iterator[str]:
    if isinstance(applied, dict) and isinstance(live, dict):
        for key, value in applied.items():
            yield from _compare(value, live.get(key), f"{path}.{key}" if path else str(key))
    elif isinstance(applied, list) and isinstance(live, list):
        yield from _compare_lists(applied, live, path)
    elif not _same(applied, live):
        yield f"{path}: {_show(applied)} was applied, {_show(live)} is there"


def _compare_lists(applied: list[Any], live: list[Any], path: str) -> Iterator[str]:
    key = _merge_key(applied)
    if key is None:
        if applied != live:
            yield f"{path}: {_show(applied)} was applied, {_show(live)} is there"
        return
    found = {entry.get(key): entry for entry in live if isinstance(entry, dict)}
    for entry in applied:
        place = f"{path}[{entry[key]}]"
        if entry[key] in found:
            yield from _compare(entry, found[entry[key]], place)
        else:
            yield f"{place}: was applied, is gone"
    if path.rpartition(".")[2] in _CLOSED:
        wanted = {entry[key] for entry in applied}
        yield from (f"{path}[{name}]: added" for name in found if name not in wanted)


def _merge_key(entries: list[Any]) -> str | None:
    for key in _KEYS:
        if entries and all(isinstance(entry, dict) and key in entry for entry in entries):
            return key
    return None


def _same(applied: object, live: object) -> bool:
    if applied == live or (not applied and not live and live is not False):
        return True  # the API leaves out what is empty or zero
    if isinstance(applied, str) and isinstance(live, str):
        first, second = _quantity(applied), _quantity(live)
        return first is not None and first == second
    return False


def _quantity(text: str) -> Decimal | None:
    found = _QUANTITY.fullmatch(text)
    return Decimal(found[1]) * _UNITS[found[2] or ""] if found else None


def _show(value: object) -> str:
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."  # noqa: PLR2004 - one line
