"""A build that isn't what the batch made never becomes ready: exit 65, and the reason where a person finds it."""

from __future__ import annotations

import dataclasses
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model_repository.documents.index_manifest import GoldenQuery
from model_repository.errors import Misconfigured
from search_server.build.prove import difference
from search_server.config import Config

Start = Callable[..., Any]


def refused(build: Any, start: Start, **environment: str) -> str:
    """Start the server, see it leave with 65, and give its last words."""
    variables = {**build.environment(), **environment}
    server = start(variables, wait=False)
    status, log = server.wait()
    assert status == 65, log
    words = Path(variables["TERMINATION_LOG"]).read_text()
    assert log[-1]["severity"] == "CRITICAL"
    assert words == f"{log[-1]['code']}: {log[-1]['message']}"
    return words


def test_item_ids_that_were_shuffled_are_noticed(build: Any, start: Start) -> None:
    random.Random(1).shuffle(build.ids["chairs"])
    build.write_ids()
    build.seal()
    words = refused(build, start)
    assert words.startswith("proof-failed: golden query 'chair-0' of 'chairs'")
    assert "item ids or the vectors" in words


def test_item_ids_that_were_shuffled_within_their_file_alone_are_noticed(build: Any, start: Start) -> None:
    lookup = (build.index / "items.lookup").read_bytes()
    build.ids["lamps"].reverse()
    build.write_ids()
    (build.index / "items.lookup").write_bytes(lookup)
    build.seal()
    assert "items.lookup: doesn't find item 'lamp-24' at position 0 of 'lamps'" in refused(build, start)


def test_vectors_of_another_model_are_noticed(build: Any, start: Start) -> None:
    golden = build.golden
    build.vectors["lamps"] = list(np.random.default_rng(1).standard_normal((25, 48)))
    build.write_indexes()
    build.golden = golden
    build.seal()
    assert "golden query 'lamp-0' of 'lamps'" in refused(build, start)


def test_a_model_of_other_dimensions_is_noticed(build: Any, start: Start) -> None:
    build.dimensions = 40
    build.vectors = {name: [vector[:40] for vector in vectors] for name, vectors in build.vectors.items()}
    build.write_indexes()
    build.seal()
    words = refused(build, start)
    assert "models/blocks/1 embeds to 48 dimensions, indexes/home-store/20261121t1200z was built with 40" in words


def test_an_index_json_of_other_dimensions_than_its_files_is_noticed(build: Any, start: Start) -> None:
    build.dimensions = 47
    build.seal()
    assert "build-unfit: 0.ann" in refused(build, start)


def test_a_golden_image_that_embeds_to_something_else_is_noticed(build: Any, start: Start) -> None:
    (build.model_folder / "golden-0.jpg").write_bytes(build.picture(1))
    build.seal()
    words = refused(build, start)
    assert "golden image 'golden-0.jpg': embedded to cosine" in words
    assert "at least 0.999" in words


@pytest.mark.parametrize(
    ("name", "data", "word"),
    [
        ("golden-0.f32", b"\0" * 40, "isn't a vector of 48 numbers"),
        ("golden-0.f32", np.full(48, np.nan, "<f4").tobytes(), "isn't a vector of 48 numbers"),
        ("golden-0.jpg", b"no picture", "can't be embedded"),
        ("model.onnx", b"no model", "onnxruntime can't load it"),
    ],
)
def test_a_model_that_does_not_work_is_noticed(build: Any, start: Start, name: str, data: bytes, word: str) -> None:
    (build.model_folder / name).write_bytes(data)
    build.seal()
    assert word in refused(build, start)


