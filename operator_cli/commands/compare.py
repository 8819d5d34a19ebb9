"""Asks two servers the same: how alike are the answers of an index and of its shadow, and how soon do they come?"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import requests

from model_repository.bucket.store import Store
from model_repository.comparing.ranking import overlap, rank_biased_overlap
from model_repository.documents.model_manifest import MODEL_MANIFEST_LIMIT, parse_model_manifest
from model_repository.documents.receipts.shadow_comparison import (
    AnswersCompared,
    Difference,
    Latency,
    Questions,
    ShadowComparison,
)
from model_repository.errors import PermanentError, TransientError, reason_of
from model_repository.names import IndexPrefix, ModelPrefix, Target
from model_repository.records import written
from model_repository.repository import write_shadow_comparison

_SECONDS = 30.0
_PICTURE_LIMIT = 32 * 1024 * 1024
_WORST = 5


class ServerUnavailable(TransientError, code="server-unavailable"):
    """A server that is to be compared doesn't answer, or not as a search server does."""


class NotThisShadow(PermanentError, code="not-this-shadow"):
    """What was compared isn't the shadow that the bucket knows: of another environment, or of another commit."""


@dataclass(frozen=True, slots=True)
class Compared:
    """Of many questions of one kind.

    missing: items that the second server doesn't have. milliseconds: of each server's answers.
    """

    kind: Questions
    k: int
    differences: tuple[Difference, ...]
    missing: tuple[str, ...]
    milliseconds: tuple[tuple[float, ...], tuple[float, ...]]

    @property
    def overlap(self) -> float:
        """The mean; 0 where there is no question that both answered."""
        return statistics.fmean(each.overlap for each in self.differences) if self.differences else 0.0

    @property
    def rank_biased_overlap(self) -> float:
        """The mean; 0 where there is no question that both answered."""
        return statistics.fmean(each.rank_biased_overlap for each in self.differences) if self.differences else 0.0

    def summary(self) -> AnswersCompared:
        """What is kept of it."""
        worst = sorted(self.differences, key=lambda each: (each.rank_biased_overlap, each.question))[:_WORST]
        return AnswersCompared(
            self.kind,
            self.k,
            asked=len(self.differences),
            missing=len(self.missing),
            overlap=round(self.overlap, 4),
            rank_biased_overlap=round(self.rank_biased_overlap, 4),
            stable=_latency(self.milliseconds[0]),
            shadow=_latency(self.milliseconds[1]),
            worst=tuple(
                Difference(each.question, round(each.overlap, 4), round(each.rank_biased_overlap, 4)) for each in worst
            ),
        )


@dataclass(slots=True)
class _Server:
    """One of the two. seconds: that its answers took."""

    url: str
    session: requests.Session = field(default_factory=requests.Session)
    seconds: list[float] = field(default_factory=list)

    def ask(self, path: str, picture: bytes | None = None) -> dict[str, Any] | None:
        """The answer; None for an item that it doesn't have. Raises `ServerUnavailable`."""
        begun = time.perf_counter()
        try:
            if picture is None:
                answer = self.session.get(f"{self.url}{path}", timeout=_SECONDS)
            else:
                kind = {"content-type": "image/jpeg"}
                answer = self.session.post(f"{self.url}{path}", data=picture, headers=kind, timeout=_SECONDS)
            said = answer.json()
            if not isinstance(said, dict):
                raise ValueError("what it says is no JSON object")  # noqa: TRY301, TRY004 - as what is no JSON
        except (requests.RequestException, ValueError) as error:
            raise ServerUnavailable(
                f"{self.url}: doesn't answer as a search server does ({reason_of(error)})"
            ) from None
        refusal = said["error"] if isinstance(said.get("error"), dict) else {}
        if answer.status_code == HTTPStatus.NOT_FOUND and refusal.get("code") == "item-unknown":
            return None
        if answer.status_code != HTTPStatus.OK:
            message = refusal.get("message", f"status {answer.status_code}")
            raise ServerUnavailable(f"{self.url}{path}: {message}")
        self.seconds.append(time.perf_counter() - begun)
        found: dict[str, Any] = said
        return found


def compare_items(stable: str, shadow: str, count: int, k: int) -> tuple[dict[str, Any], dict[str, Any], Compared]:
    """Ask both for the neighbours of `count` items of the first, evenly from its categories; with what each serves.

    stable, shadow: base URLs. Raises `ServerUnavailable`.
    """
    one, other = _Server(stable.rstrip("/")), _Server(shadow.rstrip("/"))
    statuses = [server.ask("/v1/status") or {} for server in (one, other)]
    items = _sample(one, statuses[0].get("categories", []), count)
    one.seconds, other.seconds = [], []
    asked = ((item, partial(_Server.ask, path=f"/v1/items/{quote(item, safe='')}/similar?k={k}")) for item in items)
    compared = _compare(Questions.ITEMS, one, other, k, asked)
    return statuses[0], statuses[1], compared


def compare_pictures(stable: str, shadow: str, pictures: Sequence[tuple[str, bytes]], k: int) -> Compared:
    """Ask both for what is like each picture, whole. Raises `ServerUnavailable`."""
    one, other = _Server(stable.rstrip("/")), _Server(shadow.rstrip("/"))
    path = f"/v1/search?k={k}&detect=false"
    asked = ((name, partial(_Server.ask, path=path, picture=picture)) for name, picture in pictures)
    return _compare(Questions.PICTURES, one, other, k, asked)


