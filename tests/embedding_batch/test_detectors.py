"""A detector cuts each picture to what its item's category says it shows, before it is embedded."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from embedding_batch.command_line.reading import read_command
from embedding_batch.embedding import Cutting, embed_pictures
from embedding_batch.embedding.batches import embed_in_batches
from embedding_batch.errors import ModelUnsound, NameTaken
from embedding_batch.main import main
from embedding_batch.state.features import FeatureStore
from embedding_batch.steps.diff.gates import Gates
from embedding_batch.steps.publish.detectors import publish_detector
from embedding_batch.steps.publish.models import local_model
from image_embedder import Box, crop, open_picture, preprocess_decoded
from model_repository.bucket.gcs_store import GcsStore
from model_repository.builds import check_build
from model_repository.documents.build_diff import Gate
from model_repository.documents.model_manifest import ModelInput, Resize
from model_repository.errors import Misconfigured
from model_repository.names import IndexPrefix, ModelPrefix
from model_repository.repository import read_detector_manifest
from tests.detectors import SIZE, write_detector

if TYPE_CHECKING:
    from tests.embedding_batch.conftest import Shop

DETECTOR = ModelPrefix("ssd", "1")
TAKES = ModelInput(SIZE, resize=Resize.SQUARE)
CLASSES = ("Chair", "Mug")
MIDDLE, CORNER = (0.25, 0.25, 0.75, 0.75), (0.0, 0.0, 0.5, 0.5)
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
EXPECTED = Gates(expects=frozenset({Gate.MODEL}))
"""A detector comes and goes."""


@pytest.fixture
def detecting(shop: Shop, tmp_path: Path) -> Shop:
    """A shop whose bucket has a detector that finds a chair in the middle of every picture, and a mug in a corner."""
    path = write_detector(tmp_path / "d.onnx", [MIDDLE, CORNER], [[0.9, 0.1], [0.2, 0.6]])
    golden = [(shop.folder / "chair-1.jpg").read_bytes()]
    publish_detector(shop.store, DETECTOR, path, TAKES, CLASSES, golden=golden, created=NOW)
    return shop


def categories(shop: Shop) -> dict[str, str]:
    lines = map(json.loads, (shop.folder / "catalogue.jsonl").open())
    return {line["id"]: line["category"] for line in lines}


def vector(shop: Shop, item: str, box: Box | None) -> np.ndarray:
    """What is wanted of an item's picture."""
    model = local_model("efficientnet-lite0", shop.config.model_cache)
    data = (shop.folder / f"{item}.jpg").read_bytes()
    if box is None:
        return model.embed(data)
    return model.embedder.embed(preprocess_decoded(crop(open_picture(data), box), model.takes)[np.newaxis])[0]


def embedded(shop: Shop, item: str) -> dict[bool, np.ndarray]:
    """What the bucket has of an item's picture: of all of it (False), and of a part (True)."""
    digest = np.array([hashlib.sha256((shop.folder / f"{item}.jpg").read_bytes()).digest()], "S32")
    dimensions, cache = local_model("efficientnet-lite0", shop.config.model_cache).dimensions, shop.config.feature_cache
    found = {}
    for key in {info.name.split("/")[1] for info in shop.store.listing("features/")}:
        features = FeatureStore(shop.store, key, dimensions, cache=cache, scratch=cache, listener=lambda _: None)
        features.refresh()
        if features.has(digest).all():
            found["-cut-" in key] = features.read(digest)[0]
    return found


def test_a_detector_is_published_with_what_it_finds_in_golden_pictures(detecting: Shop) -> None:
    manifest, _ = read_detector_manifest(detecting.store, DETECTOR)
    assert (manifest.classes, manifest.input) == (CLASSES, TAKES)
    (golden,) = manifest.golden_images
    assert [(region.name, region.box) for region in golden.regions] == [("Chair", MIDDLE), ("Mug", CORNER)]
    assert golden.image in {file.name for file in manifest.files}


def test_pictures_are_cut_to_what_their_category_says(detecting: Shop) -> None:
    of = categories(detecting)
    chairs, lamps = of["chair-1"], of["lamp-1"]
    report = detecting.batch(detector=DETECTOR, regions={"Chair": chairs, "Mug": lamps})
    build = check_build(detecting.store, IndexPrefix("shop", "b1"))
    detector = build.manifest.detector
    assert detector is not None
    assert (detector.prefix, dict(detector.categories)) == (DETECTOR, {"Chair": chairs, "Mug": lamps})
    (model,) = build.manifest.models
    assert report["models"] == [str(model.prefix), str(DETECTOR)]
    assert {partition.model for partition in build.manifest.partitions} == {0}
    for item, box in (("chair-1", MIDDLE), ("lamp-1", CORNER), ("bed-1", None)):
        ((is_part, found),) = embedded(detecting, item).items()
        assert is_part == (box is not None)
        assert found @ vector(detecting, item, box) > 0.999
    assert embedded(detecting, "chair-1")[True] @ vector(detecting, "chair-1", None) < 0.99


