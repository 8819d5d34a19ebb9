"""The benchmark's picture: bars of MB/s, drawn as plain SVG without a library."""

from __future__ import annotations

import statistics
from xml.sax.saxutils import escape

from benchmarks.pull.tables import ALONE, CASES, OURS, TRANSPORTS, Run

_WIDTH, _LABEL, _ROW, _HEAD = 860, 230, 20, 34


def draw(runs: list[Run]) -> str:
    """The picture of all medians."""
    groups: dict[tuple[str, str], dict[str, float]] = {}
    for run in runs:
        if run.case in CASES:
            groups.setdefault((run.case, run.transport), {})
    for (case, transport), rates in groups.items():
        some = [run for run in runs if (run.case, run.transport) == (case, transport)]
        for peer in {run.peer for run in some}:
            wall = statistics.median(run.wall for run in some if run.peer == peer)
            rates[peer] = some[0].size / wall / 1e6
    body: list[str] = []
    y = 10
    for (case, transport), rates in groups.items():
        y += _HEAD
        body.append(
            f'<text x="10" y="{y - 12}" class="title">{escape(f"{CASES[case]}, {TRANSPORTS[transport]}")}</text>'
        )
        most = max(rates.values())
        for peer, rate in sorted(rates.items(), key=lambda entry: -entry[1]):
            width = (_WIDTH - _LABEL - 90) * rate / most
            kind = "ours" if peer in (OURS, ALONE) else "peer"
            body.append(f'<text x="{_LABEL - 8}" y="{y + 13}" text-anchor="end">{escape(peer)}</text>')
            body.append(f'<rect x="{_LABEL}" y="{y}" width="{width:.1f}" height="{_ROW - 4}" class="{kind}"/>')
            body.append(f'<text x="{_LABEL + width + 6:.1f}" y="{y + 13}">{rate:.0f} MB/s</text>')
            y += _ROW
    text = "text{font:12px sans-serif;fill:#333}.title{font-weight:bold;font-size:14px}"
    style = f"{text}.ours{{fill:#1a73e8}}.peer{{fill:#b8c4d0}}"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{y + 20}" role="img">'
    ground = '<rect width="100%" height="100%" fill="white"/>'
    return "\n".join([head, f"<style>{style}</style>", ground, *body, "</svg>", ""])