def golden_pictures(store: Store, status: dict[str, Any]) -> list[tuple[str, bytes]]:
    """The golden pictures of the one model that a server says it has; none where it has none, or several."""
    models = status.get("models") or []
    if len(models) != 1:
        return []
    prefix = ModelPrefix.parse(models[0]["prefix"])
    manifest = parse_model_manifest(store.read(prefix.manifest, limit=MODEL_MANIFEST_LIMIT).data, prefix)
    names = [golden.image for golden in manifest.golden_images]
    return [(name, store.read(f"{prefix}/{name}", limit=_PICTURE_LIMIT).data) for name in names]


_Ask = Callable[[_Server], dict[str, Any] | None]


def _compare(kind: Questions, one: _Server, other: _Server, k: int, asked: Iterable[tuple[str, _Ask]]) -> Compared:
    differences, missing = [], []
    for question, ask in asked:
        answers = [ask(one), ask(other)]
        if answers[1] is None:
            missing.append(question)
        if None in answers:
            continue
        first, second = ([each["id"] for each in answer["neighbors"]] for answer in answers if answer is not None)
        differences.append(Difference(question, overlap(first, second, k), rank_biased_overlap(first, second)))
    times = tuple(tuple(seconds * 1000 for seconds in server.seconds) for server in (one, other))
    return Compared(kind, k, tuple(differences), tuple(missing), (times[0], times[1]))


def keep(
    store: Store,
    target: Target,
    statuses: tuple[dict[str, Any], dict[str, Any]],
    found: Sequence[Compared],
    *,
    finished: datetime,
    least_overlap: float,
    by: str,
) -> str:
    """Write what was found beside the shadow `target`, for status and the board; returns the object's name.

    statuses: what the index and its shadow say of themselves. Raises `NotThisShadow`, and as the store does.
    """
    stable, shadow = statuses
    commit = store.stat(target.commit_name)
    generation = shadow.get("generation")
    if commit is None or commit.generation != generation:
        stands = f"commit {commit.generation}" if commit else "none"
        raise NotThisShadow(f"what was asked serves commit {generation}, and {target.commit_name} is {stands}")
    comparison = ShadowComparison(
        target=target,
        generation=commit.generation,
        shadow=IndexPrefix.parse(str(shadow.get("index_prefix"))),
        stable=IndexPrefix.parse(str(stable.get("index_prefix"))),
        finished=finished,
        answers=tuple(each.summary() for each in found),
        least_overlap=least_overlap,
        by=by,
    )
    write_shadow_comparison(store, comparison)
    return target.comparison_name(commit.generation)


def _sample(server: _Server, categories: Sequence[dict[str, Any]], count: int) -> list[str]:
    """Items of each category, as its share of all items is; at least one of each while there is room."""
    total = sum(each["items"] for each in categories) or 1
    items: list[str] = []
    for each in sorted(categories, key=lambda each: -each["items"]):
        share = min(max(1, round(count * each["items"] / total)), count - len(items), 1000)
        if share <= 0:
            break
        answer = server.ask(f"/v1/items?category={quote(each['category'], safe='')}&limit={share}") or {"items": []}
        items += [item["id"] for item in answer["items"]]
    return items


def for_programs(stable: dict[str, Any], shadow: dict[str, Any], found: Sequence[Compared]) -> dict[str, Any]:
    """As JSON."""
    return {
        "stable": {name: stable.get(name) for name in ("index_prefix", "generation")},
        "shadow": {name: shadow.get(name) for name in ("index_prefix", "generation")},
        "compared": [_for_programs(each.summary(), each.missing) for each in found],
    }


def _for_programs(found: AnswersCompared, missing: Sequence[str]) -> dict[str, Any]:
    return {
        "kind": found.questions.value,
        "asked": found.asked,
        "missing": list(missing),
        "k": found.k,
        "overlap": found.overlap,
        "rank_biased_overlap": found.rank_biased_overlap,
        "milliseconds": {"stable": _percentiles(found.stable), "shadow": _percentiles(found.shadow)},
        "worst": [written(one) for one in found.worst],
    }


def for_people(stable: dict[str, Any], shadow: dict[str, Any], found: Sequence[Compared]) -> str:
    """As text."""
    lines = [f"stable    {stable.get('index_prefix')}", f"shadow    {shadow.get('index_prefix')}"]
    for each in found:
        kept = each.summary()
        lines += [
            f"{each.kind.value:<9} {kept.asked} asked, {kept.missing} that the shadow doesn't have",
            f"          overlap@{each.k} {each.overlap:.3f}, rank-biased overlap {each.rank_biased_overlap:.3f}",
        ]
        for name, times in (("stable", kept.stable), ("shadow", kept.shadow)):
            if times is not None:
                lines.append(f"          {name}: {times.p50_ms} ms in the median, 95 % within {times.p95_ms} ms")
        lines += [
            f"          least alike: {one.question} ({one.overlap:.2f}, {one.rank_biased_overlap:.2f})"
            for one in kept.worst
            if one.overlap < 1
        ]
    return "\n".join(lines)


def _percentiles(latency: Latency | None) -> dict[str, float | None]:
    return {"p50": latency.p50_ms if latency else None, "p95": latency.p95_ms if latency else None}


def _latency(milliseconds: Sequence[float]) -> Latency | None:
    if not milliseconds:
        return None
    ordered = sorted(milliseconds)
    return Latency(round(statistics.median(ordered), 2), round(ordered[int(0.95 * (len(ordered) - 1))], 2))