def test_what_was_embedded_whole_is_not_taken_for_a_part_nor_a_part_of_another_thing(detecting: Shop) -> None:
    of = categories(detecting)
    chairs = sum(category == of["chair-1"] for category in of.values())
    options = {"detector": DETECTOR, "regions": {"Chair": of["chair-1"]}}
    runs = [{}, options, options, options | {"regions": {"Mug": of["chair-1"]}}, options | {"least_score": 0.4}, {}]
    counts = [
        detecting.batch(f"b{number}", gates=EXPECTED, **changes)["embedded"] for number, changes in enumerate(runs)
    ]
    assert counts == [15, chairs, 0, chairs, chairs, 0]


def test_a_picture_in_which_nothing_is_found_is_embedded_whole(detecting: Shop) -> None:
    detecting.batch(detector=DETECTOR, regions={"Chair": categories(detecting)["chair-1"]}, least_score=0.95)
    assert embedded(detecting, "chair-1")[True] @ vector(detecting, "chair-1", None) > 0.999


def test_a_category_that_the_build_has_not_is_left_out_of_it(detecting: Shop) -> None:
    detecting.batch("b1", detector=DETECTOR, regions={"Chair": "no such category"})
    assert detecting.manifest("b1").detector is None
    of = categories(detecting)["chair-1"]
    detecting.batch("b2", detector=DETECTOR, regions={"Chair": of, "Mug": "no such category"}, gates=EXPECTED)
    detector = detecting.manifest("b2").detector
    assert detector is not None
    assert dict(detector.categories) == {"Chair": of}


def test_a_class_that_the_detector_does_not_find_stops_the_batch_before_any_work(detecting: Shop) -> None:
    with pytest.raises(Misconfigured, match="--region: models/ssd/1 finds no 'Sofa'; it finds Chair, Mug"):
        detecting.batch(detector=DETECTOR, regions={"Sofa": "Sofas"})


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--region", "Chair=Chairs"], "--region: needs --detector"),
        (["--detector", "ssd", "--region", "Chair=Chairs"], "--detector: "),
        (["--detector", "models/ssd/1"], "--detector: name the category"),
        (["--detector", "models/ssd/1", "--region", "Chair"], "--region: expected CLASS=CATEGORY"),
        (["--detector", "models/ssd/1", "--region", "A=B", "--region", "A=C"], "a class once"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: list[str], says: str) -> None:
    needed = ["--catalogue", "c", "--index", "i", "--environment", "e", "--repository", "gs://bucket"]
    with pytest.raises(Misconfigured, match=says):
        read_command([*needed, *options], {}, NOW)


def test_options_name_the_category_of_each_class() -> None:
    needed = ["--catalogue", "c", "--index", "i", "--environment", "e", "--repository", "gs://bucket"]
    more = ["--detector", "models/ssd/1", "--region", "Mug=Cups", "--region", "Coffee cup=Cups", "--least-score", "0.4"]
    config = read_command([*needed, *more], {}, NOW)
    assert (config.detector, config.least_score) == (DETECTOR, 0.4)
    assert config.classes_of("Cups") == ("Coffee cup", "Mug")
    assert config.classes_of("Chairs") == ()


