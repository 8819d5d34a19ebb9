"""What was measured, and the tables of it."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

OURS = "indexpush"
DESIGNS = {
    OURS: "indexpush",
    "usual": "watcher, build and push",
    "tuned": "watcher, tuned",
}
MARKS = ("<!-- measured: bench_commit.py writes from here -->", "<!-- to here -->")
_GB = 1e9


@dataclass(frozen=True)
class Run:
    """One commit.

    size: bytes of the index. seconds: to the first answer through the Service, from the commit or, of a watcher, from
        when it noticed.
    steps: seconds of each step. cpu: CPU seconds by who spent them. waited: seconds until the watcher noticed.
    registry, image_store, volume: bytes newly stored there. load: the machine's when it began.
    """

    size: int
    design: str
    seconds: float
    steps: dict[str, float]
    cpu: dict[str, float]
    registry: int
    image_store: int
    volume: int
    waited: float = 0.0
    load: float = 0.0


@dataclass(frozen=True)
class Idle:
    """A part of a design while nothing happens, over `seconds`. cpu: CPU seconds. memory: bytes, page cache apart."""

    design: str
    part: str
    seconds: float
    cpu: float
    memory: int
    lists_a_day: int


@dataclass
class Results:
    """All of it, in the order in which it was taken."""

    runs: list[Run] = field(default_factory=list)
    idle: list[Idle] = field(default_factory=list)
    engines: list[Run] = field(default_factory=list)
    """Of our design; `design` says the engine."""


def engine_table(runs: list[Run]) -> str:
    """Markdown: the engines side by side, the first that was measured being the base."""
    heads = ["engine", "index", "runs", "commit → ready, s: median (least to most)", "of the first's", "steps, medians"]
    heads += ["CPU s", "load"]
    rows = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    by_engine: dict[str, list[Run]] = {}
    for run in runs:
        by_engine.setdefault(run.design, []).append(run)
    base = 0.0
    for engine, some in by_engine.items():
        each = sorted(run.seconds for run in some)
        middle = _median(each)
        base = base or middle
        steps = ", ".join(f"{name} {_median(run.steps[name] for run in some):.1f}" for name in some[0].steps)
        cpu, load = _median(sum(run.cpu.values()) for run in some), _median(run.load for run in some)
        rows.append(
            f"| {engine} | {_gigabytes(some[0].size)} | {len(some)} | {middle:.1f} "
            f"({each[0]:.1f} to {each[-1]:.1f}) | {middle / base:.2f} | {steps} | {cpu:.1f} | {load:.1f} |"
        )
    return "\n".join(rows) if runs else ""


def tables(results: Results) -> str:
    """Markdown: commits, steps, who spent the processor time, and what stands idle."""
    parts = [_commits(results.runs), _steps(results.runs), _processors(results.runs), _idle(results.idle)]
    return "\n\n".join(part for part in parts if part)


def _of(runs: list[Run]) -> Iterable[tuple[int, str, list[Run]]]:
    for size in sorted({run.size for run in runs}):
        for design in DESIGNS:
            if some := [run for run in runs if (run.size, run.design) == (size, design)]:
                yield size, design, some


def _commits(runs: list[Run]) -> str:
    heads = ["index", "design", "runs", "commit → ready, s: median (least to most)", "its time / ours"]
    heads += ["image bytes: registry + node", "bytes in the pod's volume", "CPU s", "load"]
    rows = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    base: dict[int, float] = {}
    for size, design, some in _of(runs):
        seconds = _median(run.seconds for run in some)
        if design == OURS:
            base[size] = seconds
        ratio = f"{seconds / base[size]:.1f}" if size in base else ""
        rows.append(
            f"| {size / _GB:g} GB | {DESIGNS[design]} | {len(some)} | {seconds:.1f} "
            f"({min(run.seconds for run in some):.1f} to {max(run.seconds for run in some):.1f}) | {ratio} | "
            f"{_gigabytes(_median(run.registry for run in some))} + "
            f"{_gigabytes(_median(run.image_store for run in some))} | "
            f"{_gigabytes(_median(run.volume for run in some))} | "
            f"{_median(sum(run.cpu.values()) for run in some):.1f} | {_median(run.load for run in some):.1f} |"
        )
    return "\n".join(rows) if runs else ""


def _steps(runs: list[Run]) -> str:
    return _breakdown(runs, "Seconds of each step, medians:", lambda run: run.steps)


def _processors(runs: list[Run]) -> str:
    return _breakdown(runs, "CPU seconds of one commit by who spent them, medians:", lambda run: run.cpu)


def _breakdown(runs: list[Run], title: str, read: Callable[[Run], dict[str, float]]) -> str:
    rows = []
    for size, design, some in _of(runs):
        names = list(dict.fromkeys(name for run in some for name in read(run)))
        each = ", ".join(f"{name} {_median(read(run).get(name, 0.0) for run in some):.1f}" for name in names)
        rows.append(f"| {size / _GB:g} GB | {DESIGNS[design]} | {each} |")
    return "\n".join([title, "", "| index | design | |", "|---|---|---|", *rows]) if rows else ""


def _idle(idle: list[Idle]) -> str:
    rows = [
        f"| {one.design} | {one.part} | {one.cpu / one.seconds * 3600:.1f} | {one.memory / 1e6:.0f} "
        f"| {one.lists_a_day} |"
        for one in {(one.design, one.part): one for one in idle}.values()
    ]
    title = "While nothing happens (the last time it was measured):"
    head = ["| design | part | CPU s an hour | memory, MB | lists of the bucket a day |", "|---|---|---|---|---|"]
    return "\n".join([title, "", *head, *rows]) if rows else ""


def written(page: str, results: Results) -> str:
    """The page with the tables between its marks; raises ValueError if it has none."""
    before, start, rest = page.partition(MARKS[0])
    _, end, after = rest.partition(MARKS[1])
    if not start or not end:
        raise ValueError(f"the page has no lines {MARKS[0]!r} and {MARKS[1]!r}")
    return f"{before}{start}\n\n{tables(results)}\n\n{end}{after}"


def _median(values: Iterable[float]) -> float:
    return statistics.median(values)


def _gigabytes(size: float) -> str:
    return "0" if round(size / _GB, 2) == 0 else f"{size / _GB:.2f} GB"
