"""Pixels as the whole numbers that files hold."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tileup.errors import OutputError
from tileup.images.picture import Picture
from tileup.images.pixels import IntegerPixels, Numbers, bands, spans, within_unit


def to_image(picture: Picture) -> Image.Image:
    """8-bit Pillow image of mode L, LA, RGB or RGBA, each value rounded to the nearest.

    Raises:
        OutputError: a value is no number, or infinite.
    """
    return Image.fromarray(to_bytes(picture))


def to_bytes(picture: Picture) -> NDArray[np.uint8]:
    """As `to_words`, of 8 bits."""
    return _whole(picture, np.empty(_shape(picture), np.uint8), 8)


def to_words(picture: Picture, bits: int = 16) -> NDArray[np.uint16]:
    """Whole numbers of so many bits, shape (H, W) or (H, W, 2 to 4), rounded to the nearest.

    Raises:
        OutputError: a value is no number, or infinite.
    """
    return _whole(picture, np.empty(_shape(picture), np.uint16), bits)


def to_whole(picture: Picture, bits: int = 16) -> Numbers:
    """Whole numbers of so many bits where the picture is deep, of 8 otherwise."""
    return to_words(picture, bits) if picture.deep else to_bytes(picture)


def number_bands(picture: Picture, bits: int, rows: int | None = None) -> Iterator[Numbers]:
    """The same band by band, shape (rows, W, 1 to 4).

    Args:
        picture: whose pixels are rounded.
        bits: 8 or 16.
        rows: of a band; None: as many as suit the processor.

    Raises:
        OutputError: a value is no number, or infinite.
    """
    size = picture.height, picture.width
    parts = bands(*size) if rows is None else spans(picture.height, rows)
    return (_numbers(picture, part, bits) for part in parts)


def rounded(
    pixels: NDArray[np.float32],
    bits: int,
    *,
    grey: bool,
    alpha: NDArray[np.float32] | None = None,
    clipped: bool = False,
) -> Numbers:
    """Whole numbers of some rows, clipped and rounded to the nearest.

    Args:
        pixels: shape (h, W, 3).
        bits: of each number, 8 to 16.
        grey: whether colours become their mean.
        alpha: shape (h, W).
        clipped: whether all of them lie in [0, 1] already.

    Returns:
        Grey or RGB, then alpha where there is one, shape (h, W, 1 to 4).

    Raises:
        OutputError: a value is no number, or infinite.
    """
    values: NDArray[np.floating[Any]] = pixels
    if grey:
        values = values.mean(axis=2, keepdims=True, dtype=np.float64)
    if alpha is not None:
        values = np.dstack([values, alpha])
    if not np.isfinite(values).all():
        raise OutputError(
            "the result holds values that are no numbers; try another model or sampler"
        )
    unit = values if clipped else within_unit(values)
    scaled: NDArray[Any] = np.multiply(unit, 2**bits - 1, out=None if clipped else unit)
    np.rint(scaled, out=scaled)
    return scaled.astype(np.uint8) if bits == 8 else scaled.astype(np.uint16)


def _shape(picture: Picture) -> tuple[int, int, int]:
    channels = (1 if picture.grey else 3) + (picture.alpha is not None)
    return picture.height, picture.width, channels


def _whole(picture: Picture, out: NDArray[Any], bits: int) -> NDArray[Any]:
    """All bands, written to `out`, (H, W, 1 to 4)."""
    for rows in bands(*out.shape[:2]):
        out[rows] = _numbers(picture, rows, bits)
    return out[..., 0] if out.shape[2] == 1 else out


def _numbers(picture: Picture, rows: slice, bits: int) -> Numbers:
    """Grey or RGB, then alpha where there is one, of some rows: shape (h, W, 1 to 4)."""
    pixels = picture.pixels
    if isinstance(pixels, IntegerPixels) and pixels.bits == bits and picture.alpha is None:
        numbers = pixels.numbers[rows]  # which rounding would give again
        if numbers.shape[2] == (1 if picture.grey else 3):
            return numbers
    alpha = None if picture.alpha is None else picture.alpha[rows]
    return rounded(pixels[rows], bits, grey=picture.grey, alpha=alpha)
