"""The model on this machine and in the bucket."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from embedding_batch.errors import NameTaken
from embedding_batch.steps.publish.models import LocalModel, local_model, new_model, publish_model, published_model
from image_embedder import Embedder, preprocess
from model_repository.documents.model_manifest import ModelInput
from model_repository.documents.references import ModelReference
from model_repository.errors import BuildIncomplete, DocumentMalformed
from model_repository.names import ModelPrefix
from model_repository.repository import read_model_manifest
from tests.memory_store import MemoryStore
from tools.make_model.variants import VARIANTS, WeightsMissing, weights_path

LITE0 = "efficientnet-lite0"
NOW = datetime(2026, 11, 21, tzinfo=UTC)


@pytest.fixture
def model(cache: Path) -> LocalModel:
    return local_model(LITE0, cache / "models")


@pytest.fixture
def pictures(home_store: Path) -> list[bytes]:
    return [(home_store / "images" / f"{name}.jpg").read_bytes() for name in ("chair-1", "lamp-1")]


@pytest.fixture
def publish(model: LocalModel, pictures: list[bytes]) -> Callable[[MemoryStore], ModelReference]:
    return lambda store: publish_model(store, model, new_model(model, pictures, NOW))


def test_a_model_is_made_once_and_named_by_its_bytes(model: LocalModel, cache: Path) -> None:
    made = model.path.stat().st_mtime_ns
    again = local_model(LITE0, cache / "models")
    assert (again.prefix, again.path, again.sha256) == (model.prefix, model.path, model.sha256)
    assert again.path.stat().st_mtime_ns == made
    assert model.sha256 == hashlib.sha256(model.path.read_bytes()).hexdigest()
    assert str(model.prefix) == f"models/efficientnet-lite0/0.1.0-{model.sha256[:12]}"


def test_a_cached_model_that_the_disk_damaged_is_made_again(tmp_path: Path) -> None:
    made = local_model(LITE0, tmp_path)
    made.path.write_bytes(made.path.read_bytes()[:-1] + b"?")
    assert local_model(LITE0, tmp_path).path == made.path
    assert hashlib.sha256(made.path.read_bytes()).hexdigest() == made.sha256


def test_it_is_what_it_says(model: LocalModel) -> None:
    assert (model.takes, model.dimensions) == (ModelInput(224), 1280)


def test_weights_that_are_not_installed_are_asked_for_by_name() -> None:
    with pytest.raises(WeightsMissing, match=r"no-such-package==0\.1\.0"):
        weights_path(replace(VARIANTS[LITE0], distribution="no-such-package"))


def test_other_weights_than_the_checked_ones_are_refused() -> None:
    with pytest.raises(WeightsMissing, match="install that version"):
        weights_path(replace(VARIANTS[LITE0], weights_sha256="0" * 64))


def test_a_published_model_is_whole_and_says_what_a_server_must_reproduce(
    model: LocalModel, pictures: list[bytes], publish: Callable[[MemoryStore], ModelReference]
) -> None:
    store = MemoryStore()
    reference = publish(store)
    manifest, digest = read_model_manifest(store, model.prefix)
    assert digest == reference.digest
    listed = {info.name.removeprefix(f"{model.prefix}/"): (info.size, info.crc32c) for info in store.listing("models/")}
    assert listed == {file.name: (file.size, file.crc32c) for file in reference.files}
    embedder = Embedder(model.path)
    for recorded, golden in zip(pictures, manifest.golden_images, strict=True):
        picture = store.read(f"{model.prefix}/{golden.image}", limit=2**20).data
        vector = np.frombuffer(store.read(f"{model.prefix}/{golden.embedding}", limit=2**20).data, "<f4")
        assert picture == recorded
        assert embedder.embed(preprocess(picture, ModelInput(224))[np.newaxis])[0] @ vector > 0.99999


def test_a_model_that_is_there_is_not_uploaded_again(
    model: LocalModel, publish: Callable[[MemoryStore], ModelReference]
) -> None:
    store = MemoryStore()
    assert published_model(store, model) is None
    first = publish(store)
    generations = [info.generation for info in store.listing("")]
    assert publish(store) == published_model(store, model) == first
    assert [info.generation for info in store.listing("")] == generations


def test_another_model_under_the_same_name_is_refused(
    model: LocalModel, publish: Callable[[MemoryStore], ModelReference], tmp_path: Path
) -> None:
    store = MemoryStore()
    publish(store)
    other = replace(model, path=tmp_path / "other.onnx")
    other.path.write_bytes(b"another model")
    with pytest.raises(NameTaken, match="models are immutable"):
        published_model(store, other)


def test_a_model_that_lost_a_file_is_noticed(
    model: LocalModel, publish: Callable[[MemoryStore], ModelReference]
) -> None:
    store = MemoryStore()
    publish(store)
    store.delete(f"{model.prefix}/model.onnx")
    with pytest.raises(BuildIncomplete):
        published_model(store, model)


def test_a_model_json_that_nobody_can_read_is_named_with_the_mend_and_written_anew_once_it_is_deleted(
    model: LocalModel, publish: Callable[[MemoryStore], ModelReference]
) -> None:
    store = MemoryStore()
    publish(store)
    data = store.read(model.prefix.manifest, limit=2**20).data.replace(b".image", b".jpg?itok=x")
    store.write(model.prefix.manifest, data, if_generation_match=None)
    with pytest.raises(DocumentMalformed, match=rf"itok=x.*delete {model.prefix.manifest}: the next batch"):
        published_model(store, model)
    other = replace(model, prefix=ModelPrefix("other", "1"))
    assert published_model(store, other) is None
    store.delete(model.prefix.manifest)
    assert publish(store) == published_model(store, model)


def test_of_two_batches_that_publish_at_once_the_slower_takes_what_the_faster_wrote(
    model: LocalModel, pictures: list[bytes]
) -> None:
    class Raced(MemoryStore):
        """Another batch, with other pictures, is faster just before model.json would be written."""

        raced = False

        def write(self, name: str, data: bytes, *, if_generation_match: int | None) -> object:  # type: ignore[override]
            if name == model.prefix.manifest and not self.raced:
                self.raced = True
                self.reference = publish_model(self, model, new_model(model, pictures[:1], NOW))
            return super().write(name, data, if_generation_match=if_generation_match)

    store = Raced()
    assert publish_model(store, model, new_model(model, pictures, NOW)) == store.reference
