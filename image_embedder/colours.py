"""Every mode in which Pillow reads `decoding.FORMATS` becomes the RGB that a person sees."""

from __future__ import annotations

from typing import Final

import numpy as np
from PIL import Image, ImageChops

_BAND_PIXELS: Final = 1024 * 1024
"""A picture is converted band by band: a conversion has up to five copies of what it is at."""


def opaque_rgb(picture: Image.Image, *, negative: bool = False) -> Image.Image:
    """Return a loaded picture as RGB, laid on white where it is transparent; itself if it is that already.

    Grey of 16 bits becomes its highest 8. CMYK is taken without a profile. negative: whether its inks are turned round:
    Pillow does that to every JPEG, as Adobe's need it.

    Needs 4 bytes a pixel for the result, and some megabytes.
    """
    if picture.mode == "RGB" and not picture.has_transparency_data:
        return picture
    result = Image.new("RGB", picture.size)
    rows = max(1, _BAND_PIXELS // picture.width)
    for top in range(0, picture.height, rows):
        band = picture.crop((0, top, picture.width, min(picture.height, top + rows)))
        result.paste(_on_white(ImageChops.invert(band) if negative else band), (0, top))
    return result


def _on_white(band: Image.Image) -> Image.Image:
    if band.mode == "I;16":
        band = _of_8_bits(band)
    if not band.has_transparency_data:
        return band.convert("RGB")
    rgba = band.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")


def _of_8_bits(band: Image.Image) -> Image.Image:
    grey = Image.fromarray((np.asarray(band) >> 8).astype(np.uint8))
    if "transparency" in band.info:
        grey.info["transparency"] = band.info["transparency"] >> 8
    return grey
