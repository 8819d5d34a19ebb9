"""One peer, one build, one process: ``peers.py PEER ENDPOINT BUCKET PREFIX OUT`` pulls the folder PREFIX into OUT."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

_BIG = 64 * 1024 * 1024


def kserve(endpoint: str, bucket: str, prefix: str, out: Path) -> None:
    """kserve-storage, as an InferenceService's storage initialiser calls it."""
    del endpoint
    from kserve_storage import Storage  # noqa: PLC0415

    Storage.download(f"gs://{bucket}/{prefix}", str(out))


def _blobs(bucket: str, prefix: str) -> tuple[Any, list[Any]]:
    from google.auth.credentials import AnonymousCredentials  # noqa: PLC0415
    from google.cloud import storage  # noqa: PLC0415

    client = storage.Client(project="p", credentials=AnonymousCredentials())
    handle = client.bucket(bucket)
    return handle, list(client.list_blobs(handle, prefix=prefix + "/"))


def download_to_filename(endpoint: str, bucket: str, prefix: str, out: Path) -> None:
    """google-cloud-storage, one blob after another."""
    del endpoint
    for blob in _blobs(bucket, prefix)[1]:
        blob.download_to_filename(str(out / blob.name.rsplit("/", 1)[1]))


def transfer_manager(bucket: str, prefix: str, out: Path, *, kind: str, workers: int, chunk: int) -> None:
    """google-cloud-storage's transfer manager: big blobs in chunks, small ones side by side."""
    from google.cloud.storage import transfer_manager as tm  # noqa: PLC0415

    handle, blobs = _blobs(bucket, prefix)
    for blob in blobs:
        if blob.size > _BIG:
            path = str(out / blob.name.rsplit("/", 1)[1])
            tm.download_chunks_concurrently(
                blob, path, chunk_size=chunk * 1024 * 1024, worker_type=kind, max_workers=workers
            )
    names = [blob.name[len(prefix) + 1 :] for blob in blobs if blob.size <= _BIG]
    results = tm.download_many_to_path(
        handle,
        names,
        destination_directory=str(out),
        blob_name_prefix=prefix + "/",
        worker_type=kind,
        max_workers=workers,
    )
    for result in results:
        if isinstance(result, Exception):
            raise result


def _obstore(endpoint: str, bucket: str) -> Any:  # noqa: ANN401 - a peer's own type
    from obstore.store import GCSStore  # noqa: PLC0415

    account = {"gcs_base_url": endpoint, "disable_oauth": True, "client_email": "", "private_key": ""}
    options = {"allow_http": True, "allow_invalid_certificates": True, "timeout": "600s"}
    return GCSStore(
        bucket,
        service_account_key=json.dumps({**account, "private_key_id": ""}),
        skip_signature=True,
        client_options=options,
    )


def with_obstore(endpoint: str, bucket: str, prefix: str, out: Path) -> None:
    """obstore: a stream for each object, 16 objects at a time; its XML listing is left out."""
    store = _obstore(endpoint, bucket)

    async def fetch(name: str, limit: asyncio.Semaphore) -> None:
        async with limit:
            answer = await store.get_async(f"{prefix}/{name}")
            with (out / name).open("wb") as file:
                async for piece in answer.stream(min_chunk_size=4 * 1024 * 1024):
                    file.write(piece)

    async def run() -> None:
        limit = asyncio.Semaphore(16)
        await asyncio.gather(*(fetch(name, limit) for name in _names()))

    asyncio.run(run())


def with_obstore_in_ranges(endpoint: str, bucket: str, prefix: str, out: Path) -> None:
    """Obstore as one would write a puller with it: ranges of 32 MiB, 8 at once, crc32c summed, written with pwrite."""
    import google_crc32c  # noqa: PLC0415

    store = _obstore(endpoint, bucket)
    step = 32 * 1024 * 1024

    async def fetch(name: str, file: int, start: int, limit: asyncio.Semaphore) -> None:
        async with limit:
            piece = bytes(await store.get_range_async(f"{prefix}/{name}", start=start, length=step))
            google_crc32c.value(piece)
            os.pwrite(file, piece, start)

    async def run() -> None:
        limit = asyncio.Semaphore(8)
        ranges = []
        for name in _names():
            size = (await store.head_async(f"{prefix}/{name}"))["size"]
            file = os.open(out / name, os.O_WRONLY | os.O_CREAT)
            ranges += [fetch(name, file, start, limit) for start in range(0, size, step)]
        await asyncio.gather(*ranges)

    asyncio.run(run())


def with_opendal(endpoint: str, bucket: str, prefix: str, out: Path) -> None:
    """opendal: a reader for each object, 16 objects at a time."""
    import opendal  # noqa: PLC0415

    options = {"allow_anonymous": "true", "disable_vm_metadata": "true", "disable_config_load": "true"}
    operator = opendal.Operator("gcs", bucket=bucket, endpoint=endpoint, skip_signature="true", **options)

    def fetch(name: str) -> None:
        with operator.open(f"{prefix}/{name}", "rb") as source, (out / name).open("wb") as file:
            while piece := source.read(4 * 1024 * 1024):
                file.write(piece)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(fetch, _names()))


def _names() -> list[str]:
    return Path(os.environ["BENCH_NAMES"]).read_text().split()


def main() -> None:
    """Run one peer."""
    peer, endpoint, bucket, prefix, out = sys.argv[1:6]
    functions = {
        "kserve": kserve,
        "download_to_filename": download_to_filename,
        "obstore": with_obstore,
        "obstore_ranged": with_obstore_in_ranges,
        "opendal": with_opendal,
    }
    if peer.startswith("transfer_manager"):
        _, kind, workers, chunk = peer.split(":")
        transfer_manager(bucket, prefix, Path(out), kind=kind, workers=int(workers), chunk=int(chunk))
    else:
        functions[peer](endpoint, bucket, prefix, Path(out))


if __name__ == "__main__":
    main()
