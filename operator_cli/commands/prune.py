"""Deletes what nobody can want any more: builds that don't serve and haven't for long, and what is left of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any

from model_repository.bucket.store import ObjectInfo, Store
from model_repository.clock import Clock
from model_repository.documents.receipts.receipt import Outcome, Receipt
from model_repository.errors import AccessDenied, DocumentMalformed, GenerationConflict, NameRefused, ObjectMissing
from model_repository.names import IndexPrefix, ModelPrefix, Target, parse_generation
from model_repository.repository import (
    FILTERS,
    list_commits,
    read_build,
    read_last_good_filter,
    read_live,
    read_live_filter,
    read_shadow_comparison,
)
from operator_cli.live import RECEIPTS_READ, read_receipt_or_none, receipts
from operator_cli.live import UnreadableReceipt as Unreadable
from operator_cli.pruning import (
    YOUNG,
    Commits,
    Folder,
    Record,
    Verdict,
    judge_builds,
    judge_features,
    judge_models,
    judge_records,
    served_builds,
)
from operator_cli.reach import FEATURES, Begun, Unsaid, features_reached, runs_begun

_ROLLED_OUT = (Outcome.SERVED, Outcome.UNDONE)
_RECORDS = ("shards/", "catalogues/", "reports/", "diffs/")


@dataclass(frozen=True, slots=True)
class Pruned:
    """What goes, or would go, with the bytes of each: records, filters (lists of hidden items) and features by object.

    waiting: indexes of which nothing goes, and whose commits neither serve nor were undone. overtaken: builds that
    stay because somebody committed meanwhile. unsaid: why nothing goes of the features, or nothing more; empty: it did.
    denied: objects that the bucket doesn't let go, and why. applied: False: nothing was deleted.
    """

    bucket: str
    builds: dict[IndexPrefix, int]
    models: dict[ModelPrefix, int]
    records: dict[str, int]
    filters: dict[str, int]
    features: dict[str, int]
    waiting: dict[str, tuple[Target, ...]]
    overtaken: tuple[IndexPrefix, ...]
    unsaid: str
    denied: dict[str, str]
    applied: bool


class _Deletions:
    """Deletes, and goes on past what the bucket denies: an object on hold, or retained, keeps no other one."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.denied: dict[str, str] = {}

    def delete(self, name: str, *, if_generation_match: int | None = None) -> bool:
        """Whether it is gone. Raises as the store does else."""
        try:
            self._store.delete(name, if_generation_match=if_generation_match)
        except AccessDenied as error:
            self.denied[name] = str(error)
        return name not in self.denied

    def folder(self, folder: str, manifest: str) -> bool:
        """What names all else first; where that stays, all does. Whether that is gone."""
        gone = self.delete(manifest)
        for info in self._store.listing(folder) if gone else ():
            self.delete(info.name)
        return gone


def prune(store: Store, clock: Clock, *, keep: int, apply: bool, said: Callable[[str], None]) -> Pruned:
    """Judge, and with `apply` delete. keep: builds of each index and environment that served last. said: of progress.

    What names all else goes first, so that nobody finds half a build: index.json, model.json. Raises what the store
    raises; run again, it goes on.
    """
    now = clock.now()
    builds = _folders(store, "indexes/", IndexPrefix)
    seen = _generations(store)
    verdict = judge_builds(builds, _commits(store, keep), now=now)
    overtaken: list[IndexPrefix] = []
    deletions = _Deletions(store)
    still = set(verdict.builds)
    for prefix in verdict.builds if apply else ():
        if seen != (now_seen := _generations(store)):  # somebody committed while it was judged, or since
            seen, still = now_seen, set(judge_builds(builds, _commits(store, keep), now=now).builds)
            if seen != _generations(store):
                still.clear()  # they go on; the next run has more luck
        if prefix in still:
            said(str(prefix))
            deletions.folder(f"{prefix}/", prefix.manifest)
        else:
            overtaken.append(prefix)
    kept = {prefix for prefix in verdict.builds if prefix.manifest in deletions.denied}
    gone = set(verdict.builds) - set(overtaken) - kept
    staying = [prefix for prefix in builds if prefix not in gone]
    models = _folders(store, "models/", ModelPrefix)
    unused = judge_models(models, _used(store, staying), now=now)
    begun = runs_begun(store)
    records = dict((*_records(store, staying, verdict, now), *_comparisons(store, staying, verdict, now)))
    if apply:
        for model in unused:
            said(str(model))
            deletions.folder(f"{model}/", model.manifest)
        records = _delete_records(store, records, begun, deletions)
    features, unsaid = _features(store, records, now, deletions, apply=apply, said=said)
    return Pruned(
        store.bucket,
        {prefix: builds[prefix].size for prefix in sorted(gone)},
        {model: models[model].size for model in unused if model.manifest not in deletions.denied},
        records,
        _filters(store, now, deletions, apply=apply, said=said),
        features,
        dict(verdict.waiting),
        tuple(overtaken),
        unsaid,
        deletions.denied,
        apply,
    )


def _generations(store: Store) -> set[tuple[str, int]]:
    """Of all commits: these are others as soon as somebody commits anything."""
    return {(found.name, found.generation) for found in list_commits(store)}


def _commits(store: Store, keep: int) -> list[Commits]:
    """Of every target that has a commit or a receipt."""
    targets = {found.target for found in list_commits(store) if found.target}
    for environment in store.folders("deployments/"):
        for folder in store.folders(environment):
            with suppress(NameRefused):
                targets.add(Target(environment.split("/")[1], folder.split("/")[2]))
    return [_of_target(store, target, keep) for target in sorted(targets)]


