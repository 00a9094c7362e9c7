"""Windows of the shapes that a network was trained on, several of them in one step.

What works is cut into bands of rows, and each band into spans of columns. What a span needs gets
one window, of that shape which is the least work among those that hold it. Of all bands and spans
the best are found by dynamic programming; then the same with rows and columns exchanged, and the
answer that is less work counts.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tileup.contracts import Box
from tileup.plan.grid import Areas, Edges, Grid
from tileup.plan.itinerary import Layout, Windows
from tileup.plan.windows import Axis

UNITS = 8
"""Parts of the square window's core, along one axis, that bands and spans consist of; as many as
the largest tile of the families' settings has smallest ones."""

LineNumbers = NDArray[np.int64]
"""Numbers of lines between which something lies; the first line of the canvas is 0."""
Spans = NDArray[np.int64]
"""LineNumbers about what a window has to hold: top, bottom, left and right, shape (n, 4)."""
AreaTable = NDArray[np.int64]
"""Cells of windows: of the least shape that is as high and as wide as given lengths, by their
numbers; or of those that a band needs, from each line on."""
TOGETHER = 32
"""Squares side by side and below one another among which windows of one shape come together: as
many as are ever evaluated at once. What lies between those of one shape waits for them, in memory.
"""
_TOO_MUCH = 1 << 40
"""Cells of what no shape holds."""


