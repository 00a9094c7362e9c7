"""How coarsely JPEG has quantised a picture, told by its pixels.

The file may say it, but a picture that was compressed, pasted and stored again does not. After Fan
and de Queiroz, "Identification of bitmap compression history: JPEG detection and quantizer
estimation" (IEEE Transactions on Image Processing 12(2), 2003): differences across the borders of
blocks tell where the blocks lie; there the cosine transform of a compressed picture takes whole
multiples of a step, up to the rounding of the pixels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tileup.images.pixels import IntegerPixels, NumberRows, Pixels

BLOCK = 8  # pixels of a side of JPEG's blocks
LUMA = (0.299, 0.587, 0.114)
PLACES = ((0, 1), (1, 0), (1, 1), (0, 2), (2, 0), (1, 2), (2, 1))
"""Frequencies whose steps are looked for: the lowest, which are seldom all zero."""
LARGEST = 60
"""Steps are looked for up to this one; 20 is quality 30."""
FEWEST = 32
"""So many coefficients must be other than zero."""
CERTAIN = 0.4
"""Mean cosine of coefficients in whole steps from which on a step counts as found; rounding of
pixels leaves 0.5 of a step of 3, and 0.95 of one of 12."""
WINDOW = 256
"""Side of the windows that are looked at, pixels; as many as `ACROSS` squared."""
ACROSS = 3
COARSE = 7.0
"""From this step on blocks and ringing are what one sees: qualities of 70 and below."""


def quantisation_step(pixels: Pixels) -> float:
    """Median of the steps of low frequencies, of 255; 1 where none is found.

    Args:
        pixels: RGB in [0, 1], shape (H, W, 3).
    """
    return _step_of([luma(window) for window in _seen(pixels)])


def looked_at(pixels: Pixels) -> Pixels:
    """The same pixels, which are passed on once, from the top down: what `quantisation_step` looks
    at is held on the way, so that a file need not be decoded for it once more."""
    if isinstance(pixels, IntegerPixels):
        return IntegerPixels(LookedAt(pixels.numbers))
    return LookedAt(pixels)


def _seen(pixels: Pixels) -> list[NDArray[np.float32]]:
    """The windows that are looked at, in [0, 1]."""
    if isinstance(pixels, LookedAt):
        return [window for _, _, window in pixels.windows]
    if isinstance(pixels, IntegerPixels) and isinstance(pixels.numbers, LookedAt):
        held = [IntegerPixels(window) for _, _, window in pixels.numbers.windows]
        return [window[: len(window)] for window in held]
    return [pixels[down][:, across] for down, across in _windows(*pixels.shape[:2])]


class LookedAt:
    """Rows that are passed on as they are, and windows of them; satisfies `NumberRows`, and
    `Pixels` where the rows do."""

    def __init__(self, rows: Pixels | NumberRows) -> None:
        self._rows, channels = rows, rows.shape[2]
        self.windows = [
            (down, across, np.zeros((_length(down), _length(across), channels), rows.dtype))
            for down, across in _windows(*rows.shape[:2])
        ]
        """Rows and columns of each window, and what they hold."""

    @property
    def shape(self) -> tuple[int, ...]:
        return self._rows.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._rows.dtype

    def __getitem__(self, rows: slice, /) -> NDArray[Any]:
        values = self._rows[rows]
        first, last, _ = rows.indices(self.shape[0])
        for down, across, window in self.windows:
            top, bottom = max(first, down.start), min(last, down.stop)
            if top < bottom:
                window[top - down.start : bottom - down.start] = values[
                    top - first : bottom - first, across
                ]
        return values

    def __array__(self, dtype: Any = None) -> NDArray[Any]:  # noqa: ANN401
        whole = self[: self.shape[0]]
        return whole if dtype is None else whole.astype(dtype, copy=False)


def _length(span: slice) -> int:
    return span.stop - span.start


def _step_of(windows: list[NDArray[np.float64]]) -> float:
    """The same of windows, in brightness."""
    if min(windows[0].shape) < 3 * BLOCK:
        return 1.0
    top = _border(windows)
    left = _border([each.T for each in windows])
    found = np.concatenate([_transformed(each[top:, left:]) for each in windows])
    return float(np.median([_step(found[:, u, v]) for u, v in PLACES]))


def luma(pixels: NDArray[np.float32]) -> NDArray[np.float64]:
    """Brightness, of 255, shape (H, W)."""
    return 255 * (pixels.astype(np.float64) @ np.array(LUMA))


def _windows(height: int, width: int) -> list[tuple[slice, slice]]:
    """Windows spread evenly, whose corners are multiples of 8; the whole of a small picture."""
    return [(down, across) for down in _spread(height) for across in _spread(width)]


def _spread(length: int) -> list[slice]:
    if length <= WINDOW:
        return [slice(0, length)]
    starts = np.linspace(0, length - WINDOW, ACROSS).astype(int) // BLOCK * BLOCK
    return [slice(start, start + WINDOW) for start in dict.fromkeys(starts.tolist())]


def _border(windows: list[NDArray[np.float64]]) -> int:
    """The row, modulo 8, with which blocks begin: there rows differ by more than beside it."""
    total = np.zeros(BLOCK)
    for each in windows:
        steps = np.diff(each, axis=0)
        jumps = np.abs(steps[1:-1] - (steps[:-2] + steps[2:]) / 2)
        jumps = np.minimum(jumps, 6.0)  # an edge of the picture itself counts no more than that
        rows = len(jumps) // BLOCK * BLOCK
        total += jumps[:rows].reshape(-1, BLOCK, jumps.shape[1]).mean(axis=(0, 2))
    return (int(total.argmax()) + 2) % BLOCK  # jumps[0] lies between rows 1 and 2


def _transformed(pixels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cosine transforms (DCT-II, orthonormal) of all whole blocks, shape (blocks, 8, 8)."""
    rows, columns = pixels.shape[0] // BLOCK, pixels.shape[1] // BLOCK
    blocks = pixels[: rows * BLOCK, : columns * BLOCK].reshape(rows, BLOCK, columns, BLOCK)
    at = np.arange(BLOCK)  # not scipy's dctn: its module takes longer to load than all of this
    basis = np.sqrt(2 / BLOCK) * np.cos((2 * at + 1) * at[:, None] * np.pi / (2 * BLOCK))
    basis[0] /= np.sqrt(2)
    return (basis @ blocks.swapaxes(1, 2) @ basis.T).reshape(-1, BLOCK, BLOCK)


def _step(found: NDArray[np.float64]) -> int:
    """The step whose whole multiples the coefficients of a frequency are; 1: of none."""
    best, surest = 1, CERTAIN
    sizes = np.sort(np.abs(found))
    for step in range(2, LARGEST + 1):
        counting = sizes[np.searchsorted(sizes, step / 2, side="right") :]
        if len(counting) < FEWEST:
            break
        turns = counting / step
        turns -= np.rint(turns)
        # In single precision cosines take a tenth of the time, and of such angles they are as good.
        cosines = np.cos((2 * np.pi * turns).astype(np.float32))
        sure = float(cosines.mean(dtype=np.float64))
        if sure > surest:
            best, surest = step, sure
    return best
