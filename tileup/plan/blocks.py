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

from tileup.images.pixels import Pixels

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
    if isinstance(pixels, LookedAt):
        return _step_of([luma(window) for _, _, window in pixels.windows])
    return _step_of([luma(pixels[down][:, across]) for down, across in _windows(*pixels.shape[:2])])


class LookedAt:
    """Pixels that are passed on once, from the top down; satisfies `Pixels`.

    The windows that will be looked at are held on the way, so that a file need not be decoded for
    them once more.
    """

    def __init__(self, pixels: Pixels) -> None:
        self._pixels = pixels
        self.windows = [
            (down, across, np.zeros((down.stop - down.start, across.stop - across.start, 3), "f4"))
            for down, across in _windows(*pixels.shape[:2])
        ]
        """Rows and columns of each window, and its pixels."""

    @property
    def shape(self) -> tuple[int, ...]:
        return self._pixels.shape

    @property
    def dtype(self) -> np.dtype[np.float32]:
        return self._pixels.dtype

    def __getitem__(self, rows: slice, /) -> NDArray[np.float32]:
        values = self._pixels[rows]
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
    for step in range(2, LARGEST + 1):
        counting = found[np.abs(found) > step / 2]
        if len(counting) < FEWEST:
            break
        sure = float(np.cos(2 * np.pi * counting / step).mean())
        if sure > surest:
            best, surest = step, sure
    return best
