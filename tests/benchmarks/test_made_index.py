"""The builds that benchmarks search and deploy are such as the batch makes, and nothing is made in vain."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import bench_search, made_index
from benchmarks.made_index import FILES, item_id
from benchmarks.search.bare import Bare
from model_repository.documents.index_manifest import Engine, Storage


@pytest.mark.parametrize("engine", Engine)
def test_a_build_in_several_parts_is_searched_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: Engine
) -> None:
    monkeypatch.setattr(made_index, "PART_ITEMS", 200)

    data, manifest = made_index.made_index(300, 16, engine, Storage.FLOAT32, tmp_path)

    assert [part.items for part in manifest.partitions] == [200, 100]
    assert manifest.recall.value >= made_index.RECALL
    assert {golden.item for golden in manifest.golden_queries} >= {item_id(0), item_id(200)}
    bare = Bare(data, manifest)
    for item in (0, 199, 200, 299):
        found = bare.similar(item, 20)
        assert len({number for _, number in found} - {item}) == 20
        assert found == sorted(found)


def test_a_build_of_an_older_contract_is_made_anew_and_one_of_today_s_kept(tmp_path: Path) -> None:
    data, _ = made_index.made_index(300, 8, Engine.ANNOY, Storage.FLOAT32, tmp_path)
    described = data / FILES / "index.json"
    today, written = described.read_text(), described.stat().st_mtime_ns

    made_index.made_index(300, 8, Engine.ANNOY, Storage.FLOAT32, tmp_path)
    assert described.stat().st_mtime_ns == written

    described.write_text("{}")
    made_index.made_index(300, 8, Engine.ANNOY, Storage.FLOAT32, tmp_path)
    assert len(described.read_text()) > len(today) // 2


def test_a_missing_load_generator_is_said_before_anything_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("sys.argv", ["bench_search", "--items", "300"])

    with pytest.raises(SystemExit, match="needs wrk and taskset: apt-get install wrk"):
        bench_search.main()

    assert not (tmp_path / "cache").exists()
