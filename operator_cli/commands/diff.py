"""``diff``: how a build differs from the one that served when it was made, as the batch wrote it, or from another."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from model_repository.bucket.store import Store
from model_repository.comparing.items import category_diffs, compare_items
from model_repository.documents.build_diff import (
    DIFF_LIMIT,
    Alike,
    BuildDiff,
    CategoryDiff,
    diff_name,
    format_build_diff,
    parse_build_diff,
)
from model_repository.documents.index_manifest import IndexManifest
from model_repository.documents.items.item_ids import ItemLookup
from model_repository.errors import NameRefused, ObjectMissing
from model_repository.names import IndexPrefix, check_label
from operator_cli.builds import parse_build, whole_build
from operator_cli.errors import BuildMissing

_SHOWN = 30
_NOTHING = Alike(0, 1.0, 1.0)


def read_diff(store: Store, index: str, build: str | None, against: str | None) -> BuildDiff:
    """The diff of a build, or of the newest that has one.

    against: another build to compare with: then the items are counted here, and no neighbours are compared. Raises
    `NameRefused`, `BuildMissing`, `DocumentMalformed` and what the store does.
    """
    check_label("index", index)
    prefix = _newest(store, index) if build is None else parse_build(build, index, store.bucket)
    other = None if against is None else parse_build(against, index, store.bucket)
    try:
        found = parse_build_diff(store.read(diff_name(prefix), limit=DIFF_LIMIT).data, prefix)
    except ObjectMissing:
        found = None
    if found is not None and other in (None, found.against):
        return found
    if other is None:
        whole_build(store, prefix)
        raise BuildMissing(
            f"{diff_name(prefix)}: isn't there: nothing served when {prefix} was made, or it couldn't be read; name a "
            "build to compare it with by --against"
        )
    return _counted(whole_build(store, other), whole_build(store, prefix), store)


def _newest(store: Store, index: str) -> IndexPrefix:
    for info in sorted(store.listing(f"diffs/{index}/"), key=lambda info: info.updated, reverse=True):
        try:
            return IndexPrefix(index, info.name.rpartition("/")[2].removesuffix(".json"))
        except NameRefused:
            continue
    raise BuildMissing(f"diffs/{index}/: no build has been compared yet; name two, by BUILD and --against")


def _counted(before: IndexManifest, after: IndexManifest, store: Store) -> BuildDiff:
    shared = compare_items((before, _lookup(store, before)), (after, _lookup(store, after)), {})
    was, is_now = (tuple(sorted(f"{one.prefix} {one.digest}" for one in each.references)) for each in (before, after))
    categories = category_diffs(before, after, shared, {}, {})
    prefixes = (after.prefix, before.prefix)
    return BuildDiff(
        *prefixes, after.created, was, is_now, categories, _NOTHING, 0, 0, _NOTHING, (), {}, (), (), 0, 0, ()
    )


def _lookup(store: Store, manifest: IndexManifest) -> ItemLookup:
    size = next(file.size for file in manifest.files if file.name == manifest.lookup)
    name = f"{manifest.prefix}/{manifest.lookup}"
    return ItemLookup(store.read(name, limit=size).data, name)


def for_programs(diff: BuildDiff) -> dict[str, Any]:
    """The document as it stands in the bucket."""
    found: dict[str, Any] = json.loads(format_build_diff(diff))
    return found


def for_people(diff: BuildDiff) -> str:
    """As text: a line for each category that differs, those with most changes first."""
    counts = ", ".join(f"{diff.total(name)} {name}" for name in ("gone", "new", "moved"))
    lines = [
        f"build      {diff.prefix}",
        f"against    {diff.against}",
        f"items      {diff.before} before, {diff.after} after: {counts}",
    ]
    if diff.models_before != diff.models_after:
        lines.append(f"models     {_models(diff.models_before)} before, {_models(diff.models_after)} after")
    if diff.items.asked:
        lines.append(f"neighbours {_alike(diff.items)}; {diff.doubled} look exactly like another item now")
        lines.append(f"vectors    {diff.changed} of {diff.compared} differ, {diff.swapped} are as others' were")
    else:
        lines.append("neighbours not compared")
    if diff.golden.asked:
        lines.append(f"golden     {_alike(diff.golden)}")
    changed = sorted(diff.categories, key=_changes, reverse=True)
    heads = ("before", "after", "gone", "new", "moved", "overlap", "recall")
    lines += ["", _columns("category", heads)]
    lines += [_row(each) for each in changed[:_SHOWN]]
    if len(changed) > _SHOWN:
        lines.append(f"... and {len(changed) - _SHOWN} more; --output json has all")
    for stop in diff.stops:
        word = "expected" if stop.gate in diff.expected else "stopped by"
        lines += ["", f"{word} {stop.gate}: {stop.detail}"]
    return "\n".join(lines)


def _models(models: tuple[str, ...]) -> str:
    return ", ".join(model.split()[0] for model in models) or "own vectors"


def _alike(alike: Alike) -> str:
    return f"overlap@10 {alike.overlap:.3f}, RBO {alike.rank_biased_overlap:.3f}, of {alike.asked} asked"


def _changes(each: CategoryDiff) -> float:
    return each.gone + each.new + each.moved + (1 - each.alike.overlap) * each.after.items


def _row(each: CategoryDiff) -> str:
    overlap = f"{each.alike.overlap:.3f}" if each.alike.asked else "-"
    recall = "-" if each.after.recall is None else f"{each.after.recall:.3f}"
    counts = (each.before.items, each.after.items, each.gone, each.new, each.moved)
    return _columns(each.category, (*map(str, counts), overlap, recall))


def _columns(category: str, values: Sequence[str]) -> str:
    return " ".join((f"{category:<24}", *(f"{value:>9}" for value in values)))
