"""The request to the CD side is complete, and is read as strictly as a document."""

from __future__ import annotations

from dataclasses import replace

import pytest

from model_repository.deployment import DeploymentRequest, Footprint, footprint
from model_repository.documents.files import File
from model_repository.documents.index_manifest import IndexManifest
from model_repository.errors import DocumentMalformed
from tests import builds
from tests.memory_store import MemoryStore

MIB = 1024 * 1024
REQUEST = builds.request(by="batch")


def manifest(index_bytes: int, model_bytes: int) -> IndexManifest:
    model = builds.model_reference(builds.model_manifest(), files=(File("model.json", model_bytes, "AAAAAA=="),))
    return builds.index_manifest(model=model, files=(File("0.annoy", index_bytes, "AAAAAA=="),))


def test_an_empty_build_still_needs_a_server() -> None:
    assert footprint(manifest(0, 0)) == Footprint(memory_mib=336 + 128 + 320, volume_mib=64, deadline_seconds=120)


def test_what_a_pod_needs_grows_with_what_it_maps_and_pulls() -> None:
    needs = footprint(manifest(1000 * MIB, 20 * MIB))
    assert needs == Footprint(
        memory_mib=336 + 1100 + 128 + 60 + 320, volume_mib=64 + 1071, deadline_seconds=120 + 51, model_mib=60
    )


def test_a_detector_is_pulled_and_mapped_like_a_model() -> None:
    detector = builds.publish_detector(MemoryStore(), files=(File("model.json", 20 * MIB, "AAAAAA=="),))
    whole = replace(manifest(1000 * MIB, 0), detector=detector)
    assert footprint(whole) == replace(footprint(manifest(1000 * MIB, 20 * MIB)), model_mib=0)  # it stays in the pod
    assert whole.bytes_to_pull == 1020 * MIB


def test_the_payload_is_what_spinnaker_reads() -> None:
    payload = REQUEST.to_payload()
    name = "gs://a-bucket/indexes/home/b1/index.json"
    generation = "1763683200000000"
    reference = f"{name}#{generation}"
    assert payload["artifacts"] == [
        {"type": "gcs/object", "name": name, "reference": reference, "version": generation},
    ]
    assert payload["parameters"]["generation"] == "1763683200000001"
    assert (payload["environment"], payload["index"]) == ("staging", "home")
    assert set(payload) == {"environment", "index", "parameters", "artifacts"}


def test_what_a_person_wrote_is_no_expression_for_a_spinnaker_to_evaluate() -> None:
    written = replace(REQUEST, by="${#fromUrl('http://internal')}", reason="costs $5, saves ${9 - 4}")
    parameters = written.to_payload()["parameters"]
    assert parameters["by"] == "$ {#fromUrl('http://internal')}"
    assert parameters["reason"] == "costs $5, saves $ {9 - 4}"
    assert DeploymentRequest.from_parameters(written.to_parameters()) == written


def test_a_parameter_that_is_missing_or_unknown_is_named() -> None:
    parameters = REQUEST.to_parameters()
    for field in set(parameters) - {"by", "reason", "models"}:
        with pytest.raises(DocumentMalformed, match=f"'{field}' is missing"):
            DeploymentRequest.from_parameters({k: v for k, v in parameters.items() if k != field})
    with pytest.raises(DocumentMalformed, match="unknown field 'extra'"):
        DeploymentRequest.from_parameters(parameters | {"extra": "1"})


def test_what_a_function_of_the_first_release_sends_is_read() -> None:
    parameters = {k: v for k, v in REQUEST.to_parameters().items() if k != "models"}
    parameters |= {"model_prefix": "models/lite/v1", "model_digest": builds.DIGEST}
    assert DeploymentRequest.from_parameters(parameters) == replace(REQUEST, models=())


def test_who_and_why_may_be_left_out() -> None:
    parameters = {k: v for k, v in REQUEST.to_parameters().items() if k not in {"by", "reason"}}
    assert DeploymentRequest.from_parameters(parameters) == replace(REQUEST, by="")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("environment", "Production"),
        ("index", "../home"),
        ("index", "garden"),
        ("generation", "0"),
        ("generation", "1.5"),
        ("bucket", "gs://a-bucket"),
        ("bucket", "a/bucket"),
        ("bucket", ""),
        ("index_prefix", "indexes/home/../b1"),
        ("index_generation", "-1"),
        ("index_digest", "ab" * 32),
        ("models", "models/lite"),
        ("models", "models/lite/1,,models/lite/2"),
        ("memory_mib", "0"),
        ("memory_mib", "1Gi"),
        ("memory_mib", "-5"),
        ("volume_mib", "\u0661"),
        ("volume_mib", "9" * 5000),
        ("deadline_seconds", ""),
        ("deadline_seconds", "1e3"),
    ],
)
def test_a_parameter_with_a_value_it_cannot_have_is_refused(field: str, value: str) -> None:
    with pytest.raises(DocumentMalformed, match="parameters"):
        DeploymentRequest.from_parameters(REQUEST.to_parameters() | {field: value})
