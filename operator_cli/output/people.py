"""Results as text; `programs` has the same as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from model_repository.documents.incidents import Incident
from model_repository.documents.receipts.address import Address
from model_repository.documents.receipts.canary_figures import CanaryFigures, SoFar, TrackFigures
from model_repository.documents.receipts.receipt import Receipt
from model_repository.documents.receipts.shadow_comparison import AnswersCompared
from model_repository.names import SHADOW, Target
from model_repository.repository import CommitObject
from operator_cli.commands.builds import BuildRow
from operator_cli.commands.changes import Change
from operator_cli.commands.status import ServedThen, TargetStatus
from operator_cli.commands.waiting import Verdict
from operator_cli.live import UnreadableReceipt
from operator_cli.webhook import Comparison, Said, going, progress_of

WHY_IGNORED = "its name isn't commits/<environment>/<index>.json, so nobody acts on it: move it, or delete it"

_SERVING_GONE = (
    "its build is gone from the bucket: if its pods were lost since, an older one was restored in its place, and the "
    "webhook's GET /v1/deployments says which; commit a build that is there"
)

_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def change(change: Change) -> str:
    """What was done, in a line or a few."""
    prefix, hold = change.commit.index_prefix, ", on hold" if change.commit.hold else ""
    if change.written:
        done = f"{prefix} is committed{hold}"
    elif change.generation:
        done = f"{prefix} stands there already, nothing is written"
    else:
        done = f"would commit {prefix}{hold}"
    replaced, before = change.replaced, ""
    if replaced.generation not in {0, change.generation}:
        what = replaced.commit.index_prefix if replaced.commit else "a malformed commit"
        before = f"{what}, generation {replaced.generation}"
    paragraph = _paragraph(
        f"{change.target.commit_name}: {done}",
        ("generation", str(change.generation) if change.written else ""),
        ("replaces", before),
        ("build", f"{change.manifest.items} items, created {dated(change.manifest.created)}"),
    )
    return "\n".join([*change.notes, paragraph])


def verdict(verdict: Verdict) -> str:
    """What became of the commit."""
    outcome = verdict.outcome.value if verdict.outcome else "unknown"
    return _row("outcome", _joined(f"{outcome} after {verdict.seconds:.1f} s", verdict.detail))


def status(found: list[TargetStatus | CommitObject], now: datetime, said: Sequence[Said] = ()) -> str:
    """A paragraph per target. said: by webhooks, of rollouts that go on."""
    return "\n".join(_ignored(each) if isinstance(each, CommitObject) else _target(each, now, said) for each in found)


def _ignored(found: CommitObject) -> str:
    return _paragraph(repr(found.name), ("IGNORED", WHY_IGNORED))


def _target(status: TargetStatus, now: datetime, said: Sequence[Said]) -> str:
    if status.denied:
        return _paragraph(str(status.live.target), ("DENIED", status.denied))
    return _paragraph(str(status.live.target), *rows_of_target(status, now, said))


def rows_of_target(status: TargetStatus, now: datetime, said: Sequence[Said]) -> list[tuple[str, str]]:
    """What is said of a target that one may look at: names, and texts that may be empty."""
    live, receipt, serving = status.live, status.receipt, status.serving
    what = str(live.commit.index_prefix) if live.commit else f"MALFORMED: {live.malformed}"
    hold = "  ON HOLD" if live.commit and live.commit.hold else ""
    return [
        ("commit", f"{what}{hold}  generation {live.generation}  {aged(status.seconds(now))} ago"),
        ("", _joined(signed(live.commit.by), live.commit.reason) if live.commit else ""),
        ("mend", status.mend),
        ("outcome", _outcome(status, now, said)),
        *(row for each in said if each.environment == live.target.environment for row in _rollout(status, each)),
        ("stopped", _stopped(status)),
        ("canary", _canary(receipt.canary) if isinstance(receipt, Receipt) else ""),
        ("serving", _serving(serving, now) if serving else "unknown: no receipt says that anything served"),
        ("", _SERVING_GONE if status.serving_gone else ""),
        *_compared(status, now),
        ("answers at", _address(status.address) if status.address else ""),
        *(("INCIDENT", _incident(incident, now)) for incident in status.incidents),
    ]


def _stopped(status: TargetStatus) -> str:
    """A build that the batch published and didn't commit."""
    if status.stopped is None:
        return ""
    target, build = status.live.target, status.stopped.prefix.build
    return (
        f"{build} waits for a person, by {'; '.join(status.stopped.why)}: indexpush diff {target.index} {build}, and "
        f"if it is right indexpush commit {target.index} {build} --environment {target.environment}"
    )