def shaped_windows(needed: Grid, layout: Layout) -> Windows:
    """Windows whose cores cover every needed cell.

    Args:
        needed: true where some core must hold the cell, as large as the canvas.
        layout: of a canvas whose windows may have several shapes.

    Returns:
        Boxes inside the canvas, each square or of one of the shapes: group by group from the top,
        and in each those of one shape together, so that they can be evaluated at once.
    """
    if not needed.values.any():
        return ()
    shapes = _WindowShapes.of(((layout.window, layout.window), *layout.shapes))
    unit = max((layout.window - 2 * layout.margin) // UNITS, 1)
    rows, columns = (_lines(edges, unit) for edges in (needed.rows, needed.columns))
    works = _works(needed, rows, columns)
    down, across = (
        _Lengths.of(lines, lengths, layout.margin)
        for lines, lengths in ((rows, shapes.heights), (columns, shapes.widths))
    )
    by_rows, spans = _ShapedBands(works, down, across, shapes.work).cheapest()
    by_columns, turned = _ShapedBands(works.T, across, down, shapes.work.T).cheapest()
    if by_columns < by_rows:
        spans = turned[:, [2, 3, 0, 1]]
    boxes = {_placed(span, down, across, shapes, layout) for span in spans.tolist()}
    high = height_of_group(layout)
    return tuple(
        sorted(boxes, key=lambda box: (box.top // high, box.height, box.width, box.top, box.left))
    )


def height_of_group(layout: Layout) -> int:
    """Cells down which windows of one shape come together, whole windows."""
    return layout.window * -(-TOGETHER // (layout.columns // layout.window))


@dataclass(frozen=True, slots=True)
class _WindowShapes:
    """The shapes that windows may have."""

    heights: tuple[int, ...]
    """Cells, each once, rising."""
    widths: tuple[int, ...]
    """Likewise."""
    least: tuple[tuple[tuple[int, int] | None, ...], ...]
    """The shape of fewest cells that has at least the height and the width with these numbers;
    of equal ones the first that was given. None where there is none."""

    @classmethod
    def of(cls, shapes: tuple[tuple[int, int], ...]) -> _WindowShapes:
        heights, widths = (tuple(sorted({*lengths})) for lengths in zip(*shapes, strict=True))

        def least(height: int, width: int) -> tuple[int, int] | None:
            holding = (each for each in shapes if each[0] >= height and each[1] >= width)
            return min(holding, key=lambda shape: shape[0] * shape[1], default=None)

        table = tuple(tuple(least(height, width) for width in widths) for height in heights)
        return cls(heights, widths, table)

    @property
    def work(self) -> AreaTable:
        """With a number more along both axes, for what no length holds."""
        work = np.full((len(self.heights) + 1, len(self.widths) + 1), _TOO_MUCH)
        for row, column in np.ndindex(len(self.heights), len(self.widths)):
            if (shape := self.least[row][column]) is not None:
                work[row, column] = shape[0] * shape[1]
        return work


@dataclass(frozen=True, slots=True, eq=False)
class _Lengths:
    """Windows of several lengths along one axis, which hold what lies between lines."""

    lines: Edges
    """Cells."""
    furthest: LineNumbers
    """For each line but the last, the last one to which the core of the longest window reaches."""
    least: NDArray[np.int64]
    """The number of the shortest length whose core holds what lies between a line, (n,), and one so
    many lines after it; one past the last number where none does. Shape (n, most + 1)."""

    @classmethod
    def of(cls, lines: Edges, lengths: tuple[int, ...], margin: int) -> _Lengths:
        axes = (Axis(int(lines[-1]), length, margin) for length in lengths)
        reach = np.stack([axis.reach(lines[:-1]) for axis in axes])
        ends = np.searchsorted(lines, reach, side="right") - 1
        first = np.arange(len(lines) - 1)
        after = np.arange(int((ends[-1] - first).max()) + 1)
        short = ends[:, :, None] < first[:, None] + after
        return cls(lines, ends[-1], short.sum(axis=0))


def _lines(edges: Edges, unit: int) -> Edges:
    """Those edges that are half a unit apart at least, and between those further apart one after
    each unit."""
    kept = [0]
    for edge in edges[1:-1].tolist():
        if 2 * (edge - kept[-1]) >= unit:
            kept.append(edge)
    ends = itertools.pairwise([*kept, int(edges[-1])])
    return np.append(np.concatenate([np.arange(*each, unit) for each in ends]), edges[-1])


def _works(needed: Grid, rows: Edges, columns: Edges) -> NDArray[np.bool_]:
    """Whether any cell is needed between lines, shape (R, C)."""
    top, left = np.meshgrid(rows[:-1], columns[:-1], indexing="ij")
    bottom, right = np.meshgrid(rows[1:], columns[1:], indexing="ij")
    boxes = np.stack([top, left, bottom, right], axis=-1)
    return (Areas(needed).within(boxes.reshape(-1, 4)) > 0).reshape(top.shape)


class _ShapedBands:
    """Windows in bands along the first axis.

    Args:
        works: what they have to hold, between lines, shape (R, C).
        down, across: how long they may be along both axes.
        work: what they cost.
    """

    def __init__(
        self, works: NDArray[np.bool_], down: _Lengths, across: _Lengths, work: AreaTable
    ) -> None:
        self.down, self.across, self.work = down, across, work
        self.busy = works.any(axis=1)
        self.bands = self._ways()
        first, stop = self.bands.T
        row, rows = np.arange(len(works))[:, None], len(works)
        below = np.minimum.accumulate(np.where(works, row, rows)[::-1], axis=0)[::-1]
        above = np.maximum.accumulate(np.where(works, row + 1, 0), axis=0)
        self.tops, self.bottoms = below[first], above[stop - 1]
        """For each band and column the lines about what works there; of nothing the first is not
        above the end of the band."""
        self.some = self.tops < stop[:, None]

    def cheapest(self) -> tuple[int, Spans]:
        """The least work, and what each window has to hold."""
        costs, ends = self._spans()
        total, chosen = self._chosen(costs[:, 0])
        found: list[tuple[int, int, int, int]] = []
        for band in chosen:
            left = 0
            while left < self.some.shape[1]:
                right = int(ends[band, left])
                if self.some[band, left]:
                    top = int(self.tops[band, left:right].min())
                    bottom = int(self.bottoms[band, left:right].max())
                    found.append((top, bottom, left, right))
                left = right
        return total, np.array(found, dtype=np.int64)

    def _ways(self) -> LineNumbers:
        """All bands that there may be: first line and last, shape (n, 2). Their first and their
        last row work."""
        first = np.flatnonzero(self.busy)
        stop = first[:, None] + np.arange(1, self.down.least.shape[1])
        ends = self.busy.take(stop - 1, mode="clip") & (stop <= self.down.furthest[first, None])
        which, _ = np.nonzero(ends)
        return np.stack([first[which], stop[ends]], axis=1)

    def _spans(self) -> tuple[AreaTable, LineNumbers]:
        """For each band, from each line on: the least work, and where the first span ends.

        Where the first column does not work it is passed over. Shapes (n, C + 1) and (n, C).
        """
        bands, columns = self.some.shape
        costs = np.zeros((bands, columns + 1), dtype=np.int64)
        ends = np.tile(np.arange(1, columns + 1), (bands, 1))
        every, most = np.arange(bands), self.down.least.shape[1] - 1
        for left in reversed(range(columns)):
            last = int(self.across.furthest[left])
            top = np.minimum.accumulate(self.tops[:, left:last], axis=1)
            bottom = np.maximum.accumulate(self.bottoms[:, left:last], axis=1)
            top = np.minimum(top, len(self.busy) - 1)  # of columns that do not work
            high = self.down.least[top, (bottom - top).clip(0, most)]
            wide = self.across.least[left, 1 : last - left + 1]
            ways = self.work[high, wide] + costs[:, left + 1 : last + 1]
            best = ways.argmin(axis=1)
            some = self.some[:, left]
            costs[:, left] = np.where(some, ways[every, best], costs[:, left + 1])
            ends[some, left] += best[some]
        return costs, ends

    def _chosen(self, costs: AreaTable) -> tuple[int, list[int]]:
        """The bands that are the least work together, and that work."""
        rows = len(self.busy)
        following = np.append(np.where(self.busy, np.arange(rows), rows), rows)
        following = np.minimum.accumulate(following[::-1])[::-1].tolist()
        best = {rows: (0, -1)}
        numbered = zip(self.bands.tolist(), costs.tolist(), itertools.count(), strict=False)
        for (first, stop), cost, band in sorted(numbered, reverse=True):
            way = cost + best[following[stop]][0], band
            best[first] = min(best.get(first, way), way)
        chosen: list[int] = []
        row = following[0]
        while row != rows:
            chosen.append(best[row][1])
            row = following[int(self.bands[chosen[-1], 1])]
        return best[following[0]][0], chosen


def _placed(
    span: list[int], down: _Lengths, across: _Lengths, shapes: _WindowShapes, layout: Layout
) -> Box:
    """The window about a span, with that in its middle if possible."""
    top, bottom, left, right = span
    shape = shapes.least[down.least[top, bottom - top]][across.least[left, right - left]]
    assert shape is not None
    corner = [
        int(Axis(int(lines[-1]), length, layout.margin).centred(lines[first], lines[last]))
        for lines, length, first, last in (
            (down.lines, shape[0], top, bottom),
            (across.lines, shape[1], left, right),
        )
    ]
    return Box(corner[0], corner[1], corner[0] + shape[0], corner[1] + shape[1])
