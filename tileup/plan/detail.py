"""How much there is to see in any box of a picture, in constant time for each box."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tileup.settings.values import DETAIL_METRICS

LUMA = (0.2126, 0.7152, 0.0722)
"""Rec. 709: the primaries of sRGB. Applied to the picture as it is encoded, not to light."""


@dataclass(frozen=True, slots=True, eq=False)
class DetailMap:
    """Summed-area tables of one picture; memory is 8 bytes a pixel, 32 with `variance`.

    Metrics:
        gradient: mean magnitude of the gradient of luma, luma in [0, 1]; blind to how bright
            a region is, and nearly so to smooth ramps.
        variance: sqrt(VarR + VarG + VarB) with channels in 0-255, as the quadtree tools before
            tileup have it.
    """

    metric: str
    """One of `DETAIL_METRICS`."""
    tables: tuple[NDArray[np.float64], ...]
    """One for each channel, shape (H + 1, W + 1): its sum above row y and left of column x."""

    @classmethod
    def of(cls, pixels: NDArray[np.float32], metric: str) -> DetailMap:
        """Measure a picture.

        Args:
            pixels: RGB in [0, 1], shape (H, W, 3).
            metric: one of `DETAIL_METRICS`.

        Raises:
            ValueError: another shape, no pixels, or an unknown metric.
        """
        if pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
            raise ValueError(f"pixels must have shape (H, W, 3), got {pixels.shape}")
        if metric not in DETAIL_METRICS:
            raise ValueError(f"detail metric must be one of {DETAIL_METRICS}, got {metric!r}")
        if metric == "gradient":
            return cls(metric, (_table(_gradient(_luma(pixels))),))
        return cls(metric, tuple(_table(moment) for moment in _moments(pixels)))

    @property
    def height(self) -> int:
        """Rows of the picture."""
        return self.tables[0].shape[0] - 1

    @property
    def width(self) -> int:
        """Columns of the picture."""
        return self.tables[0].shape[1] - 1

    def mean(self, boxes: NDArray[np.float64]) -> NDArray[np.float64]:
        """The metric over each box, pixels on its border counted in part.

        Args:
            boxes: top, left, bottom, right in pixels of the picture, not necessarily whole,
                shape (n, 4); each with an area, inside the picture.

        Returns:
            Shape (n,), never negative, exact to rounding.
        """
        top, left, bottom, right = np.asarray(boxes, np.float64).T
        inner = self._sums(bottom, right) - self._sums(top, right)
        inner -= self._sums(bottom, left) - self._sums(top, left)
        means = inner / ((bottom - top) * (right - left))
        if self.metric == "gradient":
            return np.maximum(means[0], 0.0)
        return np.sqrt(np.maximum(means[3] - np.square(means[:3]).sum(0), 0.0))

    def _sums(self, y: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Integral of each channel over [0, y) x [0, x), shape (C, n).

        Pixels are constant over their area, so the integral is bilinear between table entries.
        """
        row, down = _split(y, self.height)
        column, along = _split(x, self.width)
        return np.stack(
            [
                (table[row, column] * (1 - along) + table[row, column + 1] * along) * (1 - down)
                + (table[row + 1, column] * (1 - along) + table[row + 1, column + 1] * along) * down
                for table in self.tables
            ]
        )


def _split(
    position: NDArray[np.float64], length: int
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Pixel that a position falls into, and how far into it, in [0, 1]."""
    pixel = np.clip(position.astype(np.intp), 0, length - 1)
    return pixel, position - pixel


def _luma(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    red, green, blue = (np.float32(weight) for weight in LUMA)
    return pixels[..., 0] * red + pixels[..., 1] * green + pixels[..., 2] * blue


def _gradient(luma: NDArray[np.float32]) -> NDArray[np.float32]:
    """Magnitude of the gradient at each pixel, shape (H, W), per pixel of distance."""
    return np.sqrt(_slope(luma) + _slope(luma.T).T)


def _slope(luma: NDArray[np.float32]) -> NDArray[np.float32]:
    """Squared derivative along the columns: the mean over the steps to both neighbours.

    Unlike the central difference it sees a pattern that alternates from pixel to pixel, and
    unlike the forward difference it does not change when the picture is mirrored.
    """
    squared = np.zeros_like(luma)
    if luma.shape[0] == 1:
        return squared
    steps = np.square(np.diff(luma, axis=0))
    squared[:-1] = steps
    squared[1:] += steps
    squared[1:-1] *= 0.5
    return squared


def _moments(pixels: NDArray[np.float32]) -> Iterator[NDArray[np.float64]]:
    """Red, green and blue in 0-255, then the sum of their squares, each of shape (H, W).

    Measured from the picture's own mean, which leaves variances as they are and keeps large
    sums from cancelling.
    """
    squares = np.zeros(pixels.shape[:2])
    for channel in np.moveaxis(pixels, 2, 0):
        values = channel.astype(np.float64)
        values -= values.mean()
        values *= 255.0
        squares += np.square(values)
        yield values
    yield squares


def _table(channel: NDArray[np.float32] | NDArray[np.float64]) -> NDArray[np.float64]:
    """Summed-area table, shape (H + 1, W + 1), of one channel of shape (H, W)."""
    height, width = channel.shape
    table = np.zeros((height + 1, width + 1))
    np.cumsum(channel, axis=1, dtype=np.float64, out=table[1:, 1:])
    for row in range(1, height):
        table[row + 1] += table[row]
    return table