def _rollout(status: TargetStatus, said: Said) -> list[tuple[str, str]]:
    if not status.waits:
        return []
    found = said.of(status.live.target, status.live.generation)
    if found is None:
        return [("rollout", "not taken up: the webhook hasn't heard of it, or another commit's rollout comes first")]
    pods = f"{found.ready} of {found.wanted} {'canary pods' if found.canary else 'new pods'} ready"
    it = found.comparison
    unjudged = found.given_up_in is not None and not (it and it.seconds_left)
    end = f", undone in {aged(found.given_up_in or 0)} unless it gets on" if unjudged else ""
    detail = "" if it and found.canary else found.detail  # which the next line says better
    return [
        ("rollout", _joined(f"{pods} after {found.seconds:.0f} s{end}", detail)),
        ("canary", _comparison(it) if it else ""),
    ]


def _comparison(found: Comparison) -> str:
    if found.so_far is SoFar.PROMOTED:
        return _canary(found.figures)
    when = f"judged in {found.seconds_left:.0f} s" if found.seconds_left else "judged once there are enough answers"
    return f"{_joined(found.so_far.value.replace('-', ' '), found.why)}, {when}: {_sides(found.figures)}"


def _compared(status: TargetStatus, now: datetime) -> list[tuple[str, str]]:
    """How a shadow answered beside its index."""
    found = status.comparison
    if found is None:
        index = status.live.target.index.removesuffix(SHADOW)
        hint = f"not yet: indexpush compare {index} --environment {status.live.target.environment}"
        return [("compared", hint if status.is_shadow else "")]
    age = aged((now - found.finished) / timedelta(seconds=1))
    less = f", less than the {found.least_overlap} that was asked for" if found.too_different else ""
    head = f"with {found.stable}, {age} ago, {signed(found.by)}{less}"
    return [("compared", head), *(("", _answers(each)) for each in found.answers)]


def _answers(found: AnswersCompared) -> str:
    alike = f"overlap@{found.k} {found.overlap:.3f}, rank-biased {found.rank_biased_overlap:.3f}"
    times = [f"{name} p95 {it.p95_ms} ms" for name, it in (("shadow", found.shadow), ("stable", found.stable)) if it]
    missing = f"{found.missing} that the shadow doesn't have" if found.missing else ""
    return ", ".join(part for part in (f"{found.asked} {found.questions.value}: {alike}", missing, *times) if part)


def _incident(incident: Incident, now: datetime) -> str:
    return f"{incident.code} for {aged((now - incident.since) / timedelta(seconds=1))}: {incident.detail}"


def _outcome(status: TargetStatus, now: datetime, said: Sequence[Said]) -> str:
    receipt, live = status.receipt, status.live
    if receipt is None:
        word = going(progress_of(said, live.target, live.generation))
        return f"{word}: no receipt yet ({status.seconds(now):.0f} s)"
    if isinstance(receipt, UnreadableReceipt):
        return f"UNREADABLE: {receipt.why}"
    return _joined(receipt.outcome.value, receipt.detail)


def _serving(serving: Receipt, now: datetime) -> str:
    age = aged((now - serving.finished) / timedelta(seconds=1))
    return f"{serving.index_prefix}  generation {serving.generation}  for {age}"


def _address(address: Address) -> str:
    return f"{address.outside}  in the cluster {address.inside}" if address.outside else address.inside


