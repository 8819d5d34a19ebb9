"""Bad builds and commits, made from a good one: each is wrong in exactly one way."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import google_crc32c

from model_repository.bucket.store import Store
from model_repository.digests import format_crc32c, sha256_digest
from model_repository.documents.items.item_ids import ItemIds, encode_item_ids, encode_item_lookup
from model_repository.documents.receipts.receipt import Outcome
from model_repository.names import IndexPrefix

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


def truncate_vectors(manifest: Manifest, files: Files) -> None:
    """Cut a tenth off the first file of vectors: an engine may load it without a word."""
    name = manifest["partitions"][0]["file"]
    files[name] = files[name][: len(files[name]) * 9 // 10]


def state_wrong_crc32c(manifest: Manifest, _files: Files) -> None:
    """Let the manifest state another crc32c than the bytes have."""
    manifest["files"][0]["crc32c"] = format_crc32c(google_crc32c.value(b"not these bytes"))


def shuffle_item_ids(manifest: Manifest, files: Files) -> None:
    """Give every item of each partition its neighbor's id, everywhere: all files agree, only the answers are wrong."""
    shuffled = []
    of_files: dict[str, list[str]] = {}
    for partition in manifest["partitions"]:
        name = partition["ids"]
        ids = list(ItemIds(files[name], name).part(partition.get("first", 0), partition["items"]))
        shuffled.append([*ids[1:], ids[0]])
        of_files.setdefault(name, []).extend(shuffled[-1])  # partitions that share a file follow each other in it
    files |= {name: encode_item_ids(ids) for name, ids in of_files.items()}
    files[manifest["lookup"]] = encode_item_lookup(shuffled)
    for entry in manifest["files"]:
        entry["size"] = len(files[entry["name"]])
        entry["crc32c"] = format_crc32c(google_crc32c.value(files[entry["name"]]))


def refer_to(model: Manifest) -> Callable[[Manifest, Files], None]:
    """Let the manifest name another model."""

    def change(manifest: Manifest, _files: Files) -> None:
        manifest["models"] = [model]

    return change


def model_of_other_dimensions(store: Store, good: IndexPrefix) -> Manifest:
    """Upload the model of a good build again as one that makes vectors of half the length; gives a reference to it."""
    reference: Manifest = json.loads(store.read(good.manifest, limit=_LARGEST).data)["models"][0]
    old, new = reference["prefix"], "models/half/1"
    model: Manifest = json.loads(store.read(f"{old}/model.json", limit=_LARGEST).data)
    dimensions = model["output"]["dimensions"] // 2
    model |= {"model": "half", "version": "1", "output": model["output"] | {"dimensions": dimensions}}
    files = {"model.json": json.dumps(model).encode()}
    for entry in model["files"]:
        files[entry["name"]] = store.read(f"{old}/{entry['name']}", limit=_LARGEST).data
    infos = [store.write(f"{new}/{name}", data, if_generation_match=0) for name, data in files.items()]
    entries = [{"name": i.name.removeprefix(f"{new}/"), "size": i.size, "crc32c": i.crc32c} for i in infos]
    return reference | {
        "prefix": new,
        "digest": sha256_digest(files["model.json"]),
        "dimensions": dimensions,
        "files": entries,
    }


def bad_commits(store: Store, good: IndexPrefix) -> Iterator[tuple[str, bytes, Outcome, str]]:
    """Commits that may not go live: what is wrong, the commit's bytes, and outcome and code of their receipt."""

    def bad(name: str, change: Callable[[Manifest, Files], None]) -> bytes:
        return commit_of(copy_build(store, good, IndexPrefix(good.index, name), change))

    rejected, undone = Outcome.REJECTED, Outcome.UNDONE
    yield "a truncated file", bad("truncated", truncate_vectors), rejected, "build-incomplete"
    yield "a wrong crc32c", bad("wrong-crc32c", state_wrong_crc32c), rejected, "build-incomplete"
    other = refer_to(model_of_other_dimensions(store, good))
    yield "a model of other dimensions", bad("other-model", other), rejected, "document-malformed"
    yield "a build that isn't there", commit_of(IndexPrefix(good.index, "nowhere")), rejected, "object-missing"
    yield "a commit that is not JSON", b"indexes/home-store/latest\n", rejected, "document-malformed"
    yield "item ids shuffled, digests right", bad("shuffled", shuffle_item_ids), undone, "pod-refused-data"


def commit_of(prefix: IndexPrefix) -> bytes:
    """The commit of a build."""
    return json.dumps({"index_prefix": str(prefix)}).encode()
