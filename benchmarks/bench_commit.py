"""From a commit to an answer: indexpush beside the design that it replaces, on one real Kubernetes node.

    ./noxw -s bench_commit -- --work FOLDER [--sizes 0.2 1 4] [--rounds 3] [--write docs/benchmarks/commit.md]
    ./noxw -s bench_commit -- --work FOLDER --engines annoy faiss-hnsw [--items 1000000] [--dimensions 512] [--rounds 3]

It starts a node of its own (tests/kubernetes/lab; root), installs everything there as the Kubernetes tests do, and
beside it the baseline: a registry and a watcher that polls the bucket every 30 s, bakes each new index into an image,
pushes it and rolls it out (commit/watcher). Then the designs take turns. With --engines there is no baseline: builds of
the same items by each engine (HNSW of int8; made_index.py) take turns in our design. Results are added to
FOLDER/results.json after every commit, so a long run can be taken in pieces; `--table` prints what is there.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path

from benchmarks.commit.baseline import IMAGE, Baseline
from benchmarks.commit.lab import Lab, upload, upload_engines
from benchmarks.commit.node import Node
from benchmarks.commit.ours import Ours
from benchmarks.commit.results import DESIGNS, OURS, Idle, Results, Run, engine_table, tables, written
from model_repository.documents.index_manifest import Engine
from tests.kubernetes.kube import Kube
from tests.kubernetes.node_scene import install_scene
from tests.kubernetes.run import IMAGES, start_node, stop_node

ENTER = Path(__file__).resolve().parents[1] / "tests" / "kubernetes" / "lab" / "enter.sh"


def main() -> int:
    """Start a node and go on inside its network, or only print; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for results.json")
    parser.add_argument(
        "--sizes", nargs="*", type=float, default=[0.2, 1.0, 4.0], help="of the index, in GB (10^9 bytes)"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--designs", nargs="*", default=list(DESIGNS), choices=list(DESIGNS))
    parser.add_argument("--engines", nargs="+", type=Engine, choices=list(Engine), help="compare these, not designs")
    parser.add_argument("--items", type=int, default=1_000_000, help="with --engines")
    parser.add_argument("--dimensions", type=int, default=512, help="with --engines")
    parser.add_argument("--idle-seconds", type=float, default=120.0, help="how long to look at what idles; 0: not")
    parser.add_argument("--table", action="store_true", help="measure nothing, only print what is there")
    parser.add_argument("--write", type=Path, help="put the tables into this page, between its marks")
    parser.add_argument(
        "--node", type=Path, help="use, or start and keep, the node in this folder; down.sh first if the code changed"
    )
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    if options.inside:
        measure(options)
        return 0
    images = IMAGES if options.engines else (*IMAGES, IMAGE)
    status = 0 if options.table else on_a_node(options.node, images, sys.argv[1:])
    results = load(options.work)
    print(f"\n{engine_table(results.engines) if options.engines else tables(results)}")
    if options.write:
        options.write.write_text(written(options.write.read_text(encoding="utf-8"), results), encoding="utf-8")
    return status


def on_a_node(kept: Path | None, images: Iterable[tuple[str, str]], arguments: list[str]) -> int:
    """Run this program again in the network of a node."""
    for number in (signal.SIGTERM, signal.SIGHUP):  # the node must not outlive us: leave by way of finally
        signal.signal(number, lambda *_: sys.exit(1))
    state = kept or Path(tempfile.mkdtemp(prefix="kubernetes-"))
    try:
        start_node(state, images)
        program = [sys.executable, "-m", "benchmarks.bench_commit", *arguments, "--inside", str(state)]
        return subprocess.run([ENTER, state, *program], check=False).returncode
    finally:
        if not kept:
            stop_node(state)


def measure(options: argparse.Namespace) -> None:
    """All engines, or all sizes, the designs taking turns in each round; then what stands idle."""
    results = load(options.work)
    kube, sizes = Kube(Path(os.environ["KUBECONFIG"])), [round(size * 1e9) for size in options.sizes]
    with tempfile.TemporaryDirectory() as work, install_scene(kube, Path(work)) as scene:
        print("installed; uploading the builds", flush=True)
        lab = Lab(Node(options.inside), kube, scene)
        ours = Ours(lab)
        if options.engines:
            measure_engines(options, lab, ours, results)
            return
        builds, baseline = upload(scene, sizes), Baseline(lab)
        for size in sizes:
            build = builds[size]
            baseline.prepare(build)
            for number in range(options.rounds):
                for design in options.designs:
                    os.sync()  # no design pays for what another left to be written
                    run = ours.commit(build) if design == OURS else baseline.commit(build, design)
                    results.runs.append(run)
                    save(options.work, results)
                    tell(number, run)
        if options.idle_seconds:
            results.idle += idle(lab, ours, baseline, options.idle_seconds)
            save(options.work, results)


def measure_engines(options: argparse.Namespace, lab: Lab, ours: Ours, results: Results) -> None:
    """The engines take turns in each round; one commit before them brings the pages of the bucket and the node in."""
    builds = upload_engines(lab.scene, options.items, options.dimensions, options.engines)
    ours.commit(builds[options.engines[0]])
    for number in range(options.rounds):
        for engine, build in builds.items():
            os.sync()
            run = replace(ours.commit(build), design=engine)
            results.engines.append(run)
            save(options.work, results)
            tell(number, run)


def idle(lab: Lab, ours: Ours, baseline: Baseline, seconds: float) -> list[Idle]:
    """What each design spends while nothing happens."""
    time.sleep(5)
    watched = [lab.webhook_pods(), baseline.watchers()]
    before = [[lab.node.pod_cpu(uid) for uid in uids] for uids in watched]
    time.sleep(seconds)
    spent = [
        [lab.node.pod_cpu(uid) - began for uid, began in zip(uids, then, strict=True)]
        for uids, then in zip(watched, before, strict=True)
    ]
    return [ours.idle(seconds, spent[0]), baseline.idle(seconds, spent[1])]


def tell(number: int, run: Run) -> None:
    """One line about a commit."""
    steps = ", ".join(f"{name} {seconds:.1f}" for name, seconds in run.steps.items())
    print(
        f"{run.size / 1e9:4g} GB round {number + 1} {run.design:10} {run.seconds:6.1f} s ({steps})  "
        f"cpu {sum(run.cpu.values()):6.1f} s  registry {run.registry / 1e6:.0f} MB  "
        f"node {run.image_store / 1e6:.0f} MB  volume {run.volume / 1e6:.0f} MB  load {run.load:.1f}",
        flush=True,
    )


def load(work: Path) -> Results:
    """What was measured before."""
    kept = work / "results.json"
    if not kept.exists():
        return Results()
    found = json.loads(kept.read_text())
    runs, engines = ([Run(**run) for run in found.get(kind, [])] for kind in ("runs", "engines"))
    return Results(runs, [Idle(**one) for one in found["idle"]], engines)


def save(work: Path, results: Results) -> None:
    """Keep all of it."""
    (work / "results.json").write_text(json.dumps(asdict(results), indent=1))


if __name__ == "__main__":
    sys.exit(main())
