"""Colours that cannot be taken as they are: CMYK, and colour that lies under transparency."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms


def cmyk_to_rgb(image: Image.Image) -> tuple[Image.Image, bytes | None, str]:
    """A CMYK picture as RGB, the profile that it then has, and a sentence about it.

    By the picture's own profile into sRGB, perceptually; without one as a plain complement.
    """
    profile = image.info.get("icc_profile")
    if profile:
        target = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
        try:
            source = ImageCms.ImageCmsProfile(BytesIO(profile))
            made = ImageCms.profileToProfile(
                image, source, target, ImageCms.Intent.PERCEPTUAL, outputMode="RGB"
            )
        except (ImageCms.PyCMSError, OSError, ValueError):
            made = None
        if made is not None:
            return made, target.tobytes(), "CMYK was converted to sRGB by its colour profile"
    return image.convert("RGB"), None, "CMYK without a usable colour profile: colours are a guess"


def in_srgb(image: Image.Image, profile: bytes) -> Image.Image | None:
    """A picture converted by its profile, for formats that hold none; None where that fails."""
    target = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile))
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None
    for shown in (image, image.convert("RGB")):  # a grey picture may have a profile of colours
        try:
            return ImageCms.profileToProfile(
                shown, source, target, ImageCms.Intent.RELATIVE_COLORIMETRIC, outputMode="RGB"
            )
        except (ImageCms.PyCMSError, OSError, ValueError):
            continue
    return None


def spread(pixels: NDArray[np.float32], alpha: NDArray[np.float32]) -> NDArray[np.float32]:
    """Colours with those under full transparency replaced by visible ones nearby.

    What a file stores there is arbitrary, often black, and would bleed as a fringe into what
    can be seen when the picture is enlarged and redrawn. Visible colours stay as they are.

    Args:
        pixels: shape (H, W, 3).
        alpha: shape (H, W); 0 is fully transparent.
    """
    known = alpha > 0
    if known.all() or not known.any():
        return pixels
    return _filled(np.where(known[..., None], pixels, 0), known.astype(np.float32))


def _filled(sums: NDArray[np.float32], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Where a weight is 0: the mean of the smallest block of doubling size that has colours."""
    height, width = weights.shape
    colours = sums / np.maximum(weights, 1e-12)[..., None]
    if weights.all() or (height == 1 and width == 1):
        return colours
    coarse = _filled(_halved(sums), _halved(weights))
    spread_out = coarse.repeat(2, axis=0).repeat(2, axis=1)[:height, :width]
    return np.where((weights > 0)[..., None], colours, spread_out).astype(np.float32)


def _halved(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Sums over blocks of 2 x 2."""
    edges = [(0, values.shape[0] % 2), (0, values.shape[1] % 2)]
    padded = np.pad(values, edges + [(0, 0)] * (values.ndim - 2))
    rows = padded[0::2] + padded[1::2]
    return rows[:, 0::2] + rows[:, 1::2]
