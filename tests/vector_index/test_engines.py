"""Every engine and storage keeps the one contract of a vector index."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from annoy import AnnoyIndex
from numpy.typing import NDArray

from model_repository.documents.index_manifest import Engine, Storage
from vector_index import EngineUnfit, IndexFileUnsound, TakesLonger, VectorIndex, Visible, build_index, open_index
from vector_index.annoy_index import check_annoy

DIMENSIONS, ITEMS = 24, 400
KINDS = [(engine, storage) for engine in Engine for storage in Storage if storage.suits(engine)]
OFF = {Storage.FLOAT32: 1e-6, Storage.FP16: 1e-3, Storage.INT8: 0.05}
"""By how much a distance may be another than that of the vectors as they were given."""


def units(count: int, seed: int = 1) -> NDArray[np.float32]:
    vectors = np.random.default_rng(seed).normal(size=(count, DIMENSIONS)).astype(np.float32)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def made(path: Path, kind: tuple[Engine, Storage], vectors: NDArray[np.float32]) -> VectorIndex:
    build_index(path, vectors, *kind, trees=10, seed=1)
    return open_index(path, *kind, dimensions=DIMENSIONS, items=len(vectors))


@pytest.fixture(params=KINDS, ids="-".join)
def kind(request: pytest.FixtureRequest) -> tuple[Engine, Storage]:
    found: tuple[Engine, Storage] = request.param
    return found


@pytest.fixture
def index(tmp_path: Path, kind: tuple[Engine, Storage]) -> Iterator[VectorIndex]:
    opened = made(tmp_path / "a.index", kind, units(ITEMS))
    yield opened
    opened.close()


def test_a_file_that_can_not_be_written_is_an_error_of_files(tmp_path: Path, kind: tuple[Engine, Storage]) -> None:
    program = f"""
import resource
from pathlib import Path
from tests.vector_index.test_engines import build_index, units, Engine, Storage

resource.setrlimit(resource.RLIMIT_FSIZE, (4096, -1))
try:
    kind = Engine({kind[0].value!r}), Storage({kind[1].value!r})
    build_index(Path({str(tmp_path / "a.index")!r}), units(400), *kind, trees=10, seed=1)
except OSError:
    print("an error of files")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "an error of files\n", done.stderr


