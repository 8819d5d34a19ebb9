"""The benchmark's figures as Markdown, and their place in a page."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

OURS = "init_container"
ALONE = "init_container, one process"
"""Ours without its workers, as one more peer."""
CASES = {
    "1g": "1 GiB, one file",
    "4g": "4 GiB, one file",
    "64": "1 GiB, 64 files",
    "4000": "100 MB, 4,000 files",
}
TRANSPORTS = {"http": "plain HTTP", "tls": "TLS", "tls-held": "TLS, held"}
HELD = "Held: each answer comes at 100 MB/s at most, and its first byte after 30 ms."
FIRST_REQUEST = "first request"
"""The case of the time from the start of our process to the first byte of its first request."""
_MIB = 1024 * 1024
_GIB = 1024 * _MIB
_BEGIN, _END = "<!-- figures: begin (bench_pull.py --write) -->\n", "<!-- figures: end -->\n"


@dataclass(frozen=True)
class Run:
    """One process: what it took.

    case: of `CASES`, or `FIRST_REQUEST`. wall, cpu: seconds. peak: bytes resident in its largest process. load: the
    machine's when it began.
    python: version and OpenSSL of the Python that ours ran in, or empty.
    """

    case: str
    transport: str
    peer: str
    size: int
    wall: float
    cpu: float
    peak: int
    load: float
    python: str = ""


def tables(runs: list[Run]) -> str:
    """All figures: the ratios to ours in one table, then one table for each case and transport."""
    return "\n".join([*_summary(runs), *_first_request(runs), *_details(runs)]) + "\n"


def write(page: Path, text: str) -> None:
    """Put `text` between the page's markers; raises ValueError if they aren't there."""
    before, begin, rest = page.read_text().partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise ValueError(f"{page}: expected a line {_BEGIN.strip()!r} and, after it, {_END.strip()!r}")
    page.write_text(f"{before}{begin}\n{text}\n{end}{after}")


def _of(runs: Iterable[Run], case: str, transport: str) -> dict[str, list[Run]]:
    """The runs of a case over a transport, by peer, ours first."""
    found: dict[str, list[Run]] = {}
    some = [run for run in runs if (run.case, run.transport) == (case, transport)]
    for run in sorted(some, key=lambda run: (run.peer != OURS, run.peer)):
        found.setdefault(run.peer, []).append(run)
    return found


def _wall(runs: Iterable[Run]) -> float:
    return statistics.median(run.wall for run in runs)


def _ratios(runs: list[Run], case: str, transport: str) -> dict[str, float]:
    """Each peer's median time over ours; of a peer with several settings (``name:...``) its best counts."""
    by_peer = _of(runs, case, transport)
    if OURS not in by_peer:
        return {}
    ratios: dict[str, float] = {}
    for peer, of in by_peer.items():
        name = peer.split(":")[0]
        ratio = _wall(of) / _wall(by_peer[OURS])
        ratios[name] = min(ratio, ratios.get(name, ratio))
    return ratios


def _summary(runs: list[Run]) -> list[str]:
    lines = ["### Each peer's time divided by ours (medians; above 1: ours is faster)", "", HELD]
    for case, title in CASES.items():
        columns = {transport: _ratios(runs, case, transport) for transport in TRANSPORTS}
        peers = sorted({peer for ratios in columns.values() for peer in ratios} - {OURS})
        if not peers:
            continue
        lines += ["", f"| {title} | {' | '.join(TRANSPORTS.values())} |", "|---|" + "---|" * len(TRANSPORTS)]
        for peer in peers:
            cells = [f"{ratios[peer]:.2f}" if peer in ratios else "-" for ratios in columns.values()]
            lines.append(f"| {peer} | {' | '.join(cells)} |")
    return lines


def _first_request(runs: list[Run]) -> list[str]:
    lines: list[str] = []
    some = [run for run in runs if run.case == FIRST_REQUEST]
    for python in sorted({run.python for run in some}):
        times = sorted(1000 * run.wall for run in some if run.python == python)
        if not lines:
            lines = ["", "| start to first request | runs | median ms | least | most |", "|---|---|---|---|---|"]
        median = statistics.median(times)
        lines.append(f"| {OURS}, {python} | {len(times)} | {median:.0f} | {times[0]:.0f} | {times[-1]:.0f} |")
    return lines


def _details(runs: list[Run]) -> list[str]:
    lines: list[str] = []
    for case, title in CASES.items():
        for transport, way in TRANSPORTS.items():
            by_peer = _of(runs, case, transport)
            if OURS not in by_peer:
                continue
            base = _wall(by_peer[OURS])
            pythons = ", ".join(sorted({run.python for run in by_peer[OURS] if run.python}))
            lines += ["", f"### {title}: {way}" + (f" ({pythons})" if pythons else ""), ""]
            lines.append("| | runs | median s | MB/s | its time / ours | CPU s/GiB | largest process, MiB | load |")
            lines.append("|---|---|---|---|---|---|---|---|")
            for peer, of in by_peer.items():
                size, wall = of[0].size, _wall(of)
                cpu = statistics.median(run.cpu for run in of) / size * _GIB
                peak = max(run.peak for run in of) / _MIB
                loads = sorted(run.load for run in of)
                cells = [f"{len(of)}", f"{wall:.2f}", f"{size / wall / 1e6:.0f}", f"{wall / base:.2f}", f"{cpu:.2f}"]
                lines.append(f"| {' | '.join([peer, *cells, f'{peak:.0f}', f'{loads[0]:.1f}-{loads[-1]:.1f}'])} |")
    return lines
