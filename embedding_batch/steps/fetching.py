"""Step `fetch`: the bytes of a shard's pictures are looked at, and those from the web are kept in the bucket."""

from __future__ import annotations

import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from typing import Any, Final, Self

import pyarrow as pa

from embedding_batch.pictures import Fetched, Picture, fetch
from embedding_batch.run import Run
from embedding_batch.state.items import KNOWN, REMOTE, SHARD_SCHEMA, WEB
from embedding_batch.state.tables import read_table, write_table
from model_repository.errors import GenerationConflict

FETCHED: Final = SHARD_SCHEMA.append(pa.field("reason", pa.string()))
"""reason: why a picture's bytes can't be had."""
_KEPT_AT_ONCE = 16


def kept(sha256: bytes) -> str:
    """The object with the bytes of a picture from the web."""
    return f"pictures/{sha256.hex()}"


def fetch_shard(run: Run, number: int) -> dict[str, Any]:
    """Look at the pictures of a shard; returns the step's record. Raises what `pictures.fetch` and the store do."""
    folder = run.folder
    shard = read_table(run.store, folder.table("shard", number), run.scratch).to_pylist()
    now = int(time.time())
    _forget_deleted(run, [row for row in shard if not _is_to_fetch(row, now, run.config.fresh_seconds)])
    wanted = {row["picture"]: row for row in shard if _is_to_fetch(row, now, run.config.fresh_seconds)}
    reasons: dict[str, str] = {}
    kept_as_it_was = 0
    with run.timed("fetch") as details:
        run.progress("fetch", 0, len(shard))
        pictures = (
            Picture(uri, row["version"], row["etag"], row["modified"], row["sha256"]) for uri, row in wanted.items()
        )
        fetching = fetch(pictures, politeness=run.config.politeness, open_bucket=run.bucket)
        with _Keeper(run) as keeper, closing(fetching):
            for done, one in enumerate(fetching, start=1):
                row = wanted[one.picture.uri]
                if one.sha256 is not None:
                    row |= {"sha256": one.sha256, "etag": one.etag, "modified": one.modified, "looked": now}
                    keeper.keep(one)
                elif row["sha256"] is not None and one.may_pass:  # it counts as what it was, and is asked for again
                    kept_as_it_was += 1
                else:
                    row["sha256"] = None
                    reasons[one.picture.uri] = one.reason or "the picture can't be had"
                run.progress("fetch", done + len(shard) - len(wanted), len(shard))
        run.progress("fetch", len(shard), len(shard))
        details.append(f"{len(wanted)} pictures looked at, {len(reasons)} of them can't be had")
    table = pa.Table.from_pylist([row | {"reason": reasons.get(row["picture"])} for row in shard], FETCHED)
    write_table(run.store, folder.table("fetched", number), table, run.scratch)
    return {"fetched": len(wanted), "missing": len(reasons), "kept_as_it_was": kept_as_it_was}


def _is_to_fetch(row: dict[str, Any], now: int, fresh_seconds: float) -> bool:
    """Whether its bytes aren't known, or may be others by now without its URI saying so; see `listing`."""
    return row["sha256"] is None or (
        row["version"] is None and row["picture"].startswith(REMOTE) and abs(row["looked"] - now) > fresh_seconds
    )


def _forget_deleted(run: Run, rows: list[dict[str, Any]]) -> None:
    """Pictures from the web that were kept, and deleted since, count as never seen: a model needs their bytes now."""
    kept_once = [row for row in rows if row["picture"].startswith(WEB)]
    with ThreadPoolExecutor(_KEPT_AT_ONCE) as pool:
        there = pool.map(lambda row: run.store.stat(kept(row["sha256"])), kept_once)
        for row, info in zip(kept_once, there, strict=True):
            if info is None:
                row.update(dict.fromkeys(KNOWN.names))


class _Keeper:
    """Keeps pictures from the web in the bucket, several at a time, named by their bytes."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._pool = ThreadPoolExecutor(_KEPT_AT_ONCE)
        self._writing: deque[Future[None]] = deque()

    def keep(self, fetched: Fetched) -> None:
        """Keep one, if it is from the web and new; raises what kept an earlier one from it."""
        while self._writing and (self._writing[0].done() or len(self._writing) >= 2 * _KEPT_AT_ONCE):
            self._writing.popleft().result()
        if fetched.data is not None and fetched.sha256 is not None and fetched.picture.uri.startswith(WEB):
            self._writing.append(self._pool.submit(self._write, kept(fetched.sha256), fetched.data))

    def _write(self, name: str, data: bytes) -> None:
        with suppress(GenerationConflict):
            self._run.store.write(name, data, if_generation_match=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._pool.shutdown(cancel_futures=kind is not None)
        if kind is None:
            for writing in self._writing:
                writing.result()
