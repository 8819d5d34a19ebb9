"""Bad builds, made from a good one: each is wrong in exactly one way."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import google_crc32c

from model_repository.digests import format_crc32c
from model_repository.item_ids import ItemIds, encode_item_ids
from model_repository.names import IndexPrefix
from model_repository.store import Store

Manifest = dict[str, Any]
Files = dict[str, bytes]
_LARGEST = 1 << 30


def copy_build(
    store: Store, good: IndexPrefix, bad: IndexPrefix, change: Callable[[Manifest, Files], None]
) -> IndexPrefix:
    """Upload the build at `good` again at `bad`, after `change` had its way with the manifest and the files."""
    manifest: Manifest = json.loads(store.read(good.manifest, limit=_LARGEST).data)
    files = {entry["name"]: store.read(f"{good}/{entry['name']}", limit=_LARGEST).data for entry in manifest["files"]}
    manifest["build"] = bad.build
    change(manifest, files)
    for name, data in files.items():
        store.write(f"{bad}/{name}", data, if_generation_match=0)
    store.write(bad.manifest, json.dumps(manifest).encode(), if_generation_match=0)
    return bad


def truncate_annoy_file(manifest: Manifest, files: Files) -> None:
    """Cut a tenth off the first Annoy file: Annoy itself would load it without a word."""
    name = manifest["partitions"][0]["file"]
    files[name] = files[name][: len(files[name]) * 9 // 10]


def state_wrong_crc32c(manifest: Manifest, _files: Files) -> None:
    """Let the manifest state another crc32c than the bytes have."""
    manifest["files"][0]["crc32c"] = format_crc32c(google_crc32c.value(b"not these bytes"))


def shuffle_item_ids(manifest: Manifest, files: Files) -> None:
    """Give every item of the first partition its neighbor's id; all digests are right, only the answers are wrong."""
    name = manifest["partitions"][0]["ids"]
    ids = list(ItemIds(files[name], name))
    files[name] = encode_item_ids([*ids[1:], ids[0]])
    for entry in manifest["files"]:
        if entry["name"] == name:
            entry["size"] = len(files[name])
            entry["crc32c"] = format_crc32c(google_crc32c.value(files[name]))


def refer_to(model: Manifest) -> Callable[[Manifest, Files], None]:
    """Let the manifest name another model."""

    def change(manifest: Manifest, _files: Files) -> None:
        manifest["model"] = model

    return change
