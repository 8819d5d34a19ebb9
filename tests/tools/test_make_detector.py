"""The detector made from a published package: its parts by their formulas, the whole by what it finds."""

from __future__ import annotations

import importlib.util
import io
import json
import shutil
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from image_embedder import Detector, open_picture
from local_stack.demo.shop.labels import kinds
from local_stack.demo.shop.rooms import photo_of
from model_repository.documents.model_manifest import ModelInput, Resize
from tools.make_detector import MadeDetector, make_detector
from tools.make_detector.package import PACKAGE, PACKAGE_VERSION, read_assets
from tools.make_detector.ssd import anchors
from tools.make_model.variants import WeightsMissing

HOME_STORE = Path("local_stack/demo/home_store")


@pytest.fixture(scope="module")
def package(cache: Path) -> Path:
    """The npm package, fetched once on a machine; without npm, or what it fetches from, there's nothing to test."""
    path = cache / f"objectron-{PACKAGE_VERSION}.tgz"
    if not path.exists():
        if shutil.which("npm") is None:
            pytest.skip("npm isn't installed")
        cache.mkdir(parents=True, exist_ok=True)
        command = ["npm", "pack", "--silent", f"{PACKAGE}@{PACKAGE_VERSION}"]
        done = subprocess.run(command, cwd=cache, capture_output=True, text=True, check=False, timeout=100)
        if done.returncode:
            pytest.skip(f"npm can't fetch the package: {done.stderr[-300:]}")
        (cache / done.stdout.strip().splitlines()[-1]).replace(path)
    return path


@pytest.fixture(scope="module")
def made(package: Path, tmp_path_factory: pytest.TempPathFactory) -> MadeDetector:
    return make_detector(tmp_path_factory.mktemp("made"), package)


@pytest.fixture(scope="module")
def detector(made: MadeDetector) -> Detector:
    return Detector(made.path, ModelInput(made.input_size, resize=Resize.SQUARE), made.classes)


