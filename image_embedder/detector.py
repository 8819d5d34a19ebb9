"""A detector of the contract: where things of known classes are in a picture, and how such a part is cut out.

Batch and search server share it: the batch embeds of an item's picture the part that shows the item, and the server of
a photo each part that shows something it has an index of.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from image_embedder.decoding import decode
from image_embedder.embedder import InputRefused, open_session
from image_embedder.preprocessing import Pixels, preprocess, preprocess_decoded, preprocessed_shape
from model_repository.documents.detector_manifest import GoldenDetection, GoldenRegion
from model_repository.documents.model_manifest import ModelInput

REGIONS_LIMIT: Final = 20
"""Most that are found in a picture: each costs an embedding and a search."""

MARGIN: Final = 0.05
"""What is left around a region, as a share of its sides: a box may cut off a leg, and products in catalogues have some
air around them. From 0 to 0.2 all find products again as well (docs/benchmarks/detect.md)."""

CROPPING: Final = f"1-{MARGIN}"
"""Names what `crop_pixels` does with a picture and a detector: embeddings made with another are stale."""

_SHORTEST: Final = 1200
"""A JPEG isn't decoded smaller than this when parts of it are looked at."""

_PIXELS: Final = (2 * _SHORTEST) ** 2
"""A picture of several times as many is made smaller before anything is cut out of it: 92 MB at most, then."""

_OVERLAP: Final = 0.5
"""Two boxes of one category that share more of their union are one thing, as is usual (Pascal VOC)."""

_NEARLY: Final = 0.8
"""Of the weakest recorded score, on another machine: what nearly has it is found, and ranked by its overlap."""

_BOX = 4

Box = tuple[float, float, float, float]
"""Left, top, right, bottom, as shares of width and height of the picture as people see it (upright)."""


@dataclass(frozen=True, slots=True)
class Region:
    """A part of a picture. name: of the class. category: that things of this class belong to. score: 0 to 1."""

    box: Box
    name: str
    category: str
    score: float


