"""Colours that cannot be taken as they are: CMYK, and colour that lies under transparency."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from tileup.images.calibration import SRGB_POINTS
from tileup.images.picture import Picture
from tileup.images.pixels import Pixels


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


def in_srgb(picture: Picture) -> Picture | None:
    """A picture converted by its profile, for formats that hold none; None where that fails.

    In 16 bits, relative to white. Grey pictures with a profile of colours become RGB; one for grey
    tells nothing of colours.
    """
    # Imported here because few pictures need it.
    import imagecodecs

    assert picture.icc is not None
    words = np.rint(np.clip(picture.whole, 0, 1) * 65535).astype(np.uint16)
    grey = picture.icc[16:20] == b"GRAY"
    if grey and not (picture.grey or is_neutral(picture.pixels, None)):
        return None
    try:
        found = imagecodecs.cms_transform(
            np.ascontiguousarray(words[..., 0] if grey else words),
            picture.icc,
            imagecodecs.cms_profile("srgb"),
            colorspace="gray" if grey else "rgb",
            outcolorspace="rgb",
            intent=imagecodecs.CMS.INTENT.RELATIVE_COLORIMETRIC,
        )
    except (RuntimeError, ValueError):
        return None
    pixels = np.asarray(found).astype(np.float32) / np.float32(65535)
    keeps = bool((pixels[..., :1] == pixels).all())
    return replace(picture, pixels=pixels, icc=None, grey=picture.grey and keeps)


def is_profile_of(icc: bytes, *, grey: bool) -> bool:
    """Whether it is a whole profile, for grey or for RGB."""
    # Imported here because few pictures need it.
    import imagecodecs

    try:
        imagecodecs.cms_profile_validate(icc)
    except (RuntimeError, ValueError):
        return False
    return icc[16:20] == (b"GRAY" if grey else b"RGB ")


def in_light(picture: Picture) -> NDArray[np.float32]:
    """Light of a picture by its profile, relative to white, in the primaries of sRGB.

    Returns:
        Shape (H, W) or (H, W, 2 to 4): grey or RGB, below 0 and above 1 for colours that lie
        outside of sRGB, and then alpha where there is one.
    """
    assert picture.icc is not None
    colours = picture.whole[..., :1] if picture.grey else picture.whole
    light = _converted(colours, picture.icc, _light_profile(picture.grey))
    if picture.alpha is not None:
        light = np.dstack([light, picture.alpha])
    return light[..., 0] if light.shape[2] == 1 else light


def from_light(light: NDArray[np.float32], icc: bytes) -> NDArray[np.float32] | None:
    """The inverse of `in_light` without alpha, shape (H, W, 1 or 3); None where that fails."""
    try:
        return _converted(light, _light_profile(light.shape[2] == 1), icc)
    except (RuntimeError, ValueError):
        return None


def _light_profile(grey: bool) -> bytes:
    import imagecodecs

    if grey:
        return bytes(imagecodecs.cms_profile("gray", gamma=1.0))
    # By an exponent and not by a table, which would end at 0 and 1.
    white, *primaries = SRGB_POINTS
    numbers = [each for point in primaries for each in point]
    return bytes(imagecodecs.cms_profile("rgb", whitepoint=[*white], primaries=numbers, gamma=1.0))


def _converted(values: NDArray[np.float32], source: bytes, target: bytes) -> NDArray[np.float32]:
    """Numbers of grey or RGB, shape (H, W, 1 or 3), of one profile in those of another."""
    import imagecodecs

    kind = "gray" if values.shape[2] == 1 else "rgb"
    made = imagecodecs.cms_transform(
        np.ascontiguousarray(values[..., 0] if kind == "gray" else values, dtype=np.float32),
        source,
        target,
        colorspace=kind,
        outcolorspace=kind,
        intent=imagecodecs.CMS.INTENT.RELATIVE_COLORIMETRIC,
    )
    return np.asarray(made).reshape(values.shape)


def without_profile(picture: Picture) -> tuple[Picture, str]:
    """A picture for a file that holds no profile, and in words what is lost by that."""
    converted = in_srgb(picture)
    done = "the picture was converted to sRGB" if converted else "colours may be off"
    return converted or replace(picture, icc=None), f"a colour profile ({done})"


def is_neutral(pixels: Pixels, alpha: NDArray[np.float32] | None) -> bool:
    """Whether nothing that can be seen has a colour: channels differ by one level of 255 at most.

    Args:
        pixels: shape (H, W, 3), in [0, 1].
        alpha: shape (H, W).
    """
    for top in range(0, pixels.shape[0], _BAND):
        band = pixels[top : top + _BAND]
        spread = band.max(axis=2) - band.min(axis=2)
        seen = True if alpha is None else alpha[top : top + _BAND] > 0
        if bool(((spread > _LEVEL) & seen).any()):
            return False
    return True


def without_colour(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each pixel with the mean of its channels, shape (H, W, 3)."""
    mean = pixels.mean(axis=2, keepdims=True, dtype=np.float64).astype(np.float32)
    return np.repeat(mean, 3, axis=2)


_BAND = 64
"""Rows that are looked at at once: pictures with colours show them soon."""
_LEVEL = 1.001 / 255
"""What rounding adds to channels that are the same."""


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
