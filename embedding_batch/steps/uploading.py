"""Files into the bucket, each once: what is there already must be the same bytes."""

from __future__ import annotations

import io
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import google_crc32c

from embedding_batch.errors import NameTaken
from model_repository.digests import format_crc32c
from model_repository.documents.files import BLOCK_BYTES, File
from model_repository.errors import GenerationConflict
from model_repository.store import Store

UPLOADS = 8
"""At a time: small files wait for the bucket, not for the network."""

_CHUNK = 1024 * 1024
"""Divides BLOCK_BYTES."""


def describe_bytes(data: bytes, name: str) -> File:
    """Return what a manifest says of a file with these bytes."""
    return _describe(io.BytesIO(data), name)


def describe_file(path: Path, name: str) -> File:
    """Return what a manifest says of the file at `path`, without holding it in memory."""
    with path.open("rb") as stream:
        return _describe(stream, name)


def _describe(stream: BinaryIO, name: str) -> File:
    whole, size, blocks = google_crc32c.Checksum(), 0, []
    while chunk := stream.read(_CHUNK):
        if size % BLOCK_BYTES == 0:
            blocks.append(google_crc32c.Checksum())
        whole.update(chunk)
        blocks[-1].update(chunk)
        size += len(chunk)
    return File(name, size, _text(whole), tuple(map(_text, blocks)) if len(blocks) > 1 else ())


def _text(checksum: google_crc32c.Checksum) -> str:
    return format_crc32c(int.from_bytes(checksum.digest(), "big"))


def put(store: Store, name: str, content: bytes | Path) -> File:
    """Write an object that must not exist, or exists with the very same bytes: a batch that was killed goes on so.

    Returns the file, under the object's whole name. Raises NameTaken when other bytes stand there.
    """
    file = describe_bytes(content, name) if isinstance(content, bytes) else describe_file(content, name)
    try:
        if isinstance(content, bytes):
            info = store.write(name, content, if_generation_match=0)
        else:
            info = store.upload(name, content, if_generation_match=0)
    except GenerationConflict:
        there = store.stat(name)
        if there is None:  # deleted between the two looks; not ours to judge
            raise
        info = there
    if (info.size, info.crc32c) != (file.size, file.crc32c):
        raise NameTaken(
            f"{name}: stands in the bucket with other bytes ({info.size} with crc32c {info.crc32c}; "
            f"here {file.size} with {file.crc32c}); what is published is never changed: take a new name"
        )
    return file


def put_all(store: Store, prefix: str, contents: Mapping[str, bytes | Path]) -> tuple[File, ...]:
    """Write objects below `prefix`, several at a time; returns the files by name, relative to it."""

    def one(name: str) -> File:
        written = put(store, f"{prefix}/{name}", contents[name])
        return replace(written, name=name)

    with ThreadPoolExecutor(UPLOADS) as pool:
        return tuple(pool.map(one, sorted(contents)))
