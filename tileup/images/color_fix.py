"""Gives a redrawn picture the tones of its source: diffusion models and VAEs let colours drift."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

RADII = (1, 2, 4, 8, 16)
"""Pixels between the taps of each level's kernel; together they blur by 13 pixels' deviation."""
REACH = {"wavelet": sum(RADII), "none": 0}
"""How far a pixel's tone depends on those around it, by method; the others see the whole."""


def color_fix(
    drawn: NDArray[np.float32], source: NDArray[np.float32], method: str
) -> NDArray[np.float32]:
    """A picture with its own detail and the tones of another.

    Args:
        drawn: shape (H, W, 3), nominally in [0, 1].
        source: of the same shape: where the tones come from.
        method: `wavelet` takes the low frequencies of the source and the others of `drawn`, so
            that tones agree place by place; `adain` gives each channel the mean and standard
            deviation of the source's, so that tones agree on the whole; `none` changes nothing.

    Returns:
        Shape (H, W, 3), new unless nothing changes. It is not clipped.

    Raises:
        ValueError: shapes differ, or the method is none of these.
    """
    if drawn.shape != source.shape:
        raise ValueError(f"shapes differ: {drawn.shape} and {source.shape}")
    if method not in METHODS:
        raise ValueError(f"color_fix {method!r} is not known; use wavelet, adain or none")
    return METHODS[method](drawn, source)


def color_fix_bands(
    drawn: Iterable[NDArray[np.float32]],
    source: Callable[[int, int], NDArray[np.float32]],
    method: str,
    height: int,
    multiple: int,
) -> Iterator[tuple[int, NDArray[np.float32], NDArray[np.float32]]]:
    """The same as `color_fix`, band by band, of a method in `REACH`.

    Args:
        drawn: rows from the top down, shape (rows, W, 3).
        source: gives the rows [top, bottom) of the other picture; asked for once, from the top.
        method: see `color_fix`.
        height: rows of the picture.
        multiple: rows that bands begin at multiples of.

    Yields:
        The first row of a band, the band, and the same rows of the other picture.
    """
    first = done = last = 0
    held: list[NDArray[np.float32]] = []
    for band in drawn:
        fresh = band, source(last, last + len(band))
        pairs = zip(held, fresh, strict=True) if held else ((each,) for each in fresh)
        held = [np.concatenate(each) for each in pairs]
        last += len(band)
        whole = last if last == height else (last - REACH[method]) // multiple * multiple
        if whole > done:
            rows = slice(done - first, whole - first)
            yield done, METHODS[method](held[0], held[1])[rows], held[1][rows]
            done = whole
        passed = max(0, done - REACH[method] - first)
        held, first = [each[passed:] for each in held], first + passed


def _retoned(drawn: NDArray[np.float32], source: NDArray[np.float32]) -> NDArray[np.float32]:
    """The low frequencies of the source and the others of `drawn`."""
    return drawn + _low(source - drawn)


def _low(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """What an a-trous wavelet transform leaves after five levels (Holschneider et al. 1989)."""
    for radius in RADII:
        for axis in (0, 1):
            pixels = _smoothed(pixels, radius, axis)
    return pixels


def _smoothed(pixels: NDArray[np.float32], radius: int, axis: int) -> NDArray[np.float32]:
    """(x[i - radius] + 2 x[i] + x[i + radius]) / 4 along an axis; beyond the border lies its edge.

    By that padding a constant stays constant up to the border.
    """
    length = pixels.shape[axis]
    places = np.arange(length)
    before = pixels.take((places - radius).clip(0), axis=axis)
    after = pixels.take((places + radius).clip(max=length - 1), axis=axis)
    before += after
    return before / 4 + pixels / 2


def _restyled(drawn: NDArray[np.float32], source: NDArray[np.float32]) -> NDArray[np.float32]:
    """Adaptive instance normalisation (Huang & Belongie 2017); a flat channel is only shifted."""
    (mean, deviation), (wanted_mean, wanted) = _moments(drawn), _moments(source)
    flat = deviation < 1e-6
    gain = np.where(flat, 1.0, wanted / np.where(flat, 1.0, deviation))
    return (gain * drawn + (wanted_mean - gain * mean)).astype(np.float32)


def _moments(pixels: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of each channel."""
    return (
        pixels.mean(axis=(0, 1), dtype=np.float64),
        pixels.std(axis=(0, 1), dtype=np.float64),
    )


def _as_drawn(drawn: NDArray[np.float32], source: NDArray[np.float32]) -> NDArray[np.float32]:
    return drawn


METHODS = {"wavelet": _retoned, "adain": _restyled, "none": _as_drawn}
"""Rules by the names that settings give them."""