@pytest.mark.parametrize("name", ["index/0.ann", "index/1.ids", "index/items.lookup", "models/blocks/1/model.onnx"])
def test_a_file_cut_short_is_noticed_before_it_is_mapped(build: Any, start: Start, name: str) -> None:
    path = build.data / name
    os.truncate(path, path.stat().st_size * 9 // 10)
    words = refused(build, start)
    assert words.startswith("build-unfit: ")
    assert f"{name.rpartition('/')[2]}: has" in words


def test_a_missing_file_is_noticed(build: Any, start: Start) -> None:
    (build.index / "1.ann").unlink()
    assert "1.ann: No such file" in refused(build, start)


def test_another_index_json_than_the_deployment_asks_for_is_noticed(build: Any, start: Start) -> None:
    words = refused(build, start, INDEX_DIGEST="sha256:" + "0" * 64)
    assert "index.json: its digest is sha256:" in words


def test_another_build_than_the_deployment_asks_for_is_noticed(build: Any, start: Start) -> None:
    assert "a build must stand where its manifest says" in refused(
        build, start, INDEX_PREFIX="indexes/home-store/other"
    )


def test_a_folder_that_nobody_pulled_into_is_noticed(build: Any, start: Start, tmp_path: Path) -> None:
    assert "No such file" in refused(build, start, DATA=str(tmp_path / "nowhere"))


def test_files_with_fewer_items_than_promised_are_noticed(build: Any, start: Start) -> None:
    build.ids["lamps"].append("lamp-25")  # has no vector
    build.write_ids()
    build.seal()
    assert "1.ann: has 25 items, index.json says 26" in refused(build, start)


@pytest.mark.parametrize("name", ["0.ann", "0.ids", "items.lookup"])
def test_files_that_are_something_else_are_noticed(build: Any, start: Start, name: str) -> None:
    path = build.index / name
    path.write_bytes(b"\0" * path.stat().st_size)
    build.seal()
    assert name in refused(build, start)


def test_an_item_id_that_is_not_utf8_is_noticed(build: Any, start: Start) -> None:
    path = build.index / "0.ids"
    path.write_bytes(path.read_bytes().replace(b"chair-7", b"chair-\xff"))
    build.seal()
    assert "isn't UTF-8" in refused(build, start)


def test_a_build_without_golden_questions_is_refused(build: Any, start: Start) -> None:
    build.golden = ()
    build.seal()
    assert "without a golden query" in refused(build, start)
    build.write_indexes()
    build.model = dataclasses.replace(build.model, golden_images=())
    build.seal()
    assert "nothing can be proved" in refused(build, start)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("COMMIT_GENERATION", ""),
        ("COMMIT_GENERATION", "-3"),
        ("INDEX_PREFIX", "indexes/../x"),
        ("INDEX_DIGEST", "md5:1"),
        ("PORT", "http"),
        ("PORT", "70000"),
        ("DRAIN_SECONDS", "soon"),
        ("ITEM_IMAGE_URL", "javascript:{id}"),
        ("ITEM_IMAGE_URL", "https://cdn.example/; script-src *{id}"),
        ("ITEM_IMAGE_URL", "https://cdn.example/fixed.jpg"),
        ("ITEM_IMAGE_URL", "https://{id}.example/x.jpg"),
        ("ITEM_NAMES_URL", "names.json"),
        ("ITEM_NAMES_URL", "https://cdn.example/names.json; script-src *"),
    ],
)
def test_a_wrong_configuration_is_refused_by_name(good_build: Any, name: str, value: str) -> None:
    with pytest.raises(Misconfigured, match=name):
        Config.from_environment({**good_build.environment(), name: value})


def test_a_misconfigured_server_leaves_with_64(good_build: Any, start: Start, tmp_path: Path) -> None:
    words = tmp_path / "words"
    environment = {**good_build.environment(), "INDEX_DIGEST": "", "TERMINATION_LOG": str(words)}
    status, _ = start(environment, wait=False).wait()
    assert status == 64
    assert words.read_text().startswith("misconfigured: INDEX_DIGEST is not set")


# the comparison itself

QUERY = GoldenQuery("chairs", "a", ("a", "b", "c", "d"), (0.0, 0.5, 0.5, 0.9))


@pytest.mark.parametrize(
    ("neighbors", "distances"),
    [
        (("a", "b", "c", "d"), (0.0, 0.5, 0.5, 0.9)),
        (("a", "c", "b", "d"), (0.0, 0.5, 0.5, 0.9)),  # a tie may be broken either way
        (("a", "b", "c", "e"), (0.0, 0.5, 0.5, 0.9)),  # at the end too
        (("a", "b", "c", "d"), (0.0, 0.50009, 0.49995, 0.9)),
        (("a", "b", "c", "d"), (0.0005, 0.5, 0.5, 0.9)),  # the cosine differs by 1e-7: rounding
    ],
)
def test_an_answer_that_is_the_same_up_to_ties_and_rounding_passes(
    neighbors: tuple[str, ...], distances: tuple[float, ...]
) -> None:
    assert difference(QUERY, neighbors, distances) is None


@pytest.mark.parametrize(
    ("neighbors", "distances", "word"),
    [
        (("a", "b", "c"), (0.0, 0.5, 0.5), "answered 3 neighbours"),
        (("a", "d", "c", "b"), (0.0, 0.5, 0.5, 0.9), "neighbour 1 is 'd'"),
        (("e", "b", "c", "d"), (0.0, 0.5, 0.5, 0.9), "neighbour 0 is 'e'"),
        (("a", "b", "c", "d"), (0.0, 0.5, 0.502, 0.9), "neighbour 2 has distance 0.502"),
        (("a", "b", "c", "d"), (0.0, 0.5, 0.5, float("nan")), "neighbour 3 has distance nan"),
    ],
)
def test_any_other_answer_fails(neighbors: tuple[str, ...], distances: tuple[float, ...], word: str) -> None:
    fault = difference(QUERY, neighbors, distances)
    assert fault is not None
    assert word in fault
