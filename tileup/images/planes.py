"""Pixels as the whole numbers that files hold."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tileup.errors import OutputError
from tileup.images.picture import Picture


def to_image(picture: Picture) -> Image.Image:
    """8-bit Pillow image of mode L, LA, RGB or RGBA, each value rounded to the nearest.

    Raises:
        OutputError: a value is no number, or infinite.
    """
    return Image.fromarray(to_bytes(picture))


def to_bytes(picture: Picture) -> NDArray[np.uint8]:
    """As `to_words`, of 8 bits."""
    return _whole(picture, np.empty(_shape(picture), np.uint8), 255)


def to_words(picture: Picture, bits: int = 16) -> NDArray[np.uint16]:
    """Whole numbers of so many bits, shape (H, W) or (H, W, 2 to 4), rounded to the nearest.

    Raises:
        OutputError: a value is no number, or infinite.
    """
    return _whole(picture, np.empty(_shape(picture), np.uint16), 2**bits - 1)


def to_whole(picture: Picture, bits: int = 16) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Whole numbers of so many bits where the picture is deep, of 8 otherwise."""
    return to_words(picture, bits) if picture.deep else to_bytes(picture)


_BAND = 2**18
"""Pixels that are rounded at once: what lies between in float then stays in a CPU's cache."""


def _shape(picture: Picture) -> tuple[int, int, int]:
    channels = (1 if picture.grey else 3) + (picture.alpha is not None)
    return picture.height, picture.width, channels


def _whole(picture: Picture, out: NDArray[Any], most: int) -> NDArray[Any]:
    """Values in [0, 1] as whole numbers up to `most`, written to `out`, (H, W, 1 to 4)."""
    rows = max(1, _BAND // picture.width)
    for top in range(0, picture.height, rows):
        values = _planes(picture, slice(top, top + rows))
        if not np.isfinite(values).all():
            raise OutputError(
                "the result holds values that are no numbers; try another model or sampler"
            )
        scaled = np.clip(values, 0, 1)
        scaled *= most
        out[top : top + rows] = np.rint(scaled, out=scaled)
    return out[..., 0] if out.shape[2] == 1 else out


def _planes(picture: Picture, rows: slice) -> NDArray[np.floating[Any]]:
    """Grey or RGB, then alpha where there is one, of some rows: shape (h, W, 1 to 4)."""
    colours: NDArray[np.floating[Any]] = picture.pixels[rows]
    if picture.grey:
        colours = colours.mean(axis=2, keepdims=True, dtype=np.float64)
    return colours if picture.alpha is None else np.dstack([colours, picture.alpha[rows]])