def test_what_is_said_of_a_full_disk_names_no_other_file(tmp_path: Path, kind: tuple[Engine, Storage]) -> None:
    if subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True).returncode:
        pytest.skip("needs the right to mount")
    program = f"""
from pathlib import Path
from tests.vector_index.test_engines import build_index, units, Engine, Storage

path, kind = Path({str(tmp_path / "a.index")!r}), (Engine({kind[0].value!r}), Storage({kind[1].value!r}))
try:
    build_index(path, units(400), *kind, trees=10, seed=1)
except OSError as error:
    print(error.filename in (None, str(path)), error)
"""
    script = 'mount -t tmpfs -o size=8k tmpfs "$0" && exec "$@"'
    command = ["unshare", "-m", "sh", "-c", script, str(tmp_path), sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.startswith("True "), done.stdout + done.stderr


def test_the_nearest_come_first_with_their_angular_distances(index: VectorIndex, kind: tuple[Engine, Storage]) -> None:
    query = units(1, seed=2)[0]
    similarities = units(ITEMS) @ query
    found = index.nearest(query, 10, 4000)
    exact = np.argsort(-similarities)[:10].tolist()
    assert len(set(exact) & set(found.positions)) >= (9 if kind[1] is Storage.INT8 else 10)
    assert found.distances == sorted(found.distances)
    assert found.distances == pytest.approx(np.sqrt(2 - 2 * similarities[found.positions]), abs=OFF[kind[1]])


def test_the_length_of_a_vector_is_of_no_account(index: VectorIndex) -> None:
    query = units(1, seed=2)[0]
    one, other = index.nearest(query, 5, 4000), index.nearest((query * 7).tolist(), 5, 4000)
    assert one.positions == other.positions
    assert one.distances == pytest.approx(other.distances, abs=1e-4)


def test_what_is_nearest_to_an_item_is_the_item(index: VectorIndex) -> None:
    for position in (0, 17, ITEMS - 1):
        found = index.nearest_to(position, 3, 4000)
        assert found.positions[0] == position
        assert found.distances[0] == pytest.approx(0, abs=1e-3)
        assert len(found.positions) == len(set(found.positions)) == 3


def test_a_vector_is_given_as_it_is_kept(index: VectorIndex, kind: tuple[Engine, Storage]) -> None:
    assert index.vector(5) == pytest.approx(units(ITEMS)[5].tolist(), abs=OFF[kind[1]])


def test_fewer_are_given_only_where_there_are_fewer(index: VectorIndex) -> None:
    assert len(index) == ITEMS
    assert sorted(index.nearest_to(3, ITEMS + 50, 1).positions) == list(range(ITEMS))
    assert len(index.nearest(units(1, 3)[0], 50, 1).positions) == 50


def test_all_are_found_that_are_equally_far_from_each_other(tmp_path: Path, kind: tuple[Engine, Storage]) -> None:
    path, axes = tmp_path / "a.index", np.eye(128, dtype=np.float32)[np.arange(ITEMS) % 128]
    build_index(path, axes, *kind, trees=10, seed=1)
    index = open_index(path, *kind, dimensions=128, items=ITEMS)
    # no graph of so few links leads from each to each
    assert sorted(index.nearest_to(0, ITEMS, 10).positions) == list(range(ITEMS))
    if kind[0] is Engine.FAISS_HNSW:
        with pytest.raises(TakesLonger):
            index.nearest_to(0, ITEMS, 10, patience=ITEMS - 1)
    index.close()


@pytest.mark.parametrize("same", [2, 40, 1000])
def test_among_many_vectors_that_are_the_same_all_others_are_found(
    tmp_path: Path, kind: tuple[Engine, Storage], same: int
) -> None:
    vectors = units(1500)
    places = np.random.default_rng(4).permutation(1500)[:same]
    vectors[places] = vectors[places[0]]
    index = made(tmp_path / "a.index", kind, vectors)
    for query in (*units(50, seed=2), vectors[places[0]]):
        found = index.nearest(query, 20, 60_000)
        assert len(set(found.positions)) == 20
        exact = np.sqrt(np.maximum(2 - 2 * np.sort(vectors @ query)[::-1][:20], 0))
        assert found.distances == pytest.approx(exact, abs=max(OFF[kind[1]], 1e-3))
    assert index.vector(int(places[-1])) == pytest.approx(vectors[places[0]], abs=OFF[kind[1]])
    all_of_them = index.nearest(vectors[places[0]], same, 60_000).positions
    assert sorted(all_of_them) == sorted(places.tolist())
    index.close()


def test_of_many_that_are_the_same_and_half_hidden_the_others_are_found(
    tmp_path: Path, kind: tuple[Engine, Storage]
) -> None:
    vectors = units(1500)
    places = np.random.default_rng(4).permutation(1500)[:1000]
    vectors[places] = vectors[places[0]]
    index = made(tmp_path / "a.index", kind, vectors)
    shown = Visible.but_for(np.sort(places)[::2], 1500)
    width = 60_000 if kind[0] is Engine.ANNOY else 10
    found = index.nearest(vectors[places[0]], 10, width, shown)
    assert set(found.positions) <= set(np.sort(places)[1::2].tolist())
    assert len(set(found.positions)) == 10
    index.close()


def test_beside_many_that_are_the_same_and_hidden_the_nearest_of_what_is_left_are_found(
    tmp_path: Path, kind: tuple[Engine, Storage]
) -> None:
    vectors = units(4000)
    places = np.random.default_rng(4).permutation(4000)[:2000]
    vectors[places] = vectors[places[0]]
    index = made(tmp_path / "a.index", kind, vectors)
    width = 8000 if kind[0] is Engine.ANNOY else 15
    stored = np.array([index.vector(position) for position in range(4000)])
    for left in (0, 5, 20):
        shown = Visible.but_for(places[left:], 4000)
        found = index.nearest(vectors[places[0]], 10, width, shown)
        away = np.linalg.norm(stored - vectors[places[0]], axis=1)
        away[places[left:]] = np.inf
        assert all(position in shown for position in found.positions)
        assert found.distances == pytest.approx(np.sort(away)[:10], abs=1e-3)
    index.close()


def test_a_search_among_what_is_hidden_ends_where_it_would_take_longer_than_it_may(
    tmp_path: Path, kind: tuple[Engine, Storage]
) -> None:
    vectors = units(4000)
    vectors[:2000] = vectors[0]
    index, shown = made(tmp_path / "a.index", kind, vectors), Visible.but_for(np.arange(2000), 4000)
    width = 200 if kind[0] is Engine.ANNOY else 15
    for asked in (partial(index.nearest, vectors[0]), partial(index.nearest_to, 0)):
        if kind[0] is Engine.EXACT:  # it takes as long whatever is hidden
            assert len(asked(10, width, shown, 500).positions) == 10
        else:
            with pytest.raises(TakesLonger):
                asked(10, width, shown, 500)
        assert len(asked(10, width, shown).positions) == 10
    assert len(index.nearest(vectors[3000], 10, width, shown, 500).positions) == 10
    index.close()


def test_of_many_that_are_the_same_each_build_finds_the_same_ones(tmp_path: Path, kind: tuple[Engine, Storage]) -> None:
    vectors, ids = units(600), np.arange(600)
    order = np.random.default_rng(4).permutation(600)
    vectors[order[:300]] = vectors[order[0]]
    kept = np.setdiff1d(ids, [*order[-10:], order[:300].max()])
    answers = []
    for name, of in (("before", ids), ("after", kept)):
        index = made(tmp_path / name, kind, vectors[of])
        answers.append(of[index.nearest(vectors[order[0]], 10, 60_000).positions].tolist())
        index.close()
    assert answers[0] == answers[1]


@pytest.mark.parametrize("items", [1, 2])
def test_a_partition_may_be_tiny(tmp_path: Path, kind: tuple[Engine, Storage], items: int) -> None:
    opened = made(tmp_path / "tiny", kind, units(items))
    assert opened.nearest_to(0, 5, 10).positions[0] == 0
    assert len(opened.nearest(units(1, 2)[0], 5, 10).positions) == items


def test_a_coarser_storage_takes_less_room(tmp_path: Path) -> None:
    vectors = np.tile(units(ITEMS), (1, 16))  # so wide that the graph's links weigh little
    sizes = []
    for storage in Storage:
        build_index(tmp_path / storage, np.ascontiguousarray(vectors / 4), Engine.FAISS_HNSW, storage, trees=1, seed=1)
        sizes.append((tmp_path / storage).stat().st_size)
    assert sizes[1] < 0.6 * sizes[0]
    assert sizes[2] < 0.4 * sizes[0]


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.9, 0.999])
def test_a_file_that_was_cut_is_refused(tmp_path: Path, kind: tuple[Engine, Storage], share: float) -> None:
    path = tmp_path / "a.index"
    made(path, kind, units(ITEMS)).close()
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    refused(path, kind)


