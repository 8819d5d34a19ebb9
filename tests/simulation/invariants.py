"""What must hold, after every step and at the end, said in sentences."""

from __future__ import annotations

from collections import Counter

from cd_webhook.cluster import Object
from cd_webhook.state import Rollout, read_deployed
from manifests.metadata import is_canary
from model_repository.documents.incidents import INCIDENTS_LIMIT, parse_incidents
from model_repository.documents.receipts.filter_receipt import FilterOutcome
from model_repository.documents.receipts.receipt import Outcome, Receipt
from model_repository.errors import ObjectMissing
from model_repository.names import SHADOW, Target
from model_repository.notify import Event
from model_repository.repository import list_receipts, read_filter_receipt, read_receipt
from on_commit.compare import COMMIT_LOST
from tests.simulation.outside import live_generation
from tests.simulation.replica import ENVIRONMENT
from tests.simulation.world import Upload, World


class Broken(AssertionError):
    """An invariant doesn't hold."""


def after_a_step(world: World) -> None:
    """What must hold at any moment; looks at what was written since it looked last."""
    for name, before, after in world.writes:
        if not is_canary(name):
            _only_later_uploads_replace_earlier_ones(world, name, before, after)
    world.writes.clear()
    for name, times in world.receipts.items():
        if times > 1:
            raise Broken(f"{name} was written {times} times; a receipt is the last word")


def _only_later_uploads_replace_earlier_ones(world: World, index: str, before: Object | None, after: Object) -> None:
    if before is None:
        return
    old, new = read_deployed(before).generation, read_deployed(after).generation
    if old == new:
        return
    lost = read_deployed(before)
    if lost.rollout is Rollout.UNDONE and lost.last_good is None:
        return  # the Deployment had been deleted, and what served before that is restored
    if _position(world, index, new) < _position(world, index, old):
        raise Broken(f"{index}: commit {old} was replaced by {new}, which was uploaded before it")


def _position(world: World, index: str, generation: int) -> int:
    """Of an upload in the true order; -1: none has that generation."""
    found = [at for at, upload in enumerate(world.uploads[index]) if upload.generation == generation]
    return found[0] if found else -1


def no_hold_is_overridden(world: World) -> None:
    """The batch never replaces a commit that is on hold."""
    for index, uploads in world.uploads.items():
        for upload in uploads:
            if upload.by == "batch" and upload.replaced_hold:
                raise Broken(f"{index}: the batch replaced a commit that was on hold by {upload.generation}")


def at_the_end(world: World) -> None:
    """What must hold once faults stopped, one sweep ran, and rollouts ended."""
    after_a_step(world)
    no_hold_is_overridden(world)
    for index in world.indexes:
        _the_live_filter_is_in_force_or_a_receipt_says_why_not(world, index)
        _what_somebody_scaled_stays_so(world, index)
    for index in sorted(world.uploads):
        uploads = world.uploads[index]
        receipts = _receipts(world, index)
        for generation, receipt in receipts.items():
            _a_receipt_is_true(world, index, generation, receipt)
        _every_refusal_was_told(world, index, receipts)
        live = live_generation(world.bucket, Target(ENVIRONMENT, index).commit_name)
        if live is None:
            if index.endswith(SHADOW) and world.cluster.deployment(index) is not None:
                raise Broken(f"{index}: a shadow without a commit is still there")
            continue
        upload = next(each for each in uploads if each.generation == live)
        _the_live_commit_serves_or_a_receipt_says_why_not(world, index, upload, receipts)
        for generation in world.acknowledged[index] - receipts.keys():
            if index in world.deleted and generation != live:
                continue
            raise Broken(f"{index}: commit {generation} was looked at and acknowledged, and has no receipt")
    _work_is_bounded(world)


def _receipts(world: World, index: str) -> dict[int, Receipt]:
    target = Target(ENVIRONMENT, index)
    return {each: read_receipt(world.bucket, target, each) for each in list_receipts(world.bucket, target)}


def _a_receipt_is_true(world: World, index: str, generation: int, receipt: Receipt) -> None:
    at = _position(world, index, generation)
    if at < 0:
        raise Broken(f"{index}: a receipt of {generation}, which nobody uploaded")
    upload = world.uploads[index][at]
    kind = upload.kind
    deleted = index in world.disturbed
    true = {
        Outcome.SERVED: kind in {"good", "slow", "incomplete"},
        Outcome.UNDONE: kind in {"bad", "starting"} or deleted or receipt.code in world.excused[index],
        Outcome.REJECTED: kind in {"incomplete", "unreadable"} or deleted,
        Outcome.SUPERSEDED: at < len(world.uploads[index]) - 1 or deleted,
    }
    if kind == "incomplete" and receipt.outcome is Outcome.SERVED and not deleted:
        raise Broken(f"{index}: commit {generation} of a build that was never whole served")
    if generation in world.went_live[index] and receipt.outcome is not Outcome.SERVED and not deleted:
        raise Broken(f"{index}: commit {generation} served, and its receipt says {receipt.outcome}: {receipt.detail}")
    if not true[receipt.outcome]:
        raise Broken(f"{index}: commit {generation} ({kind}): the receipt says {receipt.outcome}: {receipt.detail}")


