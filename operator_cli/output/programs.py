"""Results as JSON; `people` has the same as text. What isn't known is null."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from model_repository.documents.incidents import Incident
from model_repository.documents.receipts.receipt import Receipt
from model_repository.documents.receipts.shadow_comparison import describe_comparison
from model_repository.fields import format_moment
from model_repository.names import IndexPrefix, Target
from model_repository.records import written
from model_repository.repository import CommitObject
from operator_cli.commands.builds import BuildRow
from operator_cli.commands.changes import Change
from operator_cli.commands.status import ServedThen, TargetStatus
from operator_cli.commands.waiting import Verdict
from operator_cli.live import UnreadableReceipt
from operator_cli.webhook import Comparison, Progress, Said, progress_of


def change(change: Change, verdict: Verdict | None) -> dict[str, Any]:
    """What was done; `generation` is null after a dry run, `outcome` is there after a wait."""
    replaced = change.replaced
    before = replaced.commit.index_prefix if replaced.commit else None
    value: dict[str, Any] = {
        "action": change.action,
        "environment": change.target.environment,
        "index": change.target.index,
        "index_prefix": str(change.commit.index_prefix),
        "generation": change.generation or None,
        "written": change.written,
        "by": change.commit.by,
        "reason": change.commit.reason,
        "hold": change.commit.hold,
        "replaced": {"generation": replaced.generation, "index_prefix": _prefix(before)}
        if replaced.generation
        else None,
        "notes": list(change.notes),
    }
    if verdict is not None:
        value["outcome"] = verdict.outcome.value if verdict.outcome else None
        value["detail"] = verdict.detail
        value["waited_seconds"] = round(verdict.seconds, 1)
    return value


def status(found: list[TargetStatus | CommitObject], now: datetime, said: Sequence[Said] = ()) -> dict[str, Any]:
    """Targets by name, and the names that are no commit's. said: by webhooks, of rollouts that go on."""
    targets = [
        _target(each, now) | {"rollout": _rollout(each, said)} for each in found if isinstance(each, TargetStatus)
    ]
    return {"targets": targets, "ignored": [each.name for each in found if isinstance(each, CommitObject)]}


def _target(status: TargetStatus, now: datetime) -> dict[str, Any]:
    live, receipt = status.live, status.receipt
    return {
        "environment": live.target.environment,
        "index": live.target.index,
        "commit": {
            "generation": live.generation,
            "index_prefix": _prefix(live.commit.index_prefix if live.commit else None),
            "by": live.commit.by if live.commit else "",
            "reason": live.commit.reason if live.commit else "",
            "hold": bool(live.commit and live.commit.hold),
            "updated": format_moment(status.since) if status.since else None,
            "age_seconds": round(status.seconds(now), 1),
            "malformed": live.malformed or None,
            "mend": status.mend or None,
        },
        "state": "denied" if status.denied else _state(receipt),
        "denied": status.denied or None,
        "receipt": _receipt(receipt) if receipt else None,
        "serving": _receipt(status.serving) if status.serving else None,
        "serving_gone": status.serving_gone,
        "address": {"inside": status.address.inside, "outside": status.address.outside or None}
        if status.address
        else None,
        "shadow": status.is_shadow,
        "compared": describe_comparison(status.comparison) if status.comparison else None,
        "stopped": {"build": status.stopped.prefix.build, "why": status.stopped.why} if status.stopped else None,
        "incidents": _incidents(status.incidents),
    }


def _incidents(found: Sequence[Incident]) -> list[dict[str, Any]]:
    return [{"code": each.code, "detail": each.detail, "since": format_moment(each.since)} for each in found]


def _rollout(status: TargetStatus, said: Sequence[Said]) -> dict[str, Any] | None:
    if not status.waits:
        return None
    found = progress_of(said, status.live.target, status.live.generation)
    return rollout(found) if found else None


def rollout(progress: Progress) -> dict[str, Any]:
    """How a rollout goes."""
    return {
        "canary": progress.canary,
        "seconds": progress.seconds,
        "pods_ready": progress.ready,
        "pods_wanted": progress.wanted,
        "detail": progress.detail,
        "given_up_in": progress.given_up_in,
        "comparison": comparison(progress.comparison) if progress.comparison else None,
    }


def comparison(found: Comparison) -> dict[str, Any]:
    """What a canary shows beside the live pods, while it goes on."""
    return {
        "so_far": found.so_far.value,
        "why": found.why,
        "seconds_left": found.seconds_left,
        "rules": found.rules.to_json() if found.rules else None,
        "figures": written(found.figures),
    }


def _state(receipt: Receipt | UnreadableReceipt | None) -> str:
    return receipt.outcome.value if isinstance(receipt, Receipt) else "unreadable" if receipt else "waiting"


def history(target: Target, found: list[Receipt | UnreadableReceipt], held: int = 0) -> dict[str, Any]:
    """The receipts of a target, newest first. held: the generation of the one on hold; 0: none is."""
    rows = [_receipt(receipt) | {"hold": receipt.generation == held} for receipt in found]
    return {"environment": target.environment, "index": target.index, "receipts": rows}


def served_at(target: Target, moment: datetime, found: ServedThen) -> dict[str, Any]:
    """What served then, and what after it."""
    return {
        "environment": target.environment,
        "index": target.index,
        "at": format_moment(moment),
        "served": _receipt(found.receipt) if found.receipt else None,
        "next": _receipt(found.after) if found.after else None,
        "incidents": _incidents(found.incidents),
    }


def builds(index: str, found: Sequence[BuildRow]) -> dict[str, Any]:
    """Newest first; what can't be read says why."""
    return {"index": index, "builds": [_build(row) for row in found]}


def _build(row: BuildRow) -> dict[str, Any]:
    manifest = row.manifest
    return {
        "index_prefix": str(row.prefix),
        "created": format_moment(manifest.created) if manifest else None,
        "items": manifest.items if manifest else None,
        "bytes": sum(file.size for file in manifest.files) if manifest else None,
        "recall": manifest.recall.value if manifest else None,
        "live_in": list(row.live_in),
        "problem": row.why or None,
    }


def _receipt(receipt: Receipt | UnreadableReceipt) -> dict[str, Any]:
    if isinstance(receipt, UnreadableReceipt):
        return {"generation": receipt.generation, "outcome": None, "malformed": receipt.why}
    return {
        "generation": receipt.generation,
        "outcome": receipt.outcome.value,
        "index_prefix": _prefix(receipt.index_prefix),
        "detail": receipt.detail,
        "code": receipt.code,
        "started": format_moment(receipt.started),
        "finished": format_moment(receipt.finished),
        "by": receipt.by,
        "reason": receipt.reason,
        "canary": written(receipt.canary) if receipt.canary else None,
    }


def _prefix(prefix: IndexPrefix | None) -> str | None:
    return str(prefix) if prefix else None