def test_one_byte_too_few_is_refused(tmp_path: Path, kind: tuple[Engine, Storage]) -> None:
    path = tmp_path / "a.index"
    made(path, kind, units(ITEMS)).close()
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    refused(path, kind)


@pytest.mark.parametrize("dimensions", [DIMENSIONS - 1, 2 * DIMENSIONS])
def test_vectors_of_other_dimensions_are_refused(tmp_path: Path, kind: tuple[Engine, Storage], dimensions: int) -> None:
    path = tmp_path / "a.index"
    made(path, kind, units(ITEMS)).close()
    refused(path, kind, dimensions=dimensions)


@pytest.mark.parametrize("items", [ITEMS - 1, ITEMS + 1])
def test_another_number_of_vectors_is_refused(tmp_path: Path, kind: tuple[Engine, Storage], items: int) -> None:
    path = tmp_path / "a.index"
    made(path, kind, units(ITEMS)).close()
    refused(path, kind, items=items)


def test_a_file_of_another_engine_or_storage_is_refused(tmp_path: Path, kind: tuple[Engine, Storage]) -> None:
    path = tmp_path / "a.index"
    made(path, kind, units(ITEMS)).close()
    for other in KINDS:
        if other != kind:
            refused(path, other)


def refused(path: Path, kind: tuple[Engine, Storage], *, dimensions: int = DIMENSIONS, items: int = ITEMS) -> None:
    """Opening raises `IndexFileUnsound` that names the file; in a process of its own, which a crash would end."""
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_open, args=(path, kind, dimensions, items))
    process.start()
    process.join(60)
    assert process.exitcode == 3


