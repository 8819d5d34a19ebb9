"""Results as text for people, and as JSON values for programs."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from model_repository.documents.canary_figures import CanaryFigures, TrackFigures, format_canary_figures
from model_repository.documents.receipt import Receipt
from model_repository.fields import format_moment
from model_repository.names import Target
from model_repository.repository import CommitObject
from operator_cli.changes import Change
from operator_cli.live import UnreadableReceipt
from operator_cli.status import TargetStatus
from operator_cli.waiting import Verdict

_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def change_text(change: Change) -> str:
    """What was done, in a line or a few."""
    lines = list(change.notes)
    if change.written:
        lines.append(
            f"{change.target.commit_name}: {change.commit.index_prefix} is committed{_hold(change.commit.hold)}"
        )
        lines.append(f"  generation  {change.generation}")
    elif change.generation:
        lines.append(
            f"{change.target.commit_name}: {change.commit.index_prefix} stands there already, nothing is written"
        )
    else:
        lines.append(
            f"{change.target.commit_name}: would commit {change.commit.index_prefix}{_hold(change.commit.hold)}"
        )
    if change.replaced.generation and change.replaced.generation != change.generation:
        before = change.replaced.commit.index_prefix if change.replaced.commit else "a malformed commit"
        lines.append(f"  replaces    {before}, generation {change.replaced.generation}")
    lines.append(f"  build       {change.manifest.items} items, created {_moment(change.manifest.created)}")
    return "\n".join(lines)


def change_value(change: Change, verdict: Verdict | None) -> dict[str, Any]:
    """The same for programs; `generation` is null after a dry run, `outcome` is there after a wait."""
    replaced = change.replaced
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
        "replaced": {
            "generation": replaced.generation,
            "index_prefix": str(replaced.commit.index_prefix) if replaced.commit else None,
        }
        if replaced.generation
        else None,
        "notes": list(change.notes),
    }
    if verdict is not None:
        value["outcome"] = verdict.outcome.value if verdict.outcome else None
        value["detail"] = verdict.detail
        value["waited_seconds"] = round(verdict.seconds, 1)
    return value


def verdict_text(verdict: Verdict) -> str:
    """What became of the commit."""
    outcome = verdict.outcome.value if verdict.outcome else "unknown"
    detail = f": {verdict.detail}" if verdict.detail else ""
    return f"  outcome     {outcome} after {verdict.seconds:.1f} s{detail}"


def status_text(found: list[TargetStatus | CommitObject], now: datetime) -> str:
    """A paragraph per target."""
    return "\n".join(
        _ignored_text(each) if isinstance(each, CommitObject) else _target_text(each, now) for each in found
    )


def _ignored_text(found: CommitObject) -> str:
    why = "its name isn't commits/<environment>/<index>.json, so nobody acts on it: move it, or delete it"
    return f"{found.name!r}\n  {'IGNORED':<12}{why}"


def _target_text(status: TargetStatus, now: datetime) -> str:
    lines = [str(status.live.target), f"  {'commit':<12}{_commit(status, now)}"]
    if status.live.commit:
        said = ": ".join(part for part in (_by(status.live.commit.by), status.live.commit.reason) if part)
        lines += [f"  {'':<12}{said}"] if said else []
    else:
        lines.append(f"  {'mend':<12}{mend(status)}")
    lines.append(f"  {'outcome':<12}{_outcome(status, now)}")
    if isinstance(status.receipt, Receipt) and status.receipt.canary:
        lines.append(f"  {'canary':<12}{_canary(status.receipt.canary)}")
    lines.append(f"  {'serving':<12}{_serving(status, now)}")
    return "\n".join(lines)


def _commit(status: TargetStatus, now: datetime) -> str:
    what = str(status.live.commit.index_prefix) if status.live.commit else f"MALFORMED: {status.live.malformed}"
    hold = "  ON HOLD" if status.live.commit and status.live.commit.hold else ""
    return f"{what}{hold}  generation {status.live.generation}  {_age(status.since, now)} ago"


def mend(status: TargetStatus) -> str:
    """What to do about a commit that can't be understood; empty for one that can."""
    if status.live.commit is not None:
        return ""
    target = status.live.target
    return f"commit over it: indexpush commit {target.index} <build> --environment {target.environment}"


def _outcome(status: TargetStatus, now: datetime) -> str:
    if status.receipt is None:
        return f"waiting: no receipt yet ({_seconds(status.since, now):.0f} s)"
    if isinstance(status.receipt, UnreadableReceipt):
        return f"UNREADABLE: {status.receipt.why}"
    detail = f": {status.receipt.detail}" if status.receipt.detail else ""
    return f"{status.receipt.outcome.value}{detail}"


