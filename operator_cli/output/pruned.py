"""What went, or would go, as text and as JSON."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, Final

from model_repository.names import Target
from operator_cli.commands.prune import Pruned
from operator_cli.pruning import key_of
from operator_cli.reach import FEATURES

_SHOWN: Final = 5
"""So many objects that stay are named: where the right is missing, it is all of them."""
_NO_HOLDS: Final = "--no-temporary-hold --no-event-based-hold"
_KINDS: Final = {
    "builds": "build",
    "models": "model",
    "features": "part of the features",
    "records": "record",
    "filters": "list of hidden items",
}
"""By the field of `Pruned`: what one of it is."""


def for_programs(found: Pruned) -> dict[str, Any]:
    """As JSON."""
    sizes = _bytes(found)
    return {
        "applied": found.applied,
        "builds": {str(prefix): size for prefix, size in found.builds.items()},
        "models": {str(prefix): size for prefix, size in found.models.items()},
        "records": len(found.records),
        "filters": len(found.filters),
        "features": _of_keys(found.features),
        "bytes": sum(sizes.values()),
        "bytes_of": sizes,
        "waiting": {index: targets[0].commit_name for index, targets in found.waiting.items()},
        "waiting_for": {index: [each.commit_name for each in targets] for index, targets in found.waiting.items()},
        "overtaken": [str(prefix) for prefix in found.overtaken],
        "features_wait": found.unsaid,
        "denied": found.denied,
    }


def for_people(found: Pruned) -> str:
    """As text."""
    gone = [(str(prefix), size, "") for prefix, size in (*found.builds.items(), *found.models.items())]
    gone += [(key, its["bytes"], f", {_count(its['parts'], 'part')}") for key, its in _of_keys(found.features).items()]
    widest = max((len(name) for name, _, _ in gone), default=0)
    lines = [f"{name:<{widest}}  {f'{size / 1e6:,.1f}':>9} MB{parts}" for name, size, parts in gone]
    return "\n".join([*lines, *_beside(found)])


def _beside(found: Pruned) -> Iterator[str]:
    """What stays although it is old, how much goes, and how to have it go."""
    for index, targets in found.waiting.items():
        yield from (f"{index}: nothing goes, because {_blocks(found.bucket, each)}" for each in targets)
    for prefix in found.overtaken:
        yield f"{prefix}: stays, because somebody committed it meanwhile"
    if found.unsaid:
        yield f"{FEATURES}: nothing{' more' if found.features else ''} goes, because {found.unsaid}"
    for name, why in islice(found.denied.items(), _SHOWN):
        yield f"{why}, or end its hold: gcloud storage objects update gs://{found.bucket}/{name} {_NO_HOLDS}"
    if (more := len(found.denied) - _SHOWN) > 0:
        yield f"{more} more stay as well; --output json names all"
    if not any(getattr(found, kind) for kind in _KINDS):
        yield "nothing goes"
        return
    counted = (
        f"{_count(len(getattr(found, kind)), _KINDS[kind])} ({size / 1e6:.1f} MB)"
        for kind, size in _bytes(found).items()
    )
    yield f"{'deleted' if found.applied else 'would delete'} {', '.join(counted)}"
    if not found.applied:
        yield "nothing was deleted; say --apply"


def _blocks(bucket: str, target: Target) -> str:
    """Why a commit keeps builds, and what to do about one that will do so for ever."""
    look = f"indexpush status {target.index} --environment {target.environment}"
    slip = f"gcloud storage rm gs://{bucket}/{target.commit_name}"
    return (
        f"{target.commit_name} neither serves nor was undone, and what rolls out isn't known: {look} says why; "
        f"if nothing is to serve there: {slip}"
    )


def _bytes(found: Pruned) -> dict[str, int]:
    return {kind: sum(getattr(found, kind).values()) for kind in _KINDS}


def _of_keys(features: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """By what made them: a key may have hundreds of parts."""
    found: dict[str, dict[str, int]] = defaultdict(lambda: {"parts": 0, "bytes": 0})
    for name, size in features.items():
        found[key_of(name)]["parts"] += 1
        found[key_of(name)]["bytes"] += size
    return dict(found)


def _count(number: int, what: str) -> str:
    """With the plural of the first word, as `part of the features` has it."""
    noun, space, rest = what.partition(" ")
    return f"{number} {noun}{'' if number == 1 else 's'}{space}{rest}"