def _open(path: Path, kind: tuple[Engine, Storage], dimensions: int, items: int) -> None:
    try:
        open_index(path, *kind, dimensions=dimensions, items=items)
    except IndexFileUnsound as error:
        raise SystemExit(3 if path.name in str(error) else 4) from None


def test_vectors_that_fit_into_one_leaf_have_one_tree_and_every_neighbour_is_found(tmp_path: Path) -> None:
    kind = (Engine.ANNOY, Storage.FLOAT32)
    one, most, more = (units(count) for count in (1, DIMENSIONS + 2, DIMENSIONS + 3))
    for number, (vectors, nodes) in enumerate(((one, 3), (most, DIMENSIONS + 4))):
        index = made(tmp_path / f"{number}.index", kind, vectors)
        assert (tmp_path / f"{number}.index").stat().st_size <= nodes * (12 + 4 * DIMENSIONS)
        assert sorted(index.nearest(vectors[0], len(vectors), 1).positions) == list(range(len(vectors)))
        index.close()
    made(tmp_path / "more.index", kind, more).close()
    assert (tmp_path / "more.index").stat().st_size > 10 * (12 + 4 * DIMENSIONS) + (tmp_path / "1.index").stat().st_size


def test_annoy_has_the_vectors_as_if_it_had_taken_one_after_another(tmp_path: Path) -> None:
    vectors = units(ITEMS)
    one_by_one = AnnoyIndex(DIMENSIONS, "angular")
    one_by_one.set_seed(1)
    for position, vector in enumerate(vectors):
        one_by_one.add_item(position, vector.tolist())
    one_by_one.build(10, n_jobs=1)
    one_by_one.save(str(tmp_path / "one by one"))
    build_index(tmp_path / "together", vectors, Engine.ANNOY, Storage.FLOAT32, trees=10, seed=1)
    node = (-1, 3 + DIMENSIONS)
    theirs, ours = (np.fromfile(tmp_path / name, "<f4").reshape(node) for name in ("one by one", "together"))
    assert ours[:ITEMS, 1] == pytest.approx(theirs[:ITEMS, 1], abs=1e-6)  # a sum, in another order
    ours[:ITEMS, 1] = theirs[:ITEMS, 1]
    assert ours.tobytes() == theirs.tobytes()


class FindsNothing:
    """Annoy as clang makes it with -ffast-math."""

    def __init__(self, *_: object) -> None: ...

    def add_item(self, *_: object) -> None: ...

    def build(self, *_: object, **__: object) -> bool:
        return True

    def get_nns_by_item(self, *_: object, **__: object) -> tuple[list[int], list[float]]:
        return [], []


def test_an_annoy_that_finds_nothing_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_annoy.cache_clear()
    check_annoy()
    check_annoy.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr("vector_index.annoy_index.AnnoyIndex", FindsNothing)
        with pytest.raises(EngineUnfit, match="install it again without -ffast-math"):
            build_index(tmp_path / "a", units(3), Engine.ANNOY, Storage.FLOAT32, trees=2, seed=1)
    assert not (tmp_path / "a").exists()
    check_annoy.cache_clear()
