"""Uploading a build: the batch beside a raw parallel upload of the same files to the same bucket server.

    python -m benchmarks.bench_upload [--files 8] [--mib 128] [--rounds 5]

Each round uploads all files once by each way, in changing order, each way in a process of its own with 8 uploads at a
time. Raw is a POST of each file's bytes as they are, by http.client, without any digest; raw multipart has metadata
before them, as the batch's have, which this bucket server takes apart more slowly. Memory is the most that the
process had resident, less what it had before the first upload.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote, urlsplit

from embedding_batch.steps.publish.uploading import UPLOADS, describe, upload_files
from local_stack import bucket_server, processes
from model_repository.bucket.gcs_store import GcsStore
from model_repository.names import IndexPrefix

BUCKET = "upload"
WAYS = ("batch", "raw", "raw multipart")


def main() -> None:
    """Print a table; as a child, upload by one way and print seconds and MiB."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=8)
    parser.add_argument("--mib", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        _child(options.way, sorted((options.folder / "files").iterdir()))
        return
    with tempfile.TemporaryDirectory(prefix="bench-upload-") as name:
        folder = Path(name)
        (folder / "files").mkdir()
        for number in range(options.files):
            (folder / "files" / f"{number}.annoy").write_bytes(os.urandom(options.mib << 20))
        found = _rounds(folder, options.rounds)
    mib = options.files * options.mib
    raw = statistics.median(seconds for seconds, _ in found["raw"])
    print(f"{options.files} files of {options.mib} MiB, {UPLOADS} uploads at a time, medians of {options.rounds}\n")
    print("| way | MiB/s | of raw | MiB of memory |")
    print("|---|---|---|---|")
    for way, rows in found.items():
        seconds = statistics.median(seconds for seconds, _ in rows)
        print(f"| {way} | {mib / seconds:,.0f} | {raw / seconds:.2f} | {max(memory for _, memory in rows):,.0f} |")


def _rounds(folder: Path, rounds: int) -> dict[str, list[tuple[float, float]]]:
    found: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
    for number in range(rounds):
        for way in WAYS[number % len(WAYS) :] + WAYS[: number % len(WAYS)]:
            port = processes.free_port()  # a server of its own: it keeps what it was given in memory
            root = folder / "bucket"
            server = processes.RunningProgram.start(bucket_server.program(root, folder / "log", port, None))
            try:
                server.wait_ready()
                url = f"http://127.0.0.1:{port}"
                bucket_server.create_bucket(url, BUCKET)
                child = [sys.executable, "-m", "benchmarks.bench_upload", "--way", way, "--folder", str(folder)]
                said = subprocess.run(
                    child, env={**os.environ, "STORAGE_EMULATOR_HOST": url}, check=True, capture_output=True, text=True
                )
                seconds, memory = map(float, said.stdout.split())
                found[way].append((seconds, memory))
            finally:
                server.stop()
                subprocess.run(["rm", "-rf", str(root)], check=True)
    return found


def _child(way: str, files: list[Path]) -> None:
    store, prefix = GcsStore(BUCKET), IndexPrefix("shop", f"b{uuid.uuid4().hex[:8]}")
    store.write("warm", b"", if_generation_match=None)
    described = describe({f"partitions/{path.name}": path for path in files}) if way == "batch" else ()
    before, begun = _peak(), time.perf_counter()
    if way == "batch":
        upload_files(store, prefix, {f"partitions/{path.name}": path for path in files}, described)
    else:
        with ThreadPoolExecutor(UPLOADS) as pool:
            list(pool.map(lambda path: _post(f"{prefix}/{path.name}", path, way == "raw multipart"), files))
    print(time.perf_counter() - begun, (_peak() - before) / 1024)


def _peak() -> float:
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def _post(name: str, path: Path, multipart: bool) -> None:  # noqa: FBT001 - a child's own
    connection = http.client.HTTPConnection(urlsplit(os.environ["STORAGE_EMULATOR_HOST"]).netloc, blocksize=1 << 20)
    head, end, headers, kind = b"", b"", {}, "media"
    if multipart:
        head = b"--x\r\nContent-Type: application/json\r\n\r\n" + json.dumps({"name": name}).encode()
        head += b"\r\n--x\r\nContent-Type: application/octet-stream\r\n\r\n"
        end, headers, kind = b"\r\n--x--\r\n", {"Content-Type": "multipart/related; boundary=x"}, "multipart"
    headers["Content-Length"] = str(len(head) + path.stat().st_size + len(end))
    target = f"/upload/storage/v1/b/{BUCKET}/o?uploadType={kind}&name={quote(name, safe='')}"
    with path.open("rb") as file:
        body = (part for parts in ([head], iter(lambda: file.read(1 << 20), b""), [end]) for part in parts)
        connection.request("POST", target, body, headers)
        if connection.getresponse().status != http.HTTPStatus.OK:
            raise RuntimeError(name)
    connection.close()


if __name__ == "__main__":
    main()
