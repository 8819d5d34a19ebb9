"""Files into the bucket, each once: what is there already must be the same bytes."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import google_crc32c

from embedding_batch.errors import NameTaken
from model_repository.bucket.store import Store
from model_repository.digests import format_crc32c
from model_repository.documents.files import BLOCK_BYTES, File
from model_repository.errors import GenerationConflict
from model_repository.names import IndexPrefix, ModelPrefix

UPLOADS = 8
"""At a time: small files wait for the bucket, not for the network."""

_CHUNK = 1024 * 1024
"""Divides BLOCK_BYTES."""

Content = bytes | Path


def describe(contents: Mapping[str, Content]) -> tuple[File, ...]:
    """Return what a manifest says of files with these contents, by name; those on disk are not held in memory."""
    files = []
    for name, content in sorted(contents.items()):
        with io.BytesIO(content) if isinstance(content, bytes) else content.open("rb") as stream:
            files.append(_describe(stream, name))
    return tuple(files)


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


def upload_files(
    store: Store, prefix: IndexPrefix | ModelPrefix, contents: Mapping[str, Content], files: Iterable[File]
) -> None:
    """Write a model's or a build's `files`, several at a time.

    What stands there already with the very same bytes is as good: a batch that was killed goes on so. Raises NameTaken
    when other bytes stand there.
    """
    with ThreadPoolExecutor(UPLOADS) as pool:
        list(pool.map(lambda file: _put(store, f"{prefix}/{file.name}", contents[file.name], file), files))


def upload_manifest(store: Store, prefix: IndexPrefix | ModelPrefix, manifest: bytes) -> None:
    """Write the manifest, when all of its files are there; otherwise as `upload_files`."""
    _put(store, prefix.manifest, manifest, *describe({prefix.manifest: manifest}))


def _put(store: Store, name: str, content: Content, file: File) -> None:
    try:
        if isinstance(content, bytes):
            there = store.write(name, content, if_generation_match=0)
        else:
            there = store.upload(name, content, if_generation_match=0)
    except GenerationConflict:
        standing = store.stat(name)
        if standing is None:  # deleted between the two looks; not ours to judge
            raise
        there = standing
    if (there.size, there.crc32c) != (file.size, file.crc32c):
        raise NameTaken(
            f"{name}: stands in the bucket with other bytes ({there.size} with crc32c {there.crc32c}; "
            f"here {file.size} with {file.crc32c}); what is published is never changed: take a new name"
        )
