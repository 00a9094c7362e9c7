"""How much there is to see in any box of a picture, in constant time for each box."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tileup.images.pixels import IntegerPixels, Pixels, spans
from tileup.settings.values import DETAIL_METRICS

LUMA = (0.2126, 0.7152, 0.0722)
"""Rec. 709: the primaries of sRGB. Applied to the picture as it is encoded, not to light."""


BAND = 2**17
"""Pixels that are measured at once: as many as a processor holds close by."""

FINEST = 2**26
"""Gradients are counted in so many parts of 1: as finely as floats hold those of a photograph."""

_AT_ONCE = 2**31 // (2 * FINEST)
"""Rows of gradients, each below 2, whose sums are numbers of 32 bits."""

Lines = NDArray[np.int64]
"""Lines between pixels along one axis, from 0 to its length, rising."""


@dataclass(frozen=True, slots=True, eq=False)
class DetailMap:
    """Summed-area tables of one picture, at the lines between which boxes will be measured.

    Memory is 8 bytes for each crossing of lines, 32 with `variance`.

    Metrics:
        gradient: mean magnitude of the gradient of luma, luma in [0, 1]; blind to how bright
            a region is, and nearly so to smooth ramps.
        variance: sqrt(VarR + VarG + VarB) with channels in 0-255, as the quadtree tools before
            tileup have it.
    """

    metric: str
    """One of `DETAIL_METRICS`."""
    rows: Lines
    """Shape (R,)."""
    columns: Lines
    """Shape (C,)."""
    tables: NDArray[np.float64] | NDArray[np.int64]
    """One for each channel, shape (N, R, C): its sum above row y and left of column x; that of
    gradients in parts of `FINEST`."""

    @classmethod
    def of(
        cls,
        pixels: Pixels,
        metric: str,
        rows: NDArray[np.float64] | None = None,
        columns: NDArray[np.float64] | None = None,
    ) -> DetailMap:
        """Measure a picture, in one pass over its pixels (all of them at once for `variance`).

        Args:
            pixels: RGB in [0, 1], shape (H, W, 3).
            metric: one of `DETAIL_METRICS`.
            rows, columns: where edges of boxes may lie, in pixels, not necessarily whole; None:
                anywhere.

        Raises:
            ValueError: another shape, no pixels, or an unknown metric.
        """
        if len(pixels.shape) != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
            raise ValueError(f"pixels must have shape (H, W, 3), got {pixels.shape}")
        if metric not in DETAIL_METRICS:
            raise ValueError(f"detail metric must be one of {DETAIL_METRICS}, got {metric!r}")
        down, across = _lines(rows, pixels.shape[0]), _lines(columns, pixels.shape[1])
        if metric == "gradient":
            return cls(metric, down, across, _counted(_gradients(pixels), down, across))
        return cls(metric, down, across, _tables(_moments(np.asarray(pixels)), down, across))

    @property
    def height(self) -> int:
        """Rows of the picture."""
        return int(self.rows[-1])

    @property
    def width(self) -> int:
        """Columns of the picture."""
        return int(self.columns[-1])

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
        return self._metric(inner / ((bottom - top) * (right - left)))

    def between(self, y: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
        """The same of all boxes between neighbouring edges, shape (len(y) - 1, len(x) - 1).

        Args:
            y, x: edges of rows and columns, rising, as those of `mean`.
        """
        row, down = _split(y, self.rows)
        sums = self._crossed(row, x)
        if down.any():
            part = down[:, None]
            sums = sums * (1 - part) + self._crossed(row + 1, x) * part
        inner = sums[:, 1:, 1:] - sums[:, :-1, 1:]
        inner -= sums[:, 1:, :-1] - sums[:, :-1, :-1]
        return self._metric(inner / np.outer(np.diff(y), np.diff(x)))

    def _crossed(self, row: NDArray[np.intp], x: NDArray[np.float64]) -> NDArray[np.float64]:
        """As `_along`, of all cuts of each row: taken line by line, in a third of the time."""
        column, along = _split(x, self.columns)
        lines = self.tables[:, row]
        corner = lines.take(column, axis=2).astype(np.float64, copy=False)
        if not along.any():
            return corner
        return corner * (1 - along) + lines.take(column + 1, axis=2) * along

    def _metric(self, means: NDArray[np.float64]) -> NDArray[np.float64]:
        """Of the means of channels over boxes, shape (N, ...)."""
        if self.metric == "gradient":
            return np.maximum(means[0] / FINEST, 0.0)
        return np.sqrt(np.maximum(means[3] - np.square(means[:3]).sum(0), 0.0))

    def _sums(self, y: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Integral of each channel over [0, y) x [0, x), shape (N, ...), of shapes that broadcast.

        Pixels are constant over their area, so the integral is bilinear between table entries.
        """
        row, down = _split(y, self.rows)
        column, along = _split(x, self.columns)
        above = self._along(row, column, along)
        if not down.any():
            return above
        return above * (1 - down) + self._along(row + 1, column, along) * down

    def _along(
        self, row: NDArray[np.intp], column: NDArray[np.intp], along: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """The same above a line; most cuts lie on lines, where there is nothing between."""
        corner = self.tables[:, row, column]
        if not along.any():
            return corner.astype(np.float64)
        return corner * (1 - along) + self.tables[:, row, column + 1] * along


def _lines(positions: NDArray[np.float64] | None, length: int) -> Lines:
    """The lines around positions along an axis; all of them for None."""
    if positions is None:
        return np.arange(length + 1)
    pixels = np.clip(positions.astype(np.int64), 0, length - 1)
    return np.unique(np.concatenate([pixels, pixels + 1, np.array([0, length])]))


def _split(
    position: NDArray[np.float64], lines: Lines
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Number of the line before a position, and how far into the pixel after it, in [0, 1]."""
    pixel = np.clip(position.astype(np.int64), 0, lines[-1] - 1)
    return np.searchsorted(lines, pixel), position - pixel


Channels = Iterator[Sequence[NDArray[Any]]]
"""Bands of a picture from the top down: for each channel an array of shape (rows, W)."""


def _bands(height: int, width: int) -> Iterator[slice]:
    return spans(height, max(2, BAND // width))


def _gradients(pixels: Pixels) -> Iterator[NDArray[np.int32]]:
    """The magnitude of the gradient of luma at each pixel, per pixel of distance, in whole
    `FINEST`: bands from the top down, each good until the next is asked for.

    A row is known when the one below it is: bands lag by a row.
    """
    height, width = pixels.shape[:2]
    room = _Room(min(height, max(2, BAND // width)), width)
    for band in _bands(height, width):
        rows, begins = band.stop - band.start, not band.start
        luma, steps = room.luma[: rows + 1], room.steps[: rows + 1]
        _luma(_numbers(pixels, band), luma[1:], room.spare[:rows])
        if begins:
            luma[0], steps[0] = luma[1], 0
        np.square(np.subtract(luma[1:], luma[:-1], out=steps[1:]), out=steps[1:])
        if begins and rows > 1:  # beyond the picture lies the step from inside
            steps[1] = steps[2]
        known = slice(1 if begins else 0, rows)
        if rows > begins:
            yield room.magnitude(steps[known], steps[known.start + 1 :], luma[known])
        luma[0], steps[0] = luma[rows], steps[rows]
    yield room.magnitude(room.steps[:1], room.steps[:1], room.luma[:1])


def _numbers(pixels: Pixels, rows: slice) -> NDArray[Any]:
    """Some rows as they are held: in [0, 1], or whole numbers."""
    return (pixels.numbers if isinstance(pixels, IntegerPixels) else pixels)[rows]


def _luma(numbers: NDArray[Any], out: NDArray[np.float32], spare: NDArray[np.float32]) -> None:
    """Luma in [0, 1] of some rows: channels one by one, as a processor takes them in a row.

    Args:
        numbers: shape (rows, W, 1 or 3).
        out: where it goes, shape (rows, W).
        spare: of the same shape, for what lies between.
    """
    whole = np.issubdtype(numbers.dtype, np.integer)
    for at, part in enumerate(LUMA):
        channel = spare if at else out
        np.copyto(channel, numbers[..., min(at, numbers.shape[2] - 1)])
        if whole:
            channel /= np.float32(np.iinfo(numbers.dtype).max)
        channel *= np.float32(part)
        if at:
            out += channel


class _Room:
    """Arrays for a band of gradients, used again for the next one.

    Args:
        rows: the most that a band has.
        width: pixels of a row.
    """

    def __init__(self, rows: int, width: int) -> None:
        self.luma, self.steps = _aligned(2, rows + 1, width)
        """Of the last row of the band before, and of the rows; squares of the steps to them from
        the row above."""
        self.spare, self._across = _aligned(2, rows, width)
        self._whole = _aligned(1, rows, width).view(np.int32)[0]

    def magnitude(
        self, above: NDArray[np.float32], below: NDArray[np.float32], luma: NDArray[np.float32]
    ) -> NDArray[np.int32]:
        """Of the gradient of some rows, in whole `FINEST`; squares of a derivative are means over
        the steps both ways.

        Unlike the central difference that sees a pattern that alternates from pixel to pixel, and
        unlike the forward difference it does not change when the picture is mirrored.

        Args:
            above, below: squares of the steps from and to other rows.
            luma: of the rows.
        """
        rows = len(luma)
        gradient, across = self.spare[:rows], self._across[:rows, 1:]
        np.add(above, below, out=gradient)
        if luma.shape[1] > 1:
            np.square(np.subtract(luma[:, 1:], luma[:, :-1], out=across), out=across)
            gradient[:, 1:-1] += across[:, :-1]
            gradient[:, 1:-1] += across[:, 1:]
            for edge in (0, -1):
                gradient[:, edge] += 2 * across[:, edge]
        gradient *= np.float32(FINEST**2 / 2)
        np.sqrt(gradient, out=gradient)
        np.copyto(self._whole[:rows], gradient, casting="unsafe")
        return self._whole[:rows]


def _aligned(count: int, rows: int, width: int) -> NDArray[np.float32]:
    """Room of shape (count, rows, width) whose rows begin with a line of a processor's cache: two
    that do not take up to four times as long to add."""
    line = 64 // 4  # numbers
    length = -(-width // line) * line
    room = np.empty(count * rows * length + line, np.float32)
    room = room[-room.ctypes.data % 64 // 4 :][: count * rows * length]
    return room.reshape(count, rows, length)[..., :width]


def _moments(pixels: NDArray[np.float32]) -> Channels:
    """Red, green and blue in 0-255, then the sum of their squares.

    Measured from the picture's own mean, which leaves variances as they are and keeps large
    sums from cancelling.
    """
    means = [channel.astype(np.float64).mean() for channel in np.moveaxis(pixels, 2, 0)]
    for band in _bands(*pixels.shape[:2]):
        colours = [
            (channel.astype(np.float64) - mean) * 255.0
            for channel, mean in zip(np.moveaxis(pixels[band], 2, 0), means, strict=True)
        ]
        red, green, blue = (np.square(colour) for colour in colours)
        yield (*colours, red + green + blue)


def _counted(
    gradients: Iterable[NDArray[np.int32]], rows: Lines, columns: Lines
) -> NDArray[np.int64]:
    """The same of gradients in whole `FINEST`: exact, so that no order changes the sums.

    Pixels between two lines are summed up before anything else is done to them.
    """
    found: list[NDArray[np.int64]] = []
    strip = _Strip(columns)
    top, line = 0, 1
    for band in gradients:
        done, height = 0, len(band)
        while done < height:
            until = min(height, int(rows[line]) - top)
            strip.add(band[done:until])
            done = until
            if top + done == rows[line]:
                found.append(strip.taken())
                line += 1
        top += height
    tables = np.zeros((1, len(rows), len(columns)), np.int64)
    inside = np.stack(found, out=tables[0, 1:, 1:])
    for axis in (0, 1):
        np.cumsum(inside, axis=axis, out=inside)
    return tables


class _Strip:
    """Sums of gradients between two lines, in numbers of 32 bits for as many rows as these hold.

    Args:
        columns: the lines across.
    """

    def __init__(self, columns: Lines) -> None:
        self._columns = columns
        self._few, self._added = _aligned(1, 2, int(columns[-1])).view(np.int32)[0]
        self._few[:] = 0
        self._rows = 0
        self._all = np.zeros(columns[-1], np.int64)

    def add(self, band: NDArray[np.int32]) -> None:
        """Rows of gradients, each number below 2 `FINEST`."""
        done = 0
        while done < len(band):
            part = band[done : done + _AT_ONCE - self._rows]
            np.add.reduce(part, axis=0, out=self._added)
            self._few += self._added
            done, self._rows = done + len(part), self._rows + len(part)
            if self._rows == _AT_ONCE:
                self._carry()

    def _carry(self) -> None:
        self._all += self._few
        self._few[:] = 0
        self._rows = 0

    def taken(self) -> NDArray[np.int64]:
        """Sums between the lines, shape (C - 1,); from here on those of the next rows."""
        self._carry()
        sums = np.add.reduceat(self._all, self._columns[:-1])
        self._all[:] = 0
        return sums


def _tables(channels: Channels, rows: Lines, columns: Lines) -> NDArray[np.float64]:
    """Summed-area tables, shape (N, R, C), of N channels at the crossings of lines."""
    found: list[NDArray[np.float64]] = []
    top, above = 0, None
    for band in channels:
        sums = np.stack([_from_left(channel, columns) for channel in band])
        above = np.zeros_like(sums[:, :1]) if above is None else above
        down = np.concatenate([above, sums], axis=1)
        np.cumsum(down, axis=1, out=down)
        bottom = top + sums.shape[1]
        low, high = np.searchsorted(rows, [top, bottom])
        found.append(down[:, rows[low:high] - top])
        top, above = bottom, down[:, -1:]
    return np.concatenate([*found, *([] if above is None else [above])], axis=1)


def _from_left(channel: NDArray[Any], columns: Lines) -> NDArray[np.float64]:
    """Sums of the pixels of each row that lie left of the lines."""
    sums = np.empty((channel.shape[0], channel.shape[1] + 1))
    sums[:, 0] = 0
    np.cumsum(channel, axis=1, dtype=np.float64, out=sums[:, 1:])
    return sums[:, columns]
