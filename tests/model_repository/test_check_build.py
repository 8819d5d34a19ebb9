"""A build is whole when every file of index and model is in the bucket as index.json promises."""

from __future__ import annotations

from dataclasses import replace

import pytest

from model_repository.builds import check_build
from model_repository.digests import sha256_digest
from model_repository.documents.model_manifest import ModelInput, format_model_manifest
from model_repository.errors import BuildIncomplete, DocumentMalformed, ModelUnknown, ObjectMissing
from model_repository.names import ModelPrefix
from tests import builds
from tests.memory_store import MemoryStore


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def test_a_whole_build_is_named_by_the_bytes_of_its_manifest(store: MemoryStore) -> None:
    manifest = builds.publish_build(store)
    found = check_build(store, builds.BUILD)
    stored = store.read(builds.BUILD.manifest, limit=10**6)
    assert (found.manifest, found.generation, found.digest) == (manifest, stored.generation, sha256_digest(stored.data))


def test_a_build_without_index_json_was_not_uploaded_to_its_end(store: MemoryStore) -> None:
    builds.publish_build(store)
    store.delete(builds.BUILD.manifest)
    with pytest.raises(ObjectMissing, match=r"indexes/home/b1/index\.json: .* no such build"):
        check_build(store, builds.BUILD)


def test_a_file_of_the_build_that_vanished_is_named(store: MemoryStore) -> None:
    builds.publish_build(store)
    store.delete("indexes/home/b1/0.annoy")
    with pytest.raises(BuildIncomplete, match=r"indexes/home/b1/0\.annoy: .* no such object"):
        check_build(store, builds.BUILD)


def test_a_file_of_the_model_that_vanished_is_named(store: MemoryStore) -> None:
    builds.publish_build(store)
    store.delete("models/lite/v1/model.onnx")
    with pytest.raises(BuildIncomplete, match=r"models/lite/v1/model\.onnx: .* no such object"):
        check_build(store, builds.BUILD)


def test_a_model_that_vanished_is_named(store: MemoryStore) -> None:
    builds.publish_build(store)
    store.delete(builds.MODEL.manifest)
    with pytest.raises(ModelUnknown, match=r"its model models/lite/v1 isn't in the bucket"):
        check_build(store, builds.BUILD)


def test_another_model_than_the_build_was_made_with_is_refused(store: MemoryStore) -> None:
    builds.publish_build(store)
    builds.publish_model(store, input=ModelInput(260))
    with pytest.raises(ModelUnknown, match=r"was built with a models/lite/v1/model\.json of digest sha256:"):
        check_build(store, builds.BUILD)


def test_a_model_of_other_dimensions_than_the_build_says_is_refused(store: MemoryStore) -> None:
    model = builds.publish_model(store)
    builds.publish_build(store, model=replace(model, dimensions=5))
    with pytest.raises(ModelUnknown, match="makes vectors of 5 dimensions, but it makes 4"):
        check_build(store, builds.BUILD)


def test_a_model_json_that_nobody_can_read_is_refused(store: MemoryStore) -> None:
    model = builds.publish_model(store)
    store.write(builds.MODEL.manifest, format_model_manifest(builds.model_manifest())[:-5], if_generation_match=None)
    builds.publish_build(store, model=model)
    with pytest.raises(DocumentMalformed, match=r"models/lite/v1/model\.json"):
        check_build(store, builds.BUILD)


def test_a_build_with_a_detector_is_whole_with_its_files(store: MemoryStore) -> None:
    detector = builds.publish_detector(store)
    builds.publish_build(store, detector=detector)
    assert check_build(store, builds.BUILD).manifest.detector == detector


@pytest.mark.parametrize(
    ("name", "error"),
    [("models/ssd/v1/model.onnx", BuildIncomplete), ("models/ssd/v1/model.json", ModelUnknown)],
)
def test_a_file_of_the_detector_that_vanished_is_named(store: MemoryStore, name: str, error: type[Exception]) -> None:
    builds.publish_build(store, detector=builds.publish_detector(store))
    store.delete(name)
    with pytest.raises(error, match=r"models/ssd/v1"):
        check_build(store, builds.BUILD)


def test_a_class_that_the_detector_does_not_find_is_refused(store: MemoryStore) -> None:
    builds.publish_build(store, detector=builds.publish_detector(store, categories={"Sofa": "chairs"}))
    with pytest.raises(ModelUnknown, match="finds 'Sofa', which is none of its classes"):
        check_build(store, builds.BUILD)


def test_an_embedder_is_no_detector(store: MemoryStore) -> None:
    other = ModelPrefix("lite", "v2")
    detector = builds.publish_detector(store, builds.detector_manifest(other))
    store.write(other.manifest, format_model_manifest(builds.model_manifest(other)), if_generation_match=None)
    builds.publish_build(store, detector=detector)
    with pytest.raises(DocumentMalformed, match="kind: is 'embedder'; what is needed here is of kind 'detector'"):
        check_build(store, builds.BUILD)