def _serving(status: TargetStatus, now: datetime) -> str:
    serving = status.serving
    if serving is None:
        return "unknown: no receipt says that anything served"
    return f"{serving.index_prefix}  generation {serving.generation}  for {_age(serving.finished, now)}"


def status_value(found: list[TargetStatus | CommitObject], now: datetime) -> dict[str, Any]:
    """The same for programs: targets by name, and the names that are no commit's."""
    targets = [_target_value(each, now) for each in found if isinstance(each, TargetStatus)]
    return {"targets": targets, "ignored": [each.name for each in found if isinstance(each, CommitObject)]}


def _target_value(status: TargetStatus, now: datetime) -> dict[str, Any]:
    live, receipt = status.live, status.receipt
    return {
        "environment": live.target.environment,
        "index": live.target.index,
        "commit": {
            "generation": live.generation,
            "index_prefix": str(live.commit.index_prefix) if live.commit else None,
            "by": live.commit.by if live.commit else "",
            "reason": live.commit.reason if live.commit else "",
            "hold": bool(live.commit and live.commit.hold),
            "updated": format_moment(status.since) if status.since else None,
            "age_seconds": round(_seconds(status.since, now), 1),
            "malformed": live.malformed or None,
            "mend": mend(status) or None,
        },
        "state": receipt.outcome.value if isinstance(receipt, Receipt) else "unreadable" if receipt else "waiting",
        "receipt": receipt_value(receipt) if receipt else None,
        "serving": receipt_value(status.serving) if status.serving else None,
    }


def history_text(found: list[Receipt | UnreadableReceipt]) -> str:
    """A line per receipt, newest first, and a second one for what somebody should read."""
    lines = []
    for receipt in found:
        if isinstance(receipt, UnreadableReceipt):
            lines.append(f"{receipt.generation}  UNREADABLE  {receipt.why}")
            continue
        took = f"{(receipt.finished - receipt.started) / timedelta(seconds=1):.1f} s"
        prefix = receipt.index_prefix or "(unreadable commit)"
        who = f"  {_by(receipt.by)}" if receipt.by else ""
        lines.append(
            f"{receipt.generation}  {_moment(receipt.finished)}  {receipt.outcome.value:<10}  {took:>8}  {prefix}{who}"
        )
        canary = f"canary {_canary(receipt.canary)}" if receipt.canary else ""
        lines += [f"{'':<18}{text}" for text in (receipt.reason, receipt.detail, canary) if text]
    return "\n".join(lines)


def history_value(target: Target, found: list[Receipt | UnreadableReceipt]) -> dict[str, Any]:
    """The same for programs."""
    rows = [receipt_value(receipt) for receipt in found]
    return {"environment": target.environment, "index": target.index, "receipts": rows}


def receipt_value(receipt: Receipt | UnreadableReceipt) -> dict[str, Any]:
    """A receipt for programs."""
    if isinstance(receipt, UnreadableReceipt):
        return {"generation": receipt.generation, "outcome": None, "malformed": receipt.why}
    return {
        "generation": receipt.generation,
        "outcome": receipt.outcome.value,
        "index_prefix": str(receipt.index_prefix) if receipt.index_prefix else None,
        "detail": receipt.detail,
        "code": receipt.code,
        "started": format_moment(receipt.started),
        "finished": format_moment(receipt.finished),
        "by": receipt.by,
        "reason": receipt.reason,
        "canary": format_canary_figures(receipt.canary) if receipt.canary else None,
    }


def _canary(figures: CanaryFigures) -> str:
    sides = f"canary {_track(figures.canary)}; stable {_track(figures.stable)}"
    return f"{'promoted' if figures.promoted else 'aborted'} after {figures.seconds:.0f} s: {sides}"


def _track(track: TrackFigures) -> str:
    p95 = "p95 unknown" if track.p95_ms is None else f"p95 {track.p95_ms:.1f} ms"
    return f"{p95}, {track.probes_failed}/{track.probes} probes and {track.errors}/{track.requests} requests failed"


def _hold(hold: bool) -> str:  # noqa: FBT001 - a field of the commit
    return ", on hold" if hold else ""


def _by(by: str) -> str:
    return f"by {by}" if by else ""


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%SZ}"


def _seconds(since: datetime | None, now: datetime) -> float:
    return max((now - since) / timedelta(seconds=1), 0.0) if since else 0.0


def _age(since: datetime | None, now: datetime) -> str:
    seconds = _seconds(since, now)
    for unit, word in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "min")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.0f} {word}"
    return f"{seconds:.0f} s"
