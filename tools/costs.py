"""What delivery costs an hour and a commit, beside a watcher that bakes images: ``python -m tools.costs``.

Both designs store the build in the bucket and run the same search pods, so neither is counted: this is what delivery
adds. What is measured comes from docs/benchmarks/commit.md; what a thing costs are options, whose defaults are list
prices of Google Cloud in US dollars (Iowa, without free tiers or discounts) as its price pages had them in 2025.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

_HOURS_A_MONTH = 730


@dataclass(frozen=True, slots=True)
class Prices:
    """US dollars; each may be set on the command line."""

    pod_vcpu_hour: float = 0.0445
    """Of a pod on GKE Autopilot."""
    pod_gib_hour: float = 0.0049225
    build_minute: float = 0.006
    """Of Cloud Build, e2-standard-2."""
    image_gb_month: float = 0.10
    """In Artifact Registry."""
    function_vcpu_second: float = 0.000024
    """Of Cloud Run functions."""
    function_gib_second: float = 0.0000025
    function_million_requests: float = 0.40
    million_reads: float = 0.40
    """Operations of class B on the bucket: an object read."""
    million_lists: float = 5.0
    """Operations of class A: a listing."""
    schedule_month: float = 0.10


@dataclass(frozen=True, slots=True)
class Use:
    """Of one environment; each may be set on the command line."""

    indexes: int = 10
    commits_a_day: int = 24
    """Of each index."""
    gigabytes: float = 1.0
    """Of a build."""
    files: int = 25
    """Of a build."""
    pods: int = 3
    """Of an index."""
    kept: int = 3
    """Images that the watcher's registry keeps of each index."""
    poll_seconds: float = 30.0
    """Between two looks of the watcher at the bucket."""


@dataclass(frozen=True, slots=True)
class Cost:
    """standing: dollars an hour whatever is committed. commit: dollars for each."""

    what: str
    standing: float = 0.0
    commit: float = 0.0


WEBHOOK_PODS, WEBHOOK_VCPU, WEBHOOK_GIB = 2, 0.05, 0.1875
"""manifests/webhook/deployment.yaml asks for that; Autopilot may round up."""
FUNCTION_SECONDS, FUNCTION_VCPU, FUNCTION_GIB = 1.5, 1.0, 0.5
"""Of a look at one commit, a cold start included (functions/on_commit/README.md); its size is what one deploys."""
SWEEPS_AN_HOUR = 4
WATCHER_PODS = 2
"""The watcher, and the controller of its custom resource; counted as if they were no larger than a webhook."""
BUILD_SECONDS_A_GB = 1.9 + 44.6 + 16.9
"""Download, image build and push of 1 GB on two cores (docs/benchmarks/commit.md)."""
IMAGE_GB_A_GB = 1.02
"""What the registry grows by for 1 GB of index (commit.md)."""


def ours(use: Use, prices: Prices) -> Iterator[Cost]:
    """Bucket events, function, webhook, and pods that pull."""
    look = FUNCTION_SECONDS * (FUNCTION_VCPU * prices.function_vcpu_second + FUNCTION_GIB * prices.function_gib_second)
    look += prices.function_million_requests / 1e6
    yield Cost("webhook, two pods", WEBHOOK_PODS * _pod(WEBHOOK_VCPU, WEBHOOK_GIB, prices))
    yield Cost("function, one look a commit", commit=look)
    yield Cost("sweeps, four an hour", SWEEPS_AN_HOUR * (look + 2 * prices.million_lists / 1e6))
    yield Cost("two schedules", 2 * prices.schedule_month / _HOURS_A_MONTH)
    yield Cost("each pod reads each file", commit=use.pods * use.files * prices.million_reads / 1e6)


def watchers(use: Use, prices: Prices) -> Iterator[Cost]:
    """A pod that polls, an image a commit, and nodes that pull it."""
    yield Cost("watcher and controller, a pod each", WATCHER_PODS * _pod(WEBHOOK_VCPU, WEBHOOK_GIB, prices))
    polls = 3600 / use.poll_seconds * use.indexes
    yield Cost("polls of the bucket", polls * prices.million_lists / 1e6)
    yield Cost("image build and push", commit=BUILD_SECONDS_A_GB * use.gigabytes / 60 * prices.build_minute)
    yield Cost("the watcher reads each file", commit=use.files * prices.million_reads / 1e6)
    images = use.indexes * use.kept * use.gigabytes * IMAGE_GB_A_GB
    yield Cost("images that are kept", images * prices.image_gb_month / _HOURS_A_MONTH)


def _pod(vcpu: float, gib: float, prices: Prices) -> float:
    return vcpu * prices.pod_vcpu_hour + gib * prices.pod_gib_hour


def table(use: Use, prices: Prices) -> str:
    """Both designs, as Markdown: dollars an hour that stand, dollars a commit, dollars a month of both."""
    commits = use.indexes * use.commits_a_day / 24 * _HOURS_A_MONTH
    lines = ["| | $ an hour | $ for 1,000 commits | $ a month |", "|---|---|---|---|"]
    for name, costs in (("indexpush", list(ours(use, prices))), ("the watcher", list(watchers(use, prices)))):
        total = Cost(f"**{name}**", sum(each.standing for each in costs), sum(each.commit for each in costs))
        for each in (total, *costs):
            month = each.standing * _HOURS_A_MONTH + each.commit * commits
            lines.append(f"| {each.what} | {each.standing:.4f} | {each.commit * 1000:.3f} | {month:.2f} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table for the use and the prices that the command line says."""
    parser = argparse.ArgumentParser(prog="python -m tools.costs", description=(__doc__ or "").partition("\n")[0])
    for kind in (Use, Prices):
        group = parser.add_argument_group(kind.__name__.lower())
        for field in fields(kind):
            name = f"--{field.name.replace('_', '-')}"
            group.add_argument(name, type=type(field.default), default=field.default, help="default: %(default)s")
    said = vars(parser.parse_args(arguments))
    use = Use(**{field.name: said[field.name] for field in fields(Use)})
    prices = Prices(**{field.name: said[field.name] for field in fields(Prices)})
    sys.stdout.write(f"{table(use, prices)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
