"""How long it takes to judge what may go of a bucket with many builds, on a real bucket server.

python -m benchmarks.bench_prune [--builds 1000] [--indexes 10]
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

from local_stack import bucket_server
from local_stack.processes import RunningProgram, free_port
from model_repository.bucket.gcs_store import GcsStore
from model_repository.documents.commit import Commit
from model_repository.documents.receipts.receipt import Outcome
from model_repository.names import IndexPrefix, Target
from model_repository.repository import write_commit, write_receipt
from operator_cli.commands.prune import prune
from tests import builds
from tests.fake_clock import FakeClock

_BUCKET = "pruned"


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--builds", type=int, default=1000)
    parser.add_argument("--indexes", type=int, default=10)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-prune-") as name:
        folder, port = Path(name), free_port()
        running = RunningProgram.start(bucket_server.program(folder / "buckets", folder / "log", port, None))
        try:
            running.wait_ready()
            url = f"http://127.0.0.1:{port}"
            bucket_server.create_bucket(url, _BUCKET)
            os.environ["STORAGE_EMULATOR_HOST"] = url
            store = GcsStore(_BUCKET)
            _fill(store, options.builds, options.indexes)
            clock = FakeClock(datetime.now(UTC) + timedelta(days=2))
            begun = time.perf_counter()
            found = prune(store, clock, keep=24, apply=False, said=lambda _: None)
            seconds = time.perf_counter() - begun
        finally:
            running.stop()
    print("| builds | indexes | would go | seconds |\n|---|---|---|---|")
    print(f"| {options.builds:,} | {options.indexes} | {len(found.builds)} | {seconds:.1f} |")


def _fill(store: GcsStore, count: int, indexes: int) -> None:
    """Each build served once, in its order; one environment."""
    model = builds.publish_model(store)

    def fill(index: int) -> None:
        target = Target("production", f"index-{index}")
        for number in range(count // indexes):
            prefix = IndexPrefix(target.index, f"b{number:04d}")
            builds.publish_build(store, prefix, model)
            generation = write_commit(store, target, Commit(prefix), if_generation_match=None).generation
            write_receipt(store, builds.receipt(generation, target=target, outcome=Outcome.SERVED, index_prefix=prefix))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(fill, range(indexes)))


if __name__ == "__main__":
    main()