def pictures(count: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.random.default_rng(1).uniform(0, 255, (count, 3, 300, 300)).astype(np.float32)


def test_anchors_are_those_of_ssd() -> None:
    found = anchors()
    assert found.shape == (1917, 4)
    assert found[0].tolist() == pytest.approx([0.5 / 19, 0.5 / 19, 0.1, 0.1])
    assert found[1].tolist() == pytest.approx([0.5 / 19, 0.5 / 19, 0.2 * 2**0.5, 0.2 / 2**0.5])
    assert found[3].tolist() == pytest.approx([1.5 / 19, 0.5 / 19, 0.1, 0.1])
    assert found[19 * 19 * 3].tolist() == pytest.approx([0.05, 0.05, 0.35, 0.35])
    assert found[-1].tolist() == pytest.approx([0.5, 0.5, 0.95**0.5, 0.95**0.5])


def test_the_classes_are_the_packages(made: MadeDetector) -> None:
    assert len(made.classes) == 23
    assert {"Chair", "Desk", "Mug", "Bottle", "Person", "Footwear"} < set(made.classes)
    assert "???" not in made.classes


def test_what_was_made_once_is_taken_again_unless_the_disk_has_damaged_it(package: Path, tmp_path: Path) -> None:
    first = make_detector(tmp_path, package)
    assert make_detector(tmp_path, tmp_path / "no-package.tgz") == first
    first.path.write_bytes(first.path.read_bytes()[:-1])
    with pytest.raises(WeightsMissing, match=r"no-package\.tgz"):
        make_detector(tmp_path, tmp_path / "no-package.tgz")


def test_it_takes_any_number_of_pictures_and_gives_boxes_inside_them(made: MadeDetector, detector: Detector) -> None:
    detector.probe()
    session = onnxruntime.InferenceSession(str(made.path))
    boxes, scores = session.run(["boxes", "scores"], {"images": pictures(3)})
    assert (boxes.shape, scores.shape) == ((3, 1917, 4), (3, 1917, 23))
    assert boxes.min() >= 0
    assert boxes.max() <= 1
    assert (boxes[..., :2] <= boxes[..., 2:]).all()
    alone = session.run(["boxes", "scores"], {"images": pictures(3)[1:2]})
    assert np.allclose(boxes[1], alone[0][0], atol=1e-4)
    assert np.allclose(scores[1], alone[1][0], atol=1e-4)


def test_it_gives_what_tensorflow_lite_gives(made: MadeDetector, package: Path) -> None:
    if importlib.util.find_spec("ai_edge_litert") is None:
        pytest.skip("ai-edge-litert isn't installed, which runs the original")
    from ai_edge_litert.interpreter import Interpreter  # type: ignore[import-not-found] # noqa: PLC0415

    original = Interpreter(model_content=read_assets(package).network)
    original.allocate_tensors()
    picture = pictures(1)
    original.set_tensor(original.get_input_details()[0]["index"], (picture.transpose(0, 2, 3, 1) - 127.5) / 127.5)
    original.invoke()
    encodings, logits = (original.get_tensor(output["index"])[0] for output in original.get_output_details())
    # TensorFlow's box coder: y before x, offsets in tenths of the anchor, the sizes' logarithms in fifths
    anchor, (y, x, height, width) = anchors().T, encodings.T
    centre_x, centre_y = x / 10 * anchor[2] + anchor[0], y / 10 * anchor[3] + anchor[1]
    half_x, half_y = np.exp(width / 5) * anchor[2] / 2, np.exp(height / 5) * anchor[3] / 2
    wanted = np.stack([centre_x - half_x, centre_y - half_y, centre_x + half_x, centre_y + half_y], 1).clip(0, 1)
    boxes, scores = onnxruntime.InferenceSession(str(made.path)).run(["boxes", "scores"], {"images": picture})
    assert np.abs(boxes[0] - wanted).max() < 1e-4
    assert np.abs(scores[0] - 1 / (1 + np.exp(-logits[:, 1:]))).max() < 1e-4


def test_its_numbers_are_those_that_were_recorded(made: MadeDetector) -> None:
    """Recorded beside ai-edge-litert 2.3.0, from which they differ by less than 1e-5, of the same picture."""
    boxes, scores = onnxruntime.InferenceSession(str(made.path)).run(["boxes", "scores"], {"images": pictures(1)})
    golden = json.loads(Path("tests/tools/golden_detector.json").read_text())
    assert np.abs(boxes[0, ::100] - np.array(golden["boxes"])).max() < 1e-3
    assert np.abs(scores[0].max(0) - np.array(golden["best_scores"])).max() < 1e-3


def test_it_finds_most_chairs_of_the_demo_where_they_are(detector: Detector) -> None:
    rows = [json.loads(line) for line in (HOME_STORE / "catalogue.jsonl").read_text().splitlines()]
    of = kinds(rows)
    chairs = [row["file"] for row in rows if of.get(row["id"]) == "chair"]
    found = [
        detector.detect(open_picture((HOME_STORE / file).read_bytes()), {"Chair": "chairs"}, 0.5) for file in chairs
    ]
    assert len(chairs) > 30
    assert sum(len(regions) > 0 for regions in found) > 0.8 * len(chairs)


def test_another_package_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.tgz"
    with tarfile.open(path, "w:gz") as archive:
        info = tarfile.TarInfo("package/objectron_solution_packed_assets.data")
        info.size = 3
        archive.addfile(info, io.BytesIO(b"abc"))
    with pytest.raises(WeightsMissing, match=f"isn't that of {PACKAGE}@{PACKAGE_VERSION}"):
        read_assets(path)
    with pytest.raises(WeightsMissing, match="has no package/objectron_solution_packed_assets"):
        read_assets(tmp_path / "missing.tgz")


def test_a_machine_without_npm_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(WeightsMissing, match=r"npm isn't installed, .* name the file by --package"):
        read_assets()


@pytest.mark.parametrize("busy", [False, True])
def test_it_finds_chair_desk_and_mug_in_a_room(detector: Detector, busy: bool) -> None:
    pictures = [(HOME_STORE / f"images/{item}.jpg").read_bytes() for item in ("chair-1", "wooden-desk", "coffee-mug")]
    categories = {"Chair": "chairs", "Desk": "desks", "Table": "desks", "Mug": "cups", "Coffee cup": "cups"}
    found = detector.detect(open_picture(photo_of(pictures, busy=busy)), categories, 0.3)
    assert {region.category for region in found} == {"chairs", "desks", "cups"}
    assert len(found) < 6
