"""How fast a catalogue streams, and in how much memory: `python -m benchmarks.bench_catalogue [--rows N] [KIND ...]`.

Writes a made-up catalogue of each kind to a temporary folder, then reads it in a process of its own through
`embedding_batch.sources`, as the batch does. Prints a line of JSON for each: seconds and CPU seconds of the reading
alone, and the most memory (MiB, resident) beside what the process has before it reads.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

KINDS = ("parquet", "csv", "jsonl")
STEP = 100_000
READ = """
import json, resource, sys, time
from embedding_batch.sources import read_catalogue
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before, started, used, rows = peak(), time.perf_counter(), time.process_time(), 0
for batch in read_catalogue(sys.argv[1]):
    rows += batch.num_rows
seconds, used = time.perf_counter() - started, time.process_time() - used
print(json.dumps({"rows": rows, "seconds": round(seconds, 2), "cpu_seconds": round(used, 2),
    "before_mib": round(before), "peak_mib": round(peak())}))
"""


def batches(rows: int) -> Iterator[pa.RecordBatch]:
    """Made-up rows: eight categories, every other picture a URL, every third beside the catalogue."""
    for first in range(0, rows, STEP):
        numbers = pa.array(range(first, min(rows, first + STEP)))
        texts = numbers.cast(pa.string())
        urls = pc.binary_join_element_wise("https://cdn.example/products/", texts, "/front.jpg?itok=Zx81", "")
        near = pc.binary_join_element_wise("pictures/", texts, ".jpg", "")
        categories = pc.binary_join_element_wise("category ", pc.bit_wise_and(numbers, 7).cast(pa.string()), "")
        columns = {
            "id": pc.binary_join_element_wise("sku-", texts, ""),
            "category": categories,
            "picture": pc.if_else(pc.equal(pc.bit_wise_and(numbers, 1), 0), urls, near),
            "version": texts,
            "tags": pc.binary_join_element_wise(categories, ";sale", ""),
        }
        yield pa.RecordBatch.from_pydict(columns)


def write(path: Path, rows: int) -> None:
    """Write them as the file's name says."""
    schema = next(batches(1)).schema
    if path.suffix == ".jsonl":
        with path.open("w") as file:
            for batch in batches(rows):
                for row in batch.to_pylist():
                    file.write(json.dumps(row | {"tags": row["tags"].split(";")}) + "\n")
        return
    with (pq.ParquetWriter if path.suffix == ".parquet" else pa_csv.CSVWriter)(path, schema) as writer:
        for batch in batches(rows):
            writer.write(batch)


def main() -> None:
    """Measure what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", metavar="KIND", default=KINDS)
    parser.add_argument("--rows", type=int, default=3_000_000)
    options = parser.parse_args()
    for kind in options.kinds:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, f"catalogue.{kind}")
            write(path, options.rows)
            found = subprocess.run([sys.executable, "-c", READ, str(path)], capture_output=True, check=True, text=True)
            size = round(path.stat().st_size / 2**20)
            print(json.dumps({"kind": kind, "file_mib": size} | json.loads(found.stdout)), flush=True)


if __name__ == "__main__":
    main()