def _of_target(store: Store, target: Target, keep: int) -> Commits:
    live = read_live(store, target)
    receipt = read_receipt_or_none(store, target, live.generation)
    readable = (each for each in islice(receipts(store, target), RECEIPTS_READ) if not isinstance(each, Unreadable))
    return Commits(
        target,
        live.commit.index_prefix if live.commit else None,
        settled=live.generation == 0 or (isinstance(receipt, Receipt) and receipt.outcome in _ROLLED_OUT),
        served=served_builds(readable, keep),
    )


def _folders(store: Store, root: str, kind: Any) -> dict[Any, Folder]:  # noqa: ANN401 - a kind of prefix
    found: dict[Any, Folder] = {}
    for name in store.folders(root):
        objects: dict[str, list[ObjectInfo]] = defaultdict(list)
        for info in store.listing(name):
            objects[info.name[len(name) :].partition("/")[0]].append(info)
        for version, infos in objects.items():
            with suppress(NameRefused):  # nothing of ours
                prefix = kind(name.removeprefix(root).rstrip("/"), version)
                found[prefix] = Folder(max(info.updated for info in infos), sum(info.size for info in infos))
    return found


def _used(store: Store, builds: list[IndexPrefix]) -> Iterator[ModelPrefix]:
    for prefix in builds:
        with suppress(ObjectMissing, DocumentMalformed):  # it is being uploaded, or nobody can serve it
            for reference in read_build(store, prefix).manifest.references:
                yield reference.prefix


def _records(store: Store, staying: list[IndexPrefix], verdict: Verdict, now: datetime) -> Iterator[tuple[str, int]]:
    for kind in _RECORDS:
        for folder in store.folders(kind):
            index = folder.removeprefix(kind).rstrip("/")
            if index in verdict.waiting:
                continue
            records: dict[str, Record] = {}
            for info in store.listing(folder):
                build = info.name.removeprefix(folder).partition("/")[0]
                if kind != "shards/":
                    build = build.rpartition(".")[0]
                with suppress(NameRefused):
                    records[info.name] = Record(IndexPrefix(index, build), info.updated, info.size)
            yield from ((name, records[name].size) for name in judge_records(records, staying, now=now))


def _comparisons(
    store: Store, staying: list[IndexPrefix], verdict: Verdict, now: datetime
) -> Iterator[tuple[str, int]]:
    """Those of shadows whose build goes: whom it is of is what a comparison says, and one that says nothing stays."""
    for environment in store.folders("comparisons/"):
        for folder in store.folders(environment):
            for info in store.listing(folder):
                with suppress(NameRefused, ObjectMissing, DocumentMalformed):
                    target = Target(*folder.split("/")[1:3])
                    generation = parse_generation(info.name.removeprefix(folder).removesuffix(".json"))
                    build = read_shadow_comparison(store, target, generation).shadow
                    if build.index not in verdict.waiting and build not in staying and now - info.updated >= YOUNG:
                        yield info.name, info.size


def _filters(
    store: Store, now: datetime, deletions: _Deletions, *, apply: bool, said: Callable[[str], None]
) -> dict[str, int]:
    """Lists of hidden items that go, with their bytes: what filters named once.

    What is live or was in force last names the others; of an index where either can't be read nothing goes. Who hides
    the same again writes it again, so that it is young, and has another generation.
    """
    gone: dict[str, int] = {}
    for folder in (folder for environment in store.folders(FILTERS) for folder in store.folders(environment)):
        lists = (info for info in store.listing(folder) if info.name.endswith(".hidden"))
        found = [info for info in lists if now - info.updated >= YOUNG]
        with suppress(NameRefused, DocumentMalformed):
            named = _named(store, folder) if found else set()
            for info in found:
                if info.name in (_named(store, folder) if apply else named):
                    continue
                with suppress(GenerationConflict):
                    if apply:
                        said(info.name)
                    if not apply or deletions.delete(info.name, if_generation_match=info.generation):
                        gone[info.name] = info.size
    return gone


def _named(store: Store, folder: str) -> set[str]:
    """The lists that the filters of an index name."""
    target, names = Target(*folder.split("/")[1:3]), set()
    for read in (read_live_filter, read_last_good_filter):
        with suppress(ObjectMissing):
            names.add(read(store, target).data)
    return names


def _features(
    store: Store,
    records: Mapping[str, int],
    now: datetime,
    deletions: _Deletions,
    *,
    apply: bool,
    said: Callable[[str], None],
) -> tuple[dict[str, int], str]:
    """What goes of the features, with its bytes; and why nothing does, or nothing more. records: that go."""
    begun = runs_begun(store)
    parts = {info.name: Folder(info.updated, info.size) for info in store.listing(FEATURES)}
    if not parts:
        return {}, ""
    try:
        goes = judge_features(parts, features_reached(store, records, now), now=now)
    except Unsaid as error:
        return {}, str(error)
    gone: dict[str, int] = {}
    for name in goes:
        if apply:
            if new := runs_begun(store) - begun:  # it may just now find what is about to go
                return gone, f"{min(plan.name for plan in new)} began meanwhile"
            said(name)
        if not apply or deletions.delete(name):
            gone[name] = parts[name].size
    return gone, ""


def _delete_records(
    store: Store, records: Mapping[str, int], begun: Container[Begun], deletions: _Deletions
) -> dict[str, int]:
    """Delete these, but for those of runs that have begun anew meanwhile. begun: before it was judged what goes."""
    anew = {plan.name.rpartition("/")[0] for plan in runs_begun(store) if plan not in begun}
    going = {name: size for name, size in records.items() if name.rpartition("/")[0] not in anew}
    return {name: size for name, size in going.items() if deletions.delete(name)}
