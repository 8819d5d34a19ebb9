"""The index that the search benchmark makes is one that today's server takes."""

from __future__ import annotations

from pathlib import Path

from benchmarks.bench_search import PREFIX, make_data
from model_repository.digests import sha256_digest
from model_repository.documents.index_manifest import parse_index_manifest


def test_an_index_of_an_older_contract_is_replaced_and_its_vectors_are_kept(tmp_path: Path) -> None:
    make_data(tmp_path, 300, 8, 2)
    vectors, described = tmp_path / "vectors.ann", tmp_path / "index" / "index.json"
    made = vectors.stat().st_mtime_ns
    described.write_text("{}")

    environment = make_data(tmp_path, 300, 8, 2)

    assert vectors.stat().st_mtime_ns == made
    assert environment["INDEX_DIGEST"] == sha256_digest(described.read_bytes())
    manifest = parse_index_manifest(described.read_bytes(), PREFIX)
    assert manifest.partitions[0].dimensions == manifest.models[0].dimensions == 8
    assert manifest.golden_queries[0].neighbors[0] == "item-0000000"