class Detector:
    """A detector file: pictures as `takes` says in, squeezed to a square; two outputs, boxes and scores.

    boxes: float32[N,B,4], left, top, right, bottom as shares of the sides. scores: float32[N,B,C], 0 to 1, of the
    `classes` in their order. Safe to use from several threads at once.
    """

    def __init__(self, path: Path, takes: ModelInput, classes: Sequence[str]) -> None:
        """Open the file. Raises what onnxruntime does for one it can't load."""
        self._session = open_session(path)
        self.takes, self.classes = takes, tuple(classes)
        self._input: str = self._session.get_inputs()[0].name

    def detect(self, picture: Image.Image, categories: Mapping[str, str], least_score: float) -> tuple[Region, ...]:
        """Return what is in an upright RGB picture (see `open_picture`), best first, `REGIONS_LIMIT` at most.

        categories: of each class that is looked for, as index.json says them. Of boxes of one category that overlap the
        best is taken (non-maximum suppression): a mug is no coffee cup besides.
        """
        boxes, scores = self._run(preprocess_decoded(picture, self.takes)[np.newaxis])
        found = (
            Region(_box(boxes[0, place]), name, categories[name], float(scores[0, place, number]))
            for number, name in enumerate(self.classes)
            if name in categories
            for place in np.flatnonzero(scores[0, :, number] >= least_score)
        )
        return tuple(_best(sorted(found, key=lambda region: (-region.score, region.name, region.box))))

    def probe(self) -> None:
        """Look at an empty picture; raises `InputRefused` if the file doesn't take or give what it should."""
        shape = preprocessed_shape(self.takes)
        try:
            boxes, scores = self._run(np.zeros((1, *shape), self.takes.dtype))
        except Exception as error:  # onnxruntime has a dozen exceptions of its own, none with a common base
            reason = str(error).splitlines()[0]
            raise InputRefused(f"the detector doesn't take {self.takes.dtype} of {['N', *shape]}: {reason}") from error
        wanted = (1, boxes.shape[1], len(self.classes)) if boxes.ndim == 3 else ()  # noqa: PLR2004
        if boxes.shape[2:] != (_BOX,) or scores.shape != wanted:
            raise InputRefused(
                f"the detector gives {list(boxes.shape)} and {list(scores.shape)}: boxes [N, B, 4] and scores "
                f"[N, B, {len(self.classes)}] are needed, a score for each class that is named"
            )

    def _run(self, batch: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        boxes, scores = self._session.run(["boxes", "scores"], {self._input: batch})
        return boxes, scores


def open_picture(data: bytes) -> Image.Image:
    """Return an encoded picture upright as RGB, as large as regions of it need; raises PictureUnreadable."""
    picture = decode(data, _SHORTEST)
    factor = math.isqrt(picture.width * picture.height // _PIXELS)
    return picture.reduce(factor) if factor > 1 else picture


def crop(picture: Image.Image, box: Box) -> Image.Image:
    """Return the part of a picture in a box, with `MARGIN` around it as far as there is something; 1 pixel at least."""
    left, top, right, bottom = box
    beside, above = MARGIN * (right - left), MARGIN * (bottom - top)
    first_x, last_x = _pixels(left - beside, right + beside, picture.width)
    first_y, last_y = _pixels(top - above, bottom + above, picture.height)
    return picture.crop((first_x, first_y, last_x, last_y))


def _pixels(first: float, last: float, side: int) -> tuple[int, int]:
    start = min(max(0, round(first * side)), side - 1)
    return start, min(max(start + 1, round(last * side)), side)


def crop_pixels(
    data: bytes, takes: ModelInput, detector: Detector, classes: Collection[str], least_score: float
) -> Pixels:
    """Return what an embedder takes of an encoded picture: the best region of these classes; all of it if there's none.

    Raises PictureUnreadable.
    """
    picture = open_picture(data)
    regions = detector.detect(picture, dict.fromkeys(classes, ""), least_score)
    if not regions:
        del picture  # decoding has the memory of one
        return preprocess(data, takes)
    return preprocess_decoded(crop(picture, regions[0].box), takes)


def missed(detector: Detector, data: bytes, golden: GoldenDetection, least_overlap: float) -> tuple[GoldenRegion, ...]:
    """Return what was recorded of a golden image, `data`, and isn't found in it: no region of that class overlaps so.

    Regions that nobody recorded are no matter. Raises PictureUnreadable.
    """
    if not golden.regions:
        return ()
    names = {region.name for region in golden.regions}
    least_score = _NEARLY * min(region.score for region in golden.regions)
    found = detector.detect(open_picture(data), {name: name for name in names}, least_score)
    return tuple(
        wanted
        for wanted in golden.regions
        if not any(
            region.name == wanted.name and overlap(region.box, cast("Box", wanted.box)) >= least_overlap
            for region in found
        )
    )


def overlap(one: Box, other: Box) -> float:
    """Return the share of two boxes' union that both have (intersection over union)."""
    both = max(0.0, min(one[2], other[2]) - max(one[0], other[0])) * max(
        0.0, min(one[3], other[3]) - max(one[1], other[1])
    )
    either = _area(one) + _area(other) - both
    return both / either if either > 0 else 0.0


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _box(numbers: NDArray[np.float32]) -> Box:
    left, top, right, bottom = (min(max(float(number), 0.0), 1.0) for number in numbers)
    return left, top, right, bottom


def _best(regions: Iterable[Region]) -> Iterator[Region]:
    """Those, of regions with the best first, of which none has much of a better one of its category."""
    kept: list[Region] = []
    for region in regions:
        if _area(region.box) > 0 and not any(
            better.category == region.category and overlap(region.box, better.box) > _OVERLAP for better in kept
        ):
            kept.append(region)
            yield region
            if len(kept) == REGIONS_LIMIT:
                return