def test_the_command_publishes_and_uses_a_detector(
    shop: Shop, new_bucket: Callable[[], str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    bucket = new_bucket()
    environment = {"MODEL_REPOSITORY": f"gs://{bucket}"}
    (tmp_path / "classes").write_text("Chair\nMug\n")
    path = write_detector(tmp_path / "d.onnx", [MIDDLE], [[0.9, 0.1]])
    publish = ["detector", "publish", "--onnx", str(path), "--name", "ssd", "--version", "1", "--input-size", str(SIZE)]
    publish += ["--classes", str(tmp_path / "classes"), "--golden", str(shop.folder / "chair-1.jpg")]
    (tmp_path / "no-text").write_bytes(b"\xff")
    (tmp_path / "no-picture").write_bytes(b"no picture")
    wrong = [
        ("--classes", "no-text", 64),
        ("--classes", "gone", 64),
        ("--golden", "no-picture", 65),
        ("--onnx", "gone", 64),
    ]
    for option, name, status in wrong:
        assert main([*publish, option, str(tmp_path / name)], environment) == status
        said = json.loads(capfd.readouterr().err.splitlines()[-1])["message"]
        assert said.startswith(f"{option}: {tmp_path / name}: ")
    assert main(publish, environment) == 0
    assert json.loads(capfd.readouterr().out)["golden_regions"] == 1
    of = categories(shop)["chair-1"]
    batch = ["--catalogue", str(shop.folder), "--index", "shop", "--environment", "test", "--build", "b1"]
    batch += [
        "--cache",
        str(shop.config.cache),
        "--trees",
        "5",
        "--detector",
        "models/ssd/1",
        "--region",
        f"Chair={of}",
    ]
    assert main([*batch, "--check"], environment) == 0
    assert main(batch, environment) == 0
    detector = check_build(GcsStore(bucket), IndexPrefix("shop", "b1")).manifest.detector
    assert detector is not None
    assert dict(detector.categories) == {"Chair": of}


def test_a_detector_is_never_replaced_and_what_is_none_is_refused(detecting: Shop, tmp_path: Path) -> None:
    other = write_detector(tmp_path / "other.onnx", [CORNER], [[0.9, 0.1]])
    with pytest.raises(NameTaken):
        publish_detector(detecting.store, DETECTOR, other, TAKES, CLASSES, golden=[], created=NOW)
    new = ModelPrefix("ssd", "2")
    with pytest.raises(ModelUnsound, match="a score for each class that is named"):
        publish_detector(detecting.store, new, other, TAKES, ("Chair",), golden=[], created=NOW)
    other.write_bytes(b"no model")
    with pytest.raises(ModelUnsound, match="onnxruntime can't load it"):
        publish_detector(detecting.store, new, other, TAKES, CLASSES, golden=[], created=NOW)
    assert not list(detecting.store.listing("models/ssd/2/"))


def test_both_ways_to_a_vector_cut_the_same_part(detecting: Shop) -> None:
    model = local_model("efficientnet-lite0", detecting.config.model_cache)
    path = next(detecting.folder.parent.glob("d.onnx"))
    cutting = Cutting(path, TAKES, CLASSES, frozenset({"Chair"}), 0.5)
    pictures = [(item, (detecting.folder / f"{item}.jpg").read_bytes()) for item in ("chair-1", "lamp-1")]
    pictures.append(("broken", b"no picture"))
    one_by_one = dict(embed_pictures(pictures, model, workers=1, cutting=cutting))
    in_batches = dict(embed_in_batches(pictures, model.takes, model.embedder, workers=1, cutting=cutting))
    for item in ("chair-1", "lamp-1"):
        assert one_by_one[item] @ vector(detecting, item, MIDDLE) > 0.999
        assert in_batches[item] @ one_by_one[item] > 0.999
    assert one_by_one["broken"] == in_batches["broken"]
    assert "can't be decoded" in str(one_by_one["broken"])


def test_each_step_by_itself_knows_the_detector_too(
    shop: Shop, new_bucket: Callable[[], str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    bucket = new_bucket()
    environment = {"MODEL_REPOSITORY": f"gs://{bucket}"}
    path = write_detector(tmp_path / "d.onnx", [MIDDLE], [[0.9, 0.1]])
    publish_detector(GcsStore(bucket), DETECTOR, path, TAKES, CLASSES, golden=[], created=NOW)
    of = categories(shop)["chair-1"]
    named = ["--index", "shop", "--build", "b1", "--cache", str(shop.config.cache)]

    def step(name: str, *more: str) -> dict[str, int]:
        assert main(["step", name, *named, *more], environment) == 0
        answer: dict[str, int] = json.loads(capfd.readouterr().out)
        return answer

    asked = ["--catalogue", str(shop.folder), "--environment", "test", "--trees", "5"]
    listed = step("list", *asked, "--detector", "models/ssd/1", "--region", f"Chair={of}")
    for shard in range(listed["shards"]):
        step("fetch", "--shard", str(shard))
        step("embed", "--shard", str(shard))
    for part in range(step("collect")["parts"]):
        step("build", "--part", str(part))
    step("publish")
    step("diff")
    step("commit")
    shop.store = GcsStore(bucket)  # type: ignore[assignment]
    assert check_build(shop.store, IndexPrefix("shop", "b1")).manifest.detector is not None
    assert embedded(shop, "chair-1")[True] @ vector(shop, "chair-1", MIDDLE) > 0.999
    assert embedded(shop, "bed-1")[False] @ vector(shop, "bed-1", None) > 0.999
