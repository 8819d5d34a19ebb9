"""A marketplace's size on one machine: what a run of the batch takes in seconds and memory, by step.

    python -m benchmarks.bench_size [--items 3000000] [--dimensions 512] [--categories 8] [--folder DIR] [--once]

A bucket server on this machine has the list and the embeddings of a run before, of made-up pictures.
The run that is measured finds all of them known, and lists, compares, builds, checks, publishes and commits. Memory is
that of the program and all of its processes, sampled ten times a second: what it holds itself, and pages of files that
are mapped, which the kernel takes back when others need them.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import pyarrow.parquet as pq

from benchmarks.batch.made_up import MODEL, bucket, leave_known, publish_made_up_model
from benchmarks.batch.measured import run_batch


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=3_000_000)
    parser.add_argument("--dimensions", type=int, default=512)
    parser.add_argument("--categories", type=int, default=8)
    parser.add_argument("--engine", default="annoy")
    parser.add_argument("--folder", type=Path, help="where there is room for 20 GB (a temporary one)")
    parser.add_argument("--once", action="store_true", help="only with copies from the bucket")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-size-", dir=options.folder) as name, bucket(Path(name)) as store:
        folder = Path(name)
        before = folder / "before"
        before.mkdir()
        publish_made_up_model(store, folder, options.dimensions)
        pq.write_table(leave_known(store, before, MODEL, options.items, options.categories), folder / "list.parquet")
        titles = ["copies of the embeddings come from the bucket", "they are on the disk"]
        for title in titles[: 1 if options.once else None]:
            ran = run_batch(
                folder / "list.parquet", folder / "cache", "--model", str(MODEL), "--engine", options.engine
            )
            print(f"\n{options.items:,} items x {options.dimensions}, {options.engine}; {title};", end=" ")
            print(f"{ran.seconds:.0f} s, {ran.cpu:.0f} CPU s; exit status {ran.status}\n")
            print("| step | seconds | MiB held | MiB with mapped files |")
            print("|---|---|---|---|")
            for step, one in ran.steps.items():
                print(f"| {step} | {one.seconds:.1f} | {one.held / 1024:,.0f} | {one.resident / 1024:,.0f} |")
            if ran.status:
                print(ran.last, file=sys.stderr)


if __name__ == "__main__":
    main()
