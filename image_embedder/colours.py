"""Every mode of Pillow's becomes the RGB that a person sees."""

from __future__ import annotations

from typing import Final

import numpy as np
from PIL import Image, ImageChops

_BAND_PIXELS: Final = 1024 * 1024
"""A picture is converted band by band: a conversion has up to five copies of what it is at."""

_FULL_SCALES: Final = (1.0, 255.0, 65535.0, 2.0**31 - 1)
"""What white may be where a mode doesn't say; the first that none of a picture's numbers exceeds is taken."""

_TWO_STEPS: Final = {"La": "LA", "RGBa": "RGBA"}
"""Colours that were multiplied with their alpha: Pillow divides them on the way to the same mode without."""


def opaque_rgb(picture: Image.Image, *, negative: bool = False) -> Image.Image:
    """Return a loaded picture as RGB, laid on white where it is transparent; itself if it is that already.

    More than 8 bits a channel become their highest 8; grey of 32 bits, whose white no format says, is scaled by the
    least of 1 (floats only), 255, 65535 and 2^31 - 1 that none of its numbers exceeds. CMYK is taken without a profile.
    negative: whether its inks are turned round: Pillow does that to every JPEG, as Adobe's need it.

    Needs 4 bytes a pixel for the result, and some megabytes.
    """
    if picture.mode == "RGB" and not picture.has_transparency_data:
        return picture
    white = _white(picture) if picture.mode in ("I", "F") else 0.0
    result = Image.new("RGB", picture.size)
    rows = max(1, _BAND_PIXELS // picture.width)
    for top in range(0, picture.height, rows):
        band = picture.crop((0, top, picture.width, min(picture.height, top + rows)))
        result.paste(_on_white(_common(ImageChops.invert(band) if negative else band, white)), (0, top))
    return result


def _white(picture: Image.Image) -> float:
    _, brightest = picture.getextrema()
    scales = _FULL_SCALES[picture.mode == "I" :]
    return next((scale for scale in scales if float(brightest) <= scale), scales[-1])  # type: ignore[arg-type]


def _common(band: Image.Image, white: float) -> Image.Image:
    """Return a band in a mode from which Pillow converts to RGB or RGBA as one would expect."""
    if band.mode.startswith("I;16"):
        grey = Image.fromarray((np.asarray(band) >> 8).astype(np.uint8))
        if "transparency" in band.info:
            grey.info["transparency"] = band.info["transparency"] >> 8
        return grey
    if band.mode in ("I", "F"):
        scaled = np.nan_to_num(np.asarray(band, np.float64)) * (255 / white)
        return Image.fromarray(np.clip(scaled.round(), 0, 255).astype(np.uint8))
    if band.mode == "LAB":
        from PIL import ImageCms  # noqa: PLC0415 - a library of its own that hardly any picture needs

        profiles = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(band, *profiles, outputMode="RGB") or band
    return band.convert(_TWO_STEPS.get(band.mode, band.mode))


def _on_white(band: Image.Image) -> Image.Image:
    if not band.has_transparency_data:
        return band.convert("RGB")
    rgba = band.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
