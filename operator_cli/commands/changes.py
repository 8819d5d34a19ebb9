"""The changes that a person makes; each is one upload of one small object, guarded by what was read before."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from model_repository.bucket.store import Store
from model_repository.documents.commit import REASON_LIMIT, Commit, format_commit, parse_commit
from model_repository.documents.index_manifest import IndexManifest
from model_repository.documents.receipts.receipt import Outcome, Receipt
from model_repository.errors import DocumentMalformed, GenerationConflict, NameRefused, PermanentError
from model_repository.mistyped import new_environment
from model_repository.names import IndexPrefix, Target
from model_repository.repository import Live, read_build, read_live, write_commit
from operator_cli.builds import other_builds, parse_build, whole_build
from operator_cli.commands.rollback import pick_rollback
from operator_cli.errors import CommitOnHold, NothingServed
from operator_cli.live import (
    commit_missing,
    read_receipt_or_none,
    receipts,
    recent_receipts,
    served,
    shadow_missing,
)

_ENDS = "ends the hold of "
"""How the commit that releases a hold says whose."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a person said, beside the build.

    reason: empty: the command finds one. hold: the new commit is on hold; None: as the command does by itself.
    release: a commit on hold may be replaced. dry_run: check and explain everything, write nothing.
    seen: the generation of the live commit that the person saw, 0 for none; None: whichever is there.
    """

    by: str
    reason: str = ""
    hold: bool | None = None
    release: bool = False
    dry_run: bool = False
    seen: int | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """What was done.

    generation: of the new commit; 0 after a dry run. replaced: what stood there before.
    written: False after a dry run, or when the commit already stood there.
    notes: for the person, a sentence each. manifest: of the committed build.
    """

    action: str
    target: Target
    generation: int
    commit: Commit
    replaced: Live
    manifest: IndexManifest
    written: bool
    notes: tuple[str, ...] = ()


def commit(store: Store, target: Target, build: str, options: Options) -> Change:
    """Commit a build that a person names."""
    live = read_live(store, target)
    _respect_hold(live, options)
    manifest = whole_build(store, parse_build(build, target.index, store.bucket))
    wanted = Commit(manifest.prefix, options.by, options.reason, hold=bool(options.hold))
    return _write(store, live, wanted, options, action="commit", manifest=manifest)


def shadow(store: Store, target: Target, build: str, options: Options) -> Change:
    """Have a build serve beside `target`, to nobody but who asks its shadow by name."""
    live = read_live(store, target.shadow)
    _respect_hold(live, options)
    manifest = whole_build(store, parse_build(build, target.index, store.bucket))
    wanted = Commit(manifest.prefix, options.by, options.reason, hold=bool(options.hold))
    return _write(store, live, wanted, options, action="shadow", manifest=manifest)


def end_shadow(store: Store, target: Target, *, release: bool, dry_run: bool) -> Live:
    """Delete the commit of the shadow of `target`, whose pods the next sweep ends; returns what stood there.

    release: even if it is on hold. dry_run: only look. Raises `CommitMissing` if there is none, `CommitOnHold`, and
    `GenerationConflict` if somebody committed another one meanwhile, which stays.
    """
    live = read_live(store, target.shadow)
    if live.generation == 0:
        raise shadow_missing(target)
    _respect_hold(live, Options(by="", release=release))
    if not dry_run:
        try:
            store.delete(live.target.commit_name, if_generation_match=live.generation)
        except GenerationConflict:
            raise _overtaken(live.target, live.generation, read_live(store, live.target)) from None
    return live


def redeploy(store: Store, target: Target, options: Options) -> Change:
    """Upload the live commit again: a new generation, so a new rollout of the same build.

    A hold stays unless the options say otherwise; so does the reason.
    """
    live = read_live(store, target)
    if live.malformed:
        raise DocumentMalformed(
            target.commit_name,
            f"can't be uploaded again: {live.malformed}; commit a build instead: "
            f"indexpush commit {target.index} <build> --environment {target.environment}",
        )
    if live.commit is None:
        raise commit_missing(store, target)
    manifest = whole_build(store, live.commit.index_prefix)
    hold = options.hold if options.hold is not None else live.commit.hold and not options.release
    # why it was on hold is no reason any more once it isn't, nor is it one that an earlier hold has ended
    kept = live.commit.reason.partition(_ENDS)[0].removesuffix("; ")
    reason = options.reason or ("" if live.commit.hold and not hold else kept)
    wanted = replace(live.commit, by=options.by, reason=reason, hold=hold)
    return _write(store, live, wanted, options, action="redeploy", manifest=manifest)


def rollback(store: Store, target: Target, build: str | None, options: Options) -> Change:
    """Commit an older build: the one that is named, or the one that served last before the live one."""
    live = read_live(store, target)
    _respect_hold(live, options)
    if build is not None:
        manifest = whole_build(store, parse_build(build, target.index, store.bucket))
        notes: tuple[str, ...] = ()
    elif live.generation == 0 and next(receipts(store, target), None) is None:
        raise commit_missing(store, target)
    else:
        receipt = read_receipt_or_none(store, target, live.generation)
        pick = pick_rollback(
            live,
            receipt.outcome if isinstance(receipt, Receipt) else None,
            recent_receipts(store, target),
            live_created=_created(store, live),
            check=lambda prefix: whole_build(store, prefix),
            others=lambda: other_builds(store, target.index, live.commit.index_prefix if live.commit else None),
        )
        manifest = pick.manifest
        notes = (*(f"passed over: {what}" for what in pick.passed_over), f"picked {manifest.prefix}: {pick.why}")
    left = f"rollback from {live.commit.index_prefix}" if live.commit else "rollback"
    wanted = Commit(manifest.prefix, options.by, options.reason or left, hold=bool(options.hold))
    if not options.hold:
        notes += ("not on hold: the next batch replaces it; roll back with --hold to make it stick",)
    return _write(store, live, wanted, options, action="rollback", manifest=manifest, notes=notes)


def promote(store: Store, source: Target, target: Target, options: Options) -> Change:
    """Commit to `target` what `source` serves, which is not always what `source` has committed."""
    serving = served(store, source)
    if serving is None or serving.index_prefix is None:
        if store.stat(source.commit_name) is None:
            raise commit_missing(store, source)
        raise NothingServed(
            f"{source.receipts_prefix}: no receipt says that {source.environment!r} serves {source.index!r}; "
            f"indexpush status {source.index} says where it serves; a build that doesn't yet is put into "
            f"{target.environment} by indexpush commit {target.index} <build> --environment {target.environment}"
        )
    live = read_live(store, target)
    _respect_hold(live, options)
    manifest = whole_build(store, serving.index_prefix)
    notes = _behind(store, source, serving.index_prefix)
    reason = options.reason or f"promoted from {source.environment}, generation {serving.generation}"
    wanted = Commit(serving.index_prefix, options.by, reason, hold=bool(options.hold))
    if live.commit and (live.commit.index_prefix, live.commit.hold) == (wanted.index_prefix, wanted.hold):
        receipt = read_receipt_or_none(store, target, live.generation)
        if not isinstance(receipt, Receipt) or receipt.outcome is Outcome.SERVED:
            notes += (f"{target.environment} has it already; indexpush redeploy would roll it out again",)
            return Change("promote", target, live.generation, live.commit, live, manifest, written=False, notes=notes)
    return _write(store, live, wanted, options, action="promote", manifest=manifest, notes=notes)


def _behind(store: Store, source: Target, prefix: IndexPrefix) -> tuple[str, ...]:
    committed = read_live(store, source).commit
    if committed is None or committed.index_prefix == prefix:
        return ()
    return (
        f"{source.environment} has committed {committed.index_prefix}, but serves {prefix}: that is what is promoted",
    )


def _created(store: Store, live: Live) -> datetime | None:
    if live.commit is None:
        return None
    try:
        return read_build(store, live.commit.index_prefix).manifest.created
    except PermanentError:  # a live commit may name what isn't there: then age can't help to pick
        return None


def _respect_hold(live: Live, options: Options) -> None:
    if live.commit is None or not live.commit.hold or options.release:
        return
    said = ": ".join(part for part in (live.commit.by, live.commit.reason) if part) or "nobody says why"
    raise CommitOnHold(
        f"{live.target.commit_name}: {live.commit.index_prefix} is on hold ({said}); "
        "ask them, then replace it with --release (and --hold, if the new one shall stick too)"
    )


def _with_ended_hold(wanted: Commit, live: Live) -> Commit:
    """What replaces a commit on hold says so, for its receipt: nothing else remembers who held, and why."""
    if live.commit is None or not live.commit.hold:
        return wanted
    why = f": {live.commit.reason}" if live.commit.reason else ""
    ended = f"{_ENDS}{live.commit.by or 'somebody'} (generation {live.generation}){why}"
    # the person's own words, if they are too many, are refused; these are cut off
    reason = f"{wanted.reason}; {ended}" if wanted.reason else ended
    return replace(wanted, reason=reason[: max(REASON_LIMIT, len(wanted.reason))])


def _write(
    store: Store,
    live: Live,
    wanted: Commit,
    options: Options,
    *,
    action: str,
    manifest: IndexManifest,
    notes: tuple[str, ...] = (),
) -> Change:
    if options.seen is not None and options.seen != live.generation:
        raise _overtaken(live.target, options.seen, live)
    if options.release:
        wanted = _with_ended_hold(wanted, live)
    _check_readable(live.target, wanted)
    if live.generation == 0 and (new := new_environment(store, live.target)):
        notes += (new,)
    change = Change(action, live.target, 0, wanted, live, manifest, written=False, notes=notes)
    if options.dry_run:
        return change
    try:
        written = write_commit(store, live.target, wanted, if_generation_match=live.generation)
    except GenerationConflict:
        raise _overtaken(live.target, live.generation, read_live(store, live.target)) from None
    return replace(change, generation=written.generation, written=True)


def _check_readable(target: Target, wanted: Commit) -> None:
    # a --reason may hold what the contract refuses; say so before the bucket has it
    try:
        parse_commit(format_commit(wanted), target)
    except DocumentMalformed as error:
        raise NameRefused(f"{error}; mend --by or --reason") from None


def _overtaken(target: Target, expected: int, now: Live) -> GenerationConflict:
    by = f" (by {now.commit.by})" if now.commit and now.commit.by else ""
    what = f"{now.commit.index_prefix}{by}" if now.commit else "something else"
    hint = f"it is now {what}, generation {now.generation}: nothing of yours was written"
    return GenerationConflict(target.commit_name, expected, hint)
