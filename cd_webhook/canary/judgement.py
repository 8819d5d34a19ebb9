"""How a canary does: a pure judgement of its figures beside those of the stable pods.

Latency is judged by the webhook's own probes: the same few questions, to both sides, in the same moments. What callers
ask is not the same on two pods, so their mean is in the receipt for people to read, and not judged. Errors are judged
by both, the probes and what the pods themselves counted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta

from cd_webhook.rules.rollout import Failed
from cd_webhook.state import Trial
from manifests.canary import Canary
from model_repository.documents.receipts.canary_figures import CanaryFigures, SoFar, TrackFigures

LEAST_SAMPLES = 40
"""Fewer answers judge nothing: a 95th percentile would rest on less than two of them, one failure would be 2.5 %."""
_EARLY_FAILURES = 5
"""So many failures end a canary before its time, if their share is too high by then: callers meet them, too."""
_GRACE_SECONDS = 60
_UNREACHABLE = (
    "neither its pods nor the stable ones answered the webhook on port 8080; a NetworkPolicy or a mesh's mTLS "
    "between them is the likely cause (manifests/examples/network-policy.yaml)"
)


@dataclass(frozen=True, slots=True)
class Watching:
    """Not decided yet."""

    sentence: str


@dataclass(frozen=True, slots=True)
class Aborted:
    """It is worse than what serves, and why."""

    failed: Failed
    figures: CanaryFigures | None


@dataclass(frozen=True, slots=True)
class Passed:
    """It is no worse: roll it out."""

    sentence: str
    figures: CanaryFigures


Judgement = Watching | Aborted | Passed


def judge_canary(figures: CanaryFigures, rules: Canary) -> Judgement:
    """Judge what was seen so far. Too few answers are waited for; whoever calls says when that has been long enough."""
    over = figures.seconds >= rules.seconds
    failed = _worse(figures, rules, over=over)
    if failed:
        return Aborted(Failed(failed.code, f"canary: {failed.sentence}"), figures)
    if not over:
        return Watching(f"canary: compared with the stable pods for {rules.seconds} s")
    if _too_few(figures):
        return Watching(f"canary: fewer than {LEAST_SAMPLES} answers of one side, too few to judge")
    said = f"canary passed after {figures.seconds:.0f} s: {sentence(figures)}"
    return Passed(said, replace(figures, promoted=True))


def so_far(figures: CanaryFigures, rules: Canary) -> tuple[SoFar, str]:
    """What the judgement would be if the time were over now, and in one sentence why it is worse; else empty."""
    failed = _worse(figures, rules, over=True)
    if failed:
        return SoFar.WORSE, failed.sentence
    return (SoFar.TOO_FEW_ANSWERS if _too_few(figures) else SoFar.NO_WORSE), ""


def undecided(figures: CanaryFigures | None) -> Aborted:
    """The judgement of a canary whose time limit has passed."""
    said = sentence(figures) if figures else "it was never compared"
    return Aborted(Failed("canary-undecided", f"canary: not judged in time: {said}"), figures)


def limit(trial: Trial) -> timedelta:
    """From first watching a trial, the longest time until it is judged.

    The canary's own deadline to become ready (see `rollout.judge`), twice the time of watching it, and a minute.
    """
    ready = int(trial.spec["progressDeadlineSeconds"]) * (trial.rules.replicas + 1)
    return timedelta(seconds=ready + 2 * trial.rules.seconds + _GRACE_SECONDS)


def sentence(figures: CanaryFigures) -> str:
    """The figures for a person."""
    return f"canary {_track(figures.canary)}; stable {_track(figures.stable)}"


def _track(track: TrackFigures) -> str:
    p95 = "unknown" if track.p95_ms is None else f"{track.p95_ms:.1f} ms"
    probes = f"{track.probes_failed} of {track.probes} probes failed, p95 {p95}"
    return f"{probes}, {track.errors} of {track.requests} requests 5xx"


def _worse(figures: CanaryFigures, rules: Canary, *, over: bool) -> Failed | None:
    """By what it is worse; None: by nothing. over: its time is, so that all rules hold."""
    failed = _certain(figures) or _too_many_errors(figures, rules, least_failures=1 if over else _EARLY_FAILURES)
    if failed or not over:
        return failed
    if _silent(figures.canary) and _silent(figures.stable):
        return Failed("canary-unreachable", _UNREACHABLE)
    return _too_slow(figures, rules)


def _too_few(figures: CanaryFigures) -> bool:
    return figures.canary.p95_ms is None or figures.stable.p95_ms is None


def _silent(track: TrackFigures) -> bool:
    return track.probes > 0 and track.probes_failed == track.probes and track.p95_ms is None


def _certain(figures: CanaryFigures) -> Failed | None:
    if figures.wrong_answers:
        what = f"golden queries answered otherwise than the batch recorded: {figures.wrong_answers}"
        return Failed("canary-wrong-answers", what)
    if figures.restarts:
        what = f"its containers restarted: {figures.restarts}"
        return Failed("canary-restarted", what)
    return None


def _too_many_errors(figures: CanaryFigures, rules: Canary, *, least_failures: int) -> Failed | None:
    mine, theirs = figures.canary, figures.stable
    measures = (
        ("probes", mine.probes_failed, mine.probes, theirs.probes_failed, theirs.probes),
        ("requests", mine.errors, mine.requests, theirs.errors, theirs.requests),
    )
    for what, failed, asked, stable_failed, stable_asked in measures:
        if asked < LEAST_SAMPLES or failed < least_failures:
            continue
        share, usual = failed / asked, stable_failed / stable_asked if stable_asked else 0.0
        if share - usual > rules.max_error_rate:
            allowed = f"{rules.max_error_rate:.2%} more than the stable pods' {usual:.2%} are allowed"
            return Failed("canary-errors", f"{share:.2%} of its {what} failed, {allowed}")
    return None


def _too_slow(figures: CanaryFigures, rules: Canary) -> Failed | None:
    mine, theirs = figures.canary.p95_ms, figures.stable.p95_ms
    if mine is None or theirs is None:
        return None
    allowed = max(theirs * rules.max_latency_ratio, rules.latency_floor_ms)
    if mine <= allowed:
        return None
    what = f"95 % of its answers came within {mine:.1f} ms, of the stable pods' within {theirs:.1f} ms"
    return Failed("canary-slow", f"{what}; {allowed:.1f} ms are allowed")