def _the_live_filter_is_in_force_or_a_receipt_says_why_not(world: World, index: str) -> None:
    target = Target(ENVIRONMENT, index)
    live = live_generation(world.bucket, target.filter_name)
    if live is None:
        return
    try:
        receipt = read_filter_receipt(world.bucket, target, live)
    except ObjectMissing:
        raise Broken(f"{index}: the live filter {live} has no receipt") from None
    if receipt.outcome is FilterOutcome.SUPERSEDED:
        raise Broken(f"{index}: the live filter {live} has a receipt that says superseded")
    if (receipt.outcome is FilterOutcome.REJECTED) is (world.bucket.read(target.filter_name, limit=10**6).data != b"{"):
        raise Broken(f"{index}: the live filter {live} has a receipt that says {receipt.outcome}: {receipt.detail}")
    if receipt.outcome is FilterOutcome.APPLIED and world.cluster.hiding(index) - {live}:
        raise Broken(
            f"{index}: the live filter {live} is applied, and pods have {world.cluster.hiding(index)} in force"
        )


def _what_somebody_scaled_stays_so(world: World, index: str) -> None:
    live, wanted = world.cluster.deployment(index), world.scaled.get(index)
    if live is None or wanted is None or (read_deployed(live).spec or {}).get("replicas") == 0:
        return  # of what was stopped, since nothing of it ever served, nobody knows it
    if live["spec"]["replicas"] != wanted:
        raise Broken(f"{index}: was scaled to {wanted}, and has {live['spec']['replicas']}")


def _every_refusal_was_told(world: World, index: str, receipts: dict[int, Receipt]) -> None:
    told = Counter(
        (notice.generation, notice.event.value)
        for notice in world.notices
        if notice.index == index and notice.event in {Event.REJECTED, Event.UNDONE}
    )
    for generation, receipt in receipts.items():
        if receipt.outcome not in {Outcome.REJECTED, Outcome.UNDONE}:
            continue
        times = told[generation, receipt.outcome.value]
        if times == 0 and not world.deaf:
            raise Broken(f"{index}: nobody was told that commit {generation} was {receipt.outcome}")
        if times > 1 + world.faults.met:
            raise Broken(f"{index}: {times} times it was told that commit {generation} was {receipt.outcome}")


def _was_restored(world: World, index: str, upload: Upload, ready: set[int], whole: set[int]) -> bool:
    """It served, then somebody deleted of its build and its Deployment: one that served and is whole comes back."""
    lost = index in world.disturbed and not _whole(world, index, upload.build)
    return lost and len(ready) == 1 and ready <= whole


def _the_live_commit_serves_or_a_receipt_says_why_not(
    world: World, index: str, upload: Upload, receipts: dict[int, Receipt]
) -> None:
    receipt = receipts.get(upload.generation)
    what = f"{index}: the live commit {upload.generation} ({world.kinds.get(upload.build, upload.kind)})"
    live = world.cluster.deployment(index)
    ready = set(world.cluster.ready(index))
    if receipt is None:
        raise Broken(f"{what} has no receipt")
    served = [each for each, found in receipts.items() if found.outcome is Outcome.SERVED]
    whole = [each for each in served if _whole(world, index, _build_of(world, index, each))]
    if receipt.outcome is Outcome.SERVED:
        if live is None:
            if _whole(world, index, upload.build):
                raise Broken(f"{what} served, its Deployment is gone, and nobody made it again")
        elif (
            ready != {upload.generation}
            and read_deployed(live).rollout not in {Rollout.UNDONE, Rollout.REWOUND}
            and not _was_restored(world, index, upload, ready, set(whole))
        ):
            raise Broken(f"{what} has a receipt that says served, and the ready pods are of {ready}")
        _it_is_known_if_it_serves_no_more(world, index, what)
        return
    if receipt.outcome is Outcome.SUPERSEDED:
        raise Broken(f"{what} has a receipt that says superseded: {receipt.detail}")
    if not whole:
        return
    if not ready:
        raise Broken(f"{what} is {receipt.outcome}, {len(whole)} whole builds served before, and no pod is ready")
    if not ready <= set(served):
        raise Broken(f"{what} is {receipt.outcome}, and the ready pods are of {ready}, which never served")


def _it_is_known_if_it_serves_no_more(world: World, index: str, what: str) -> None:
    if read_deployed(world.cluster.deployment(index)).rollout not in {Rollout.UNDONE, Rollout.REWOUND}:
        return
    name = Target(ENVIRONMENT, index).incidents_name
    try:
        known = parse_incidents(world.bucket.read(name, limit=INCIDENTS_LIMIT).data, name)
    except ObjectMissing:
        known = ()
    if COMMIT_LOST not in {each.code for each in known}:
        raise Broken(f"{what} has a receipt that says served, it was taken back since, and no incident says so")


def _build_of(world: World, index: str, generation: int) -> str:
    return world.uploads[index][_position(world, index, generation)].build


def _whole(world: World, index: str, build: str) -> bool:
    try:
        world.bucket.read(f"indexes/{index}/{build}/index.json", limit=10**7)
    except ObjectMissing:
        return False
    return world.kinds[build] != "incomplete"


def _work_is_bounded(world: World) -> None:
    """Duplicates and sweeps make no work: what is written to the cluster goes with commits, deletions and faults."""
    commits = sum(len(uploads) for uploads in world.uploads.values())
    allowed = 20 * (commits + world.faults.met + 5 * len(world.disturbed)) + 100
    if len(world.cluster.history) > allowed:
        raise Broken(f"{len(world.cluster.history)} writes to Deployments for {commits} commits")
