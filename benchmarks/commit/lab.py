"""What both designs work on: one node, one bucket, the same builds in it."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.commit.builds import Synthetic, synthetic
from benchmarks.commit.node import Node
from benchmarks.made_index import FILES, INDEX, item_id, made_index
from local_stack.demo.search import Search
from manifests import metadata as marks
from model_repository.digests import sha256_digest
from model_repository.documents.files import File
from model_repository.documents.index_manifest import INDEX_MANIFEST_LIMIT, Engine, Storage, parse_index_manifest
from model_repository.errors import ObjectMissing
from model_repository.names import IndexPrefix
from model_repository.repository import read_build
from tests.kubernetes.installation import NAMESPACE, STAND_INS
from tests.kubernetes.kube import Kube, until
from tests.kubernetes.node_scene import Scene

PATIENCE = 900.0


@dataclass(frozen=True)
class Uploaded:
    """A build in the bucket. size: bytes. manifest: its index.json. item: one of its own."""

    size: int
    prefix: IndexPrefix
    manifest: bytes
    item: str

    @property
    def digest(self) -> str:
        """Of index.json."""
        return sha256_digest(self.manifest)


@dataclass(frozen=True)
class Lab:
    """The node, and what is installed on it."""

    node: Node
    kube: Kube
    scene: Scene

    def uids(self, namespace: str, labels: dict[str, str]) -> list[str]:
        """Of the pods with these labels."""
        return [pod["metadata"]["uid"] for pod in self.kube.pods(namespace, labels)]

    def bucket_pods(self) -> list[str]:
        """Uids of the bucket's."""
        return self.uids(STAND_INS, {"app": "google"})

    def function_pods(self) -> list[str]:
        """Uids of the function's."""
        return self.uids(STAND_INS, {"app": "on-commit"})

    def webhook_pods(self) -> list[str]:
        """Uids of the CD webhook's."""
        return self.uids(NAMESPACE, {marks.NAME: "indexpush-cd-webhook"})

    def answered(self, namespace: str, generation: int) -> float:
        """Wait for the first answer of `generation` through the Service; gives its time in seconds since the epoch."""

        def look() -> float | None:
            address = self.kube.service_address(namespace, INDEX)
            try:
                served = address and Search(f"http://{address}").status()["generation"]
            except (OSError, AssertionError, ValueError):
                return None
            return time.time() if str(served) == str(generation) else None

        return until(look, f"an answer of {generation}", PATIENCE)

    def alone(self, namespace: str, labels: dict[str, str], item: str) -> None:
        """Wait until the old pods are gone, then ask the new one about an item."""
        until(lambda: len(self.kube.pods(namespace, labels)) == 1, "the old pods to leave", PATIENCE)
        address = self.kube.service_address(namespace, INDEX)
        search = Search(f"http://{address}")
        until(lambda: _asked(search, item), "neighbours", 60.0)


def _asked(search: Search, item: str) -> bool:
    try:
        return len(search.similar(item, 5)) == 5
    except (OSError, AssertionError):
        return False


def upload(scene: Scene, sizes: Iterable[int]) -> dict[int, Uploaded]:
    """Put a build of each size into the bucket, with the model of the scene's own build; each is made if need be."""
    model = read_build(scene.store, scene.build).manifest.models[0]
    found = {}
    for size in sizes:
        built: Synthetic = synthetic(size)
        prefix = IndexPrefix(INDEX, f"b{size}")
        manifest = built.manifest(prefix, model)
        parse_index_manifest(manifest, prefix)
        _upload(scene, prefix, manifest, built.folder, built.files)
        found[size] = Uploaded(size, prefix, manifest, "item-00-000007")
    return found


def upload_engines(scene: Scene, items: int, dimensions: int, engines: Iterable[Engine]) -> dict[Engine, Uploaded]:
    """Put a build of the same items by each engine into the bucket, as the batch builds them; HNSW keeps int8."""
    found = {}
    for engine in engines:
        storage = Storage.INT8 if Storage.INT8.suits(engine) else Storage.FLOAT32
        folder, built = made_index(items, dimensions, engine, storage)
        manifest = (folder / FILES / "index.json").read_bytes()
        _upload(scene, built.prefix, manifest, folder / FILES, built.files)
        size = sum(file.size for file in built.files)
        found[engine] = Uploaded(size, built.prefix, manifest, item_id(0))
    return found


def _upload(scene: Scene, prefix: IndexPrefix, manifest: bytes, folder: Path, files: Iterable[File]) -> None:
    if not _is_there(scene, prefix, manifest):
        for file in files:
            scene.store.upload(f"{prefix}/{file.name}", folder / file.name, if_generation_match=None)
        scene.store.write(prefix.manifest, manifest, if_generation_match=None)


def _is_there(scene: Scene, prefix: IndexPrefix, manifest: bytes) -> bool:
    """On a kept node a watcher may be running, which would bake what is uploaded again."""
    try:
        return scene.store.read(prefix.manifest, limit=INDEX_MANIFEST_LIMIT).data == manifest
    except ObjectMissing:
        return False
