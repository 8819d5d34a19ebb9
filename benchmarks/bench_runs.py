"""What a run of the batch costs when little is new, and whether that grows with the runs before it.

    python -m benchmarks.bench_runs new [--items 300000] [--new 0.01] [--first]
    python -m benchmarks.bench_runs many [--items 2000] [--runs 100]
    python -m benchmarks.bench_runs broken [--pictures 20000]

new: of so many items all but a share are known from a run before; their embeddings by EfficientNet-Lite0 are made up,
the pictures that are new are real files. What a first run takes is put together: the run before, which has all of its
steps but fetching and embedding, and those by the picture as measured with the new ones. --first: it is run, instead.
many: runs in a row, a hundredth new and a hundredth gone each time. broken: files that are no pictures.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.batch.made_up import INDEX, MODEL, SIDE, bucket, leave_known, publish_made_up_model, write_pictures
from benchmarks.batch.measured import Measured, run_batch
from model_repository.bucket.gcs_store import GcsStore

REAL = "efficientnet-lite0"
_SIDE = 320
_PER_PICTURE = ("fetch", "embed")


def main() -> None:
    """Print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("new", "many", "broken"))
    parser.add_argument("--items", type=int)
    parser.add_argument("--new", type=float, default=0.01)
    parser.add_argument("--categories", type=int, default=8)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--pictures", type=int, default=20_000)
    parser.add_argument("--first", action="store_true")
    parser.add_argument("--folder", type=Path, help="where there is room (a temporary one)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-runs-", dir=options.folder) as name, bucket(Path(name)) as store:
        {"new": _new, "many": _many, "broken": _broken}[options.what](options, Path(name), store)


def _new(options: argparse.Namespace, folder: Path, store: GcsStore) -> None:
    items = options.items or 300_000
    count = round(items * options.new)
    pictures = write_pictures(folder / "pictures", range(items if options.first else count), _SIDE)
    cache = folder / "cache"
    cache.mkdir()
    if options.first:
        known = _listed(pictures[:-count] if count else pictures, options.categories)
        _show(f"a first run of {items - count:,} items", first := _run(known, folder, cache, "--model", REAL))
        whole = first.seconds
    else:
        known = leave_known(store, cache, REAL, items - count, options.categories).drop_columns("version")
        known = known.append_column("version", pa.array(["24601-1732000000000000000"] * len(known)))
        _show(f"a run before, of {items - count:,} items", before := _run(known, folder, cache, "--model", REAL))
    came = _listed(pictures[-count:], options.categories)
    columns = [name for name in known.column_names if name in came.column_names]
    today = pa.concat_tables([known.select(columns), came.select(columns)])
    ran = _run(today, folder, cache, "--model", REAL)
    _show(f"{items:,} items of which {count:,} are new", ran)
    if not options.first:
        each = sum(ran.steps[step].seconds for step in _PER_PICTURE) / count
        whole = before.seconds + each * items
        print(f"\na first run: {each * 1000:.1f} ms a picture, {whole:,.0f} s together")
    print(f"\n{options.new:.0%} new: {ran.seconds / whole:.2%} of the first run's time")


def _many(options: argparse.Namespace, folder: Path, store: GcsStore) -> None:
    items = options.items or 2_000
    step = max(1, items // 100)
    publish_made_up_model(store, folder, 128)
    pictures = write_pictures(folder / "pictures", range(items + step * options.runs), SIDE)
    ran = []
    for number in range(options.runs):
        listed = _listed(pictures[number * step : number * step + items], options.categories)
        ran.append(_run(listed, folder, folder / "cache", "--model", str(MODEL)))
        parts = sum(1 for _ in store.listing("features/"))
        print(
            f"{number + 1}: {ran[-1].seconds:.2f} s, {ran[-1].cpu:.2f} CPU s, {parts} parts of embeddings", flush=True
        )
    later = ran[1:]
    for title, some in (("runs 2 to 11", later[:10]), ("the last 10", later[-10:])):
        seconds, cpu = (statistics.median(getattr(one, of) for one in some) for of in ("seconds", "cpu"))
        print(f"{title}: {seconds:.2f} s, {cpu:.2f} CPU s (medians)")


def _broken(options: argparse.Namespace, folder: Path, store: GcsStore) -> None:
    publish_made_up_model(store, folder, 128)
    sound = write_pictures(folder / "pictures", range(100), SIDE)
    broken = []
    for number in range(options.pictures):
        path = folder / "pictures" / f"broken-{number:06}.jpg"
        path.write_bytes(b"\xff\xd8\xff no picture %d" % number)
        broken.append(path)
    _run(_listed(sound, 1), folder, folder / "warm", "--model", str(MODEL), "--no-commit")
    for share in (8, 4, 2, 1):
        listed = _listed(sound + broken[: options.pictures // share], 1)
        more = ("--model", str(MODEL), "--most-broken", "1", "--no-commit", "--build", f"of-{share}")
        ran = _run(listed, folder, folder / f"cache-{share}", *more)
        for info in list(store.listing(f"catalogues/{INDEX}/")):
            store.delete(info.name)
        print(f"{options.pictures // share:,} broken: {ran.seconds:.1f} s, {ran.cpu:.1f} CPU s", flush=True)


def _listed(pictures: list[Path], categories: int) -> pa.Table:
    numbers = range(len(pictures))
    said = {
        "id": [path.stem for path in pictures],
        "category": [f"category {int(path.stem[-8:]) % categories if path.stem.isdigit() else 0}" for path in pictures],
        "picture": [str(path) for path in pictures],
        "version": pa.nulls(len(numbers), pa.string()),
    }
    return pa.table(said)


def _run(listed: pa.Table, folder: Path, cache: Path, *options: str) -> Measured:
    pq.write_table(listed.take(pc.sort_indices(listed["id"])), folder / "list.parquet")
    # Golden pictures are embedded in earnest: what is new is nearer to them than all that is made up.
    ran = run_batch(folder / "list.parquet", cache, "--expect-change", *options)
    if ran.status:
        sys.exit(f"exit status {ran.status}: {ran.last}")
    return ran


def _show(title: str, ran: Measured) -> None:
    print(f"\n{title}: {ran.seconds:.1f} s, {ran.cpu:.1f} CPU s\n")
    print("| step | seconds | MiB held |")
    print("|---|---|---|")
    for step, one in ran.steps.items():
        print(f"| {step} | {one.seconds:.1f} | {one.held / 1024:,.0f} |", flush=True)


if __name__ == "__main__":
    main()
