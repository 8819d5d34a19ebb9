"""Where things are in a picture, and how a part is cut out."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from image_embedder import (
    Box,
    Detector,
    InputRefused,
    PictureUnreadable,
    crop,
    crop_pixels,
    missed,
    open_picture,
    overlap,
    preprocess,
    preprocess_decoded,
)
from image_embedder.detector import MARGIN, REGIONS_LIMIT
from model_repository.documents.detector_manifest import GoldenDetection, GoldenRegion
from model_repository.documents.model_manifest import ModelInput, Resize
from tests.detectors import SIZE, write_detector

TAKES = ModelInput(SIZE, resize=Resize.SQUARE)
LEFT, RIGHT, NEARLY_LEFT = (0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0), (0.0, 0.0, 0.48, 1.0)
BOTH, CHAIRS = {"Chair": "chairs", "Mug": "cups"}, {"Chair": "chairs"}
WHITE = Image.new("RGB", (64, 48), "white")


def detector(path: Path, boxes: list[Box], scores: list[list[float]]) -> Detector:
    return Detector(write_detector(path / "d.onnx", boxes, scores), TAKES, ("Chair", "Mug"))


def encoded(picture: Image.Image, orientation: int = 1) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stream = io.BytesIO()
    picture.save(stream, "PNG", exif=exif)
    return stream.getvalue()


def halves() -> Image.Image:
    """Red to the left, blue to the right."""
    picture = Image.new("RGB", (100, 80), "red")
    picture.paste("blue", (50, 0, 100, 80))
    return picture


def test_what_is_found_is_told_best_first_with_its_class(tmp_path: Path) -> None:
    found = detector(tmp_path, [LEFT, RIGHT], [[0.6, 0.1], [0.2, 0.9]]).detect(WHITE, BOTH, 0.5)
    assert [(region.box, region.name, region.category) for region in found] == [
        (RIGHT, "Mug", "cups"),
        (LEFT, "Chair", "chairs"),
    ]
    assert [region.score for region in found] == pytest.approx([0.9, 0.6])


def test_classes_that_nobody_asked_for_are_not_told(tmp_path: Path) -> None:
    found = detector(tmp_path, [LEFT, RIGHT], [[0.6, 0.1], [0.2, 0.9]]).detect(WHITE, CHAIRS, 0.5)
    assert [region.name for region in found] == ["Chair"]


def test_boxes_that_are_one_thing_are_told_once_and_those_of_another_class_beside_them(tmp_path: Path) -> None:
    one = detector(tmp_path, [NEARLY_LEFT, LEFT, RIGHT], [[0.6, 0.8], [0.7, 0.1], [0.55, 0.1]])
    found = one.detect(WHITE, BOTH, 0.5)
    assert [(region.name, np.allclose(region.box, LEFT)) for region in found] == [
        ("Mug", False), ("Chair", True), ("Chair", False)
    ]  # fmt: skip


def test_a_box_ends_where_the_picture_does(tmp_path: Path) -> None:
    beyond, beside = (-0.25, 0.5, 0.5, 1.25), (1.125, 0.0, 1.5, 1.0)
    found = detector(tmp_path, [beyond, beside], [[0.75, 0.0], [0.75, 0.0]]).detect(WHITE, CHAIRS, 0.5)
    assert [region.box for region in found] == [(0.0, 0.5, 0.5, 1.0)]


def test_what_two_classes_of_one_category_say_of_one_thing_is_told_once(tmp_path: Path) -> None:
    one = detector(tmp_path, [NEARLY_LEFT, LEFT, RIGHT], [[0.6, 0.8], [0.7, 0.1], [0.55, 0.1]])
    found = one.detect(WHITE, {"Chair": "seats", "Mug": "seats"}, 0.5)
    assert [region.name for region in found] == ["Mug", "Chair"]
    assert found[1].box == RIGHT


def test_what_is_found_is_bounded_and_an_empty_box_is_none(tmp_path: Path) -> None:
    many = [(x / 100, 0.0, x / 100 + 0.01, 1.0) for x in range(100)]
    assert len(detector(tmp_path, many, [[0.9, 0.9]] * 100).detect(WHITE, BOTH, 0.5)) == REGIONS_LIMIT
    assert detector(tmp_path, [(0.5, 0.5, 0.5, 1.0)], [[0.9, 0.9]]).detect(WHITE, CHAIRS, 0.5) == ()


def test_a_file_that_does_not_give_what_is_said_of_it_is_refused(tmp_path: Path) -> None:
    path = write_detector(tmp_path / "d.onnx", [LEFT], [[0.5, 0.5, 0.5]])
    with pytest.raises(InputRefused, match="a score for each class that is named"):
        Detector(path, TAKES, ("Chair", "Mug")).probe()
    with pytest.raises(InputRefused, match="the detector doesn't take float32"):
        Detector(path, ModelInput(16, resize=Resize.SQUARE), ("Chair", "Mug", "Cat")).probe()
    Detector(path, TAKES, ("Chair", "Mug", "Cat")).probe()


@pytest.mark.parametrize(
    ("box", "size"),
    [
        ((0.0, 0.0, 1.0, 1.0), (100, 80)),
        ((0.2, 0.25, 0.6, 0.75), (round(40 * (1 + 2 * MARGIN)), round(40 * (1 + 2 * MARGIN)))),
        ((0.999, 0.999, 0.9999, 0.9999), (1, 1)),
        ((1.0, 1.0, 1.0, 1.0), (1, 1)),
    ],
)
def test_a_part_has_a_margin_within_the_picture_and_a_pixel_at_least(box: Box, size: tuple[int, int]) -> None:
    assert crop(halves(), box).size == size


def test_boxes_are_of_the_picture_as_people_see_it() -> None:
    upright = open_picture(encoded(halves().transpose(Image.Transpose.ROTATE_90), orientation=6))
    assert upright.size == (100, 80)
    assert crop(upright, (0.0, 0.0, 0.4, 1.0)).getcolors() == [(42 * 80, (255, 0, 0))]


def test_an_embedder_is_given_the_best_region_of_the_classes(tmp_path: Path) -> None:
    box = (0.6, 0.0, 0.9, 1.0)
    one = detector(tmp_path, [LEFT, box, RIGHT], [[0.1, 0.9], [0.9, 0.1], [0.6, 0.1]])
    takes, data = ModelInput(16), encoded(halves())
    cropped = crop_pixels(data, takes, one, {"Chair"}, 0.5)
    assert np.array_equal(cropped, preprocess_decoded(crop(halves(), box), takes))
    assert not np.array_equal(cropped, preprocess(data, takes))


def test_an_embedder_is_given_the_whole_picture_where_there_is_no_such_region(tmp_path: Path) -> None:
    one = detector(tmp_path, [LEFT], [[0.4, 0.9]])
    takes, data = ModelInput(16), encoded(halves())
    assert np.array_equal(crop_pixels(data, takes, one, {"Chair"}, 0.5), preprocess(data, takes))
    with pytest.raises(PictureUnreadable):
        crop_pixels(b"no picture", takes, one, {"Chair"}, 0.5)


def test_a_large_picture_is_made_smaller_before_it_is_cut() -> None:
    stream = io.BytesIO()
    Image.new("L", (7500, 5000), 255).save(stream, "PNG")
    assert open_picture(stream.getvalue()).size == (3750, 2500)
    assert open_picture(encoded(halves())).size == (100, 80)


def test_overlap_is_intersection_over_union() -> None:
    assert overlap(LEFT, LEFT) == 1
    assert overlap(LEFT, RIGHT) == 0
    assert overlap((0.0, 0.0, 1.0, 1.0), LEFT) == 0.5
    assert overlap((0.5, 0.5, 0.5, 0.5), (0.5, 0.5, 0.5, 0.5)) == 0


def test_what_was_recorded_of_a_golden_image_must_be_found_again_where_it_was(tmp_path: Path) -> None:
    one, data = detector(tmp_path, [NEARLY_LEFT, RIGHT], [[0.75, 0.1], [0.1, 0.9]]), encoded(halves())
    left, right = GoldenRegion(LEFT, "Chair", 0.8), GoldenRegion(RIGHT, "Mug", 0.9)
    elsewhere, another = GoldenRegion(RIGHT, "Chair", 0.8), GoldenRegion(LEFT, "Mug", 0.8)
    assert missed(one, data, GoldenDetection("g", (left, right)), 0.9) == ()
    assert missed(one, data, GoldenDetection("g", (left, right)), 0.99) == (left,)
    assert missed(one, data, GoldenDetection("g", (elsewhere, right, another)), 0.9) == (elsewhere, another)
    assert missed(one, data, GoldenDetection("g", ()), 0.9) == ()
