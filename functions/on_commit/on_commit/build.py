"""Whether the build that a commit names is whole, and what asking for it takes."""

from __future__ import annotations

from dataclasses import replace

from model_repository.commit import LiveCommit
from model_repository.deployment import DeploymentRequest
from model_repository.digests import sha256_digest
from model_repository.errors import BuildIncomplete, DocumentMalformed, ModelUnknown, ObjectMissing
from model_repository.files import check_files
from model_repository.index_manifest import IndexManifest, ModelReference
from model_repository.names import IndexPrefix
from model_repository.repository import read_index_manifest, read_model_manifest
from model_repository.store import Store, StoredObject

_MOST_MODELS = 256


class Builds:
    """Checks builds. Models are immutable: one that was seen whole is remembered for as long as this lives."""

    def __init__(self, store: Store) -> None:
        """Check the builds of `store`."""
        self._store = store
        self._whole: dict[ModelReference, int] = {}

    def check(self, live: LiveCommit) -> DeploymentRequest:
        """The request for the build of `live`, once every file of it and of its model was seen as promised.

        Two reads of the bucket; two more where the model is met for the first time. Raises `ObjectMissing`,
        `DocumentMalformed`, `BuildIncomplete` or `ModelUnknown`, and what the store raises.
        """
        manifest, stored = self._manifest(live.commit.index_prefix)
        prefix = str(manifest.prefix)
        check_files(prefix, manifest.files, self._store.listing(f"{prefix}/"))
        dimensions = self._model_dimensions(manifest.model)
        if dimensions != manifest.dimensions:
            raise ModelUnknown(
                f"{manifest.prefix.manifest}: vectors of {manifest.dimensions} dimensions, but {manifest.model.prefix} "
                f"makes {dimensions}: the index was built with another model; build it again and commit that"
            )
        return DeploymentRequest.of(
            live,
            manifest,
            bucket=self._store.bucket,
            index_generation=stored.generation,
            index_digest=sha256_digest(stored.data),
        )

    def _manifest(self, prefix: IndexPrefix) -> tuple[IndexManifest, StoredObject]:
        try:
            return read_index_manifest(self._store, prefix)
        except ObjectMissing:
            hint = "no such build, or its upload did not finish; commit one that is there"
            raise ObjectMissing(prefix.manifest, hint) from None

    def _model_dimensions(self, model: ModelReference) -> int:
        # by the whole reference: another index.json may promise other files of the same model
        known = replace(model, files=tuple(sorted(model.files)))
        if known not in self._whole:
            found = self._look_at_model(model)
            if len(self._whole) >= _MOST_MODELS:
                self._whole.clear()
            self._whole[known] = found
        return self._whole[known]

    def _look_at_model(self, model: ModelReference) -> int:
        """The dimensions of a model whose files are all there, and whose model.json is the promised one."""
        mend = "upload the model, or build the index again with one that is there"
        try:
            check_files(str(model.prefix), model.files, self._store.listing(f"{model.prefix}/"))
            manifest, digest = read_model_manifest(self._store, model.prefix)
        except (BuildIncomplete, ObjectMissing, DocumentMalformed) as error:
            raise ModelUnknown(f"{error}; {mend}") from error
        if digest != model.digest:
            raise ModelUnknown(
                f"{model.prefix.manifest}: its digest is {digest}, but the index was built with {model.digest}; {mend}"
            )
        return manifest.dimensions
