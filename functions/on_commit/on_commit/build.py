"""Whether the build that a commit names is whole, and what asking for it takes."""

from __future__ import annotations

from model_repository.commit import LiveCommit
from model_repository.deployment import DeploymentRequest
from model_repository.digests import sha256_digest
from model_repository.errors import ObjectMissing
from model_repository.files import check_files
from model_repository.index_manifest import IndexManifest
from model_repository.names import IndexPrefix
from model_repository.repository import read_index_manifest
from model_repository.store import Store, StoredObject


def check_build(store: Store, live: LiveCommit) -> DeploymentRequest:
    """The request for the build of `live`, once every file of it was seen as index.json promises.

    Two reads of the bucket. The model is not looked at: index.json says what it must be, byte for byte, and each pod
    holds what it pulled against that. Raises `ObjectMissing`, `DocumentMalformed` (also where index and model differ in
    dimensions) or `BuildIncomplete`, and what the store raises.
    """
    manifest, stored = _read_manifest(store, live.commit.index_prefix)
    prefix = str(manifest.prefix)
    check_files(prefix, manifest.files, store.listing(f"{prefix}/"))
    return DeploymentRequest.of(
        live,
        manifest,
        bucket=store.bucket,
        index_generation=stored.generation,
        index_digest=sha256_digest(stored.data),
    )


def _read_manifest(store: Store, prefix: IndexPrefix) -> tuple[IndexManifest, StoredObject]:
    try:
        return read_index_manifest(store, prefix)
    except ObjectMissing:
        hint = "no such build, or its upload did not finish; commit one that is there"
        raise ObjectMissing(prefix.manifest, hint) from None
