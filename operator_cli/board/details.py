"""One index of one environment, whole: what was committed, by whom, what became of it, and the builds behind it."""

from __future__ import annotations

from typing import Any

from model_repository.bucket.store import Store
from model_repository.documents.receipts.receipt import Receipt
from model_repository.documents.receipts.shadow_comparison import describe_comparison
from model_repository.names import SHADOW, Target
from operator_cli.board.overview import Builds, for_scripts
from operator_cli.commands.diff import for_programs, read_diff
from operator_cli.commands.status import held_generation, history
from operator_cli.live import comparison_or_none
from operator_cli.output import programs

_RECEIPTS = 50
_EXAMPLES = 8
_CATEGORIES = 12


def details(store: Store, builds: Builds, target: Target) -> dict[str, Any]:
    """The newest receipts of a target, newest first, each with its build's figures; null for a build that is gone.

    Those of a shadow have how it answered beside its index, where somebody compared it.

    compared: the builds of which the batch wrote how they differ. Raises `CommitMissing` if nothing was ever committed
    there.
    """
    found = history(store, target, _RECEIPTS)
    value = programs.history(target, found, held_generation(store, target))
    for row, receipt in zip(value["receipts"], found, strict=True):
        figures = None
        if isinstance(receipt, Receipt):
            row["seconds"] = round(receipt.seconds, 1)
            figures = builds.figures(receipt.index_prefix) if receipt.index_prefix else None
        row["build"] = figures.value() if figures else None
        shadow = target.index.endswith(SHADOW)
        compared = comparison_or_none(store, target, receipt.generation) if shadow else None
        row["compared"] = describe_comparison(compared) if compared else None
    infos = sorted(store.listing(f"diffs/{target.index}/"), key=lambda info: info.updated, reverse=True)
    value["compared"] = [info.name.rpartition("/")[2].removesuffix(".json") for info in infos[:_RECEIPTS]]
    whole: dict[str, Any] = for_scripts(value)
    return whole


def diff(store: Store, index: str, build: str, against: str | None) -> dict[str, Any]:
    """How a build differs from what served when it was made: counts, the categories and items that changed most.

    against: another build to compare it with: then items are counted alone. Raises as `read_diff`.
    """
    found = read_diff(store, index, build, against)
    value = for_programs(found)
    changed = sorted(found.categories, key=lambda one: one.gone + one.new + one.moved, reverse=True)[:_CATEGORIES]
    names = {one.category for one in changed}
    return {
        **{name: value[name] for name in ("against", "items", "changed", "swapped", "golden", "pictures")},
        "counts": {name: found.total(name) for name in ("gone", "new", "moved")},
        "stops": [f"{stop.gate}: {stop.detail}" for stop in found.stops],
        "categories": [one for one in value["categories"] if one["category"] in names],
        "examples": value["examples"][:_EXAMPLES],
    }