def history(found: list[Receipt | UnreadableReceipt], held: int = 0) -> str:
    """A line per receipt, newest first, and more below it for what somebody should read. held: the one on hold."""
    return "\n".join(_receipt(receipt, held=receipt.generation == held) for receipt in found)


def served_at(target: Target, moment: datetime, then: ServedThen) -> str:
    """What served then."""
    found, after = then.receipt, then.after
    next_one = f"{after.index_prefix} from {dated(after.finished)} on" if after else ""
    if found is None:
        oldest = f"; as far back as they go, {next_one}" if next_one else ""
        return f"{target} at {dated(moment)}: no receipt says what served{oldest}"
    return _paragraph(
        f"{target} at {dated(moment)}",
        ("served", f"{found.index_prefix}  generation {found.generation}"),
        ("since", f"{dated(found.finished)}  {signed(found.by)}"),
        ("then", next_one),
        *(("INCIDENT", f"{each.code} since {dated(each.since)}: {each.detail}") for each in then.incidents),
    )


def builds(found: Sequence[BuildRow]) -> str:
    """A line per build, newest first."""
    return "\n".join(_build(row) for row in found)


def _build(row: BuildRow) -> str:
    if row.manifest is None:
        return f"{row.prefix.build:<28}  {row.why}"
    size = sum(file.size for file in row.manifest.files) / 1e6
    where = f"  live in {', '.join(row.live_in)}" if row.live_in else ""
    what = f"{row.manifest.items:>10,} items  {size:>9,.1f} MB  recall {row.manifest.recall.value:.3f}"
    return f"{row.prefix.build:<28}  {dated(row.manifest.created)}  {what}{where}"


def _receipt(receipt: Receipt | UnreadableReceipt, *, held: bool = False) -> str:
    if isinstance(receipt, UnreadableReceipt):
        return f"{receipt.generation}  UNREADABLE  {receipt.why}"
    prefix = receipt.index_prefix or "(unreadable commit)"
    who = f"{'  ON HOLD' if held else ''}  {signed(receipt.by)}"
    what = f"{receipt.outcome.value:<10}  {took(receipt):>8}  {prefix}{who}"
    first = f"{receipt.generation}  {dated(receipt.finished)}  {what}"
    return "\n".join([first, *(f"{'':<18}{text}" for text in notes_of_receipt(receipt))])


def took(receipt: Receipt) -> str:
    """From the beginning to the verdict."""
    return f"{receipt.seconds:.1f} s"


def notes_of_receipt(receipt: Receipt) -> list[str]:
    """What somebody should read of it."""
    canary = f"canary {_canary(receipt.canary)}" if receipt.canary else ""
    return [text for text in (receipt.reason, receipt.detail, canary) if text]


def _canary(figures: CanaryFigures | None) -> str:
    if figures is None:
        return ""
    return f"{'promoted' if figures.promoted else 'aborted'} after {figures.seconds:.0f} s: {_sides(figures)}"


def _sides(figures: CanaryFigures) -> str:
    return f"canary {_track(figures.canary)}; stable {_track(figures.stable)}"


def _track(track: TrackFigures) -> str:
    p95 = "p95 unknown" if track.p95_ms is None else f"p95 {track.p95_ms:.1f} ms"
    return f"{p95}, {track.probes_failed}/{track.probes} probes and {track.errors}/{track.requests} requests failed"


def _paragraph(title: str, *rows: tuple[str, str]) -> str:
    return "\n".join([title, *(_row(name, text) for name, text in rows if text)])


def _row(name: str, text: str) -> str:
    return f"  {name:<12}{text}"


def _joined(*parts: str) -> str:
    return ": ".join(part for part in parts if part)


def signed(by: str) -> str:
    """Who it was."""
    return f"by {by}" if by else "by: not stated"


def dated(moment: datetime) -> str:
    """A moment in UTC."""
    return f"{moment:%Y-%m-%d %H:%M:%SZ}"


def aged(seconds: float) -> str:
    """How long something is ago, in its largest unit of which there are two."""
    for unit, word in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "min")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.0f} {word}"
    return f"{max(seconds, 0):.0f} s"
