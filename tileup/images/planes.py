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
    data = _whole(_planes(picture), 255).astype(np.uint8)
    return data[..., 0] if data.shape[2] == 1 else data


def to_words(picture: Picture, bits: int = 16) -> NDArray[np.uint16]:
    """Whole numbers of so many bits, shape (H, W) or (H, W, 2 to 4), rounded to the nearest.

    Raises:
        OutputError: a value is no number, or infinite.
    """
    data = _whole(_planes(picture), 2**bits - 1).astype(np.uint16)
    return data[..., 0] if data.shape[2] == 1 else data


def to_whole(picture: Picture, bits: int = 16) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Whole numbers of so many bits where the picture is deep, of 8 otherwise."""
    return to_words(picture, bits) if picture.deep else to_bytes(picture)


def _planes(picture: Picture) -> NDArray[np.floating[Any]]:
    """Grey or RGB, then alpha where there is one: shape (H, W, 1 to 4)."""
    colours: NDArray[np.floating[Any]] = picture.pixels
    if picture.grey:
        colours = colours.mean(axis=2, keepdims=True, dtype=np.float64)
    return colours if picture.alpha is None else np.dstack([colours, picture.alpha])


def _whole(values: NDArray[np.floating[Any]], most: int) -> NDArray[np.floating[Any]]:
    """Values in [0, 1] as whole numbers up to `most`."""
    if not np.isfinite(values).all():
        raise OutputError(
            "the result holds values that are no numbers; try another model or sampler"
        )
    return np.rint(np.clip(values, 0, 1) * most)
