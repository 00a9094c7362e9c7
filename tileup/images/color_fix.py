"""Gives a redrawn picture the tones of its source: diffusion models and VAEs let colours drift."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

PictureRows = Callable[[int, int], NDArray[np.float32]]
"""Gives rows [top, bottom) of a picture, shape (bottom - top, W, 3)."""
Toning = Callable[[NDArray[np.float32], NDArray[np.float32]], NDArray[np.float32]]
"""Gives one picture the tones of another, see `color_fix`."""
Moments = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Mean and standard deviation of each channel, shape (3,)."""
RADII = (1, 2, 4, 8, 16)
"""Pixels between the taps of each level's kernel; together they blur by 13 pixels' deviation."""
REACH = {"wavelet": sum(RADII), "adain": 0, "none": 0}
"""How far a pixel's tone depends on those around it, by method; `adain` has looked at the whole."""


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
    source: PictureRows,
    method: str,
    height: int,
    multiple: int,
) -> Iterator[tuple[int, NDArray[np.float32], NDArray[np.float32]]]:
    """The same as `color_fix`, band by band; for `adain` all bands are waited for.

    Args:
        drawn: rows from the top down, shape (rows, W, 3).
        source: gives the rows [top, bottom) of the other picture; asked for from the top, and for
            `adain` twice.
        method: see `color_fix`.
        height: rows of the picture.
        multiple: rows that bands begin at multiples of.

    Yields:
        The first row of a band, the band, and the same rows of the other picture.
    """
    rule = METHODS[method]
    if method == "adain":
        waiting = deque(drawn)
        drawn, rule = _let_go(waiting), _restyling(waiting, source)
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
            yield done, rule(held[0], held[1])[rows], held[1][rows]
            done = whole
        passed = max(0, done - REACH[method] - first)
        held, first = [each[passed:] for each in held], first + passed


def _let_go(waiting: deque[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
    while waiting:
        yield waiting.popleft()


def _restyling(bands: Iterable[NDArray[np.float32]], source: PictureRows) -> Toning:
    """What `_restyled` does to the whole, for some rows of it."""
    ends = [0, *itertools.accumulate(len(band) for band in bands)]
    given = (source(top, bottom) for top, bottom in itertools.pairwise(ends))
    moments = _moments(bands), _moments(given)
    return lambda drawn, source: _with_moments(drawn, *moments)


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
    return _with_moments(drawn, _moments([drawn]), _moments([source]))


def _with_moments(drawn: NDArray[np.float32], own: Moments, wanted: Moments) -> NDArray[np.float32]:
    (mean, deviation), (wanted_mean, wanted_deviation) = own, wanted
    flat = deviation < 1e-6
    gain = np.where(flat, 1.0, wanted_deviation / np.where(flat, 1.0, deviation))
    return (gain * drawn + (wanted_mean - gain * mean)).astype(np.float32)


def _moments(bands: Iterable[NDArray[np.float32]]) -> Moments:
    """Mean and standard deviation of each channel.

    Those of rows, merged from the top down (Chan et al. 1979): bands of any height give the same.
    """
    count, mean, squares = 0, np.zeros(3), np.zeros(3)
    for row in itertools.chain.from_iterable(bands):
        own = row.mean(axis=0, dtype=np.float64)
        away, total = own - mean, count + len(row)
        squares += np.square(row - own).sum(axis=0) + away**2 * (count * len(row) / total)
        mean = mean + away * (len(row) / total)
        count = total
    return mean, np.sqrt(squares / count)


def _as_drawn(drawn: NDArray[np.float32], source: NDArray[np.float32]) -> NDArray[np.float32]:
    return drawn


METHODS = {"wavelet": _retoned, "adain": _restyled, "none": _as_drawn}
"""Rules by the names that settings give them."""
