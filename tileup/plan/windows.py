"""Few windows of one shape that cover the working tiles.

A window has a margin on each side that is not at the canvas border; inside the margins lies its
core. Every working cell lies in the core of some window. So a working cell always has at least
a margin of context, and windows that meet inside a working region overlap by two margins.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tileup.contracts import Box
from tileup.plan.grid import Areas, Grid

Cells = NDArray[np.int64]
"""Numbers of cells along an axis, or of edges between them."""
Boxes = NDArray[np.int64]
"""Top, left, bottom and right of many boxes, shape (n, 4)."""
Span = tuple[int, int]
"""Half-open range along one axis."""


@dataclass(frozen=True, slots=True)
class Axis:
    """Windows along one axis of the canvas. Cells may be given one by one or as arrays."""

    length: int
    """Cells of the canvas, at least `window`."""
    window: int
    """Cells of a window."""
    margin: int
    """Cells on each side of a window that are context only, unless at the canvas border."""

    def __post_init__(self) -> None:
        if self.length < self.window or self.margin < 0 or self.window <= 2 * self.margin:
            raise ValueError(f"windows do not fit: {self}")

    def core(self, start: Cells) -> tuple[Cells, Cells]:
        """First and one past the last cell of the core of the window that starts at a cell."""
        stop = start + self.window
        return (
            np.where(start > 0, start + self.margin, 0),
            np.where(stop < self.length, stop - self.margin, stop),
        )

    def reach(self, first: Cells) -> Cells:
        """Where the core ends of the furthest window whose core holds cell `first`."""
        _, end = self.core((first - self.margin).clip(0, self.length - self.window))
        return end

    def centred(self, first: Cells, last: Cells) -> Cells:
        """Start of the window whose core holds [first, last) and whose centre is nearest to its."""
        furthest = self.length - self.window
        lowest = (last - self.window + self.margin).clip(0, furthest)
        highest = (first - self.margin).clip(0, furthest)
        return ((first + last - self.window + 1) // 2).clip(lowest, highest)


def cover(needed: Grid, window: tuple[int, int], margin: int) -> tuple[Box, ...]:
    """Windows whose cores cover every needed cell.

    Bands of rows are chosen by dynamic programming, windows inside a band from left to right (each
    is the best there is for its band); then the same with rows and columns exchanged, and the
    smaller answer counts. The work grows with the fields of the map and the windows, not with its
    cells.

    Args:
        needed: true where some core must hold the cell, as large as the canvas.
        window: height and width of a window, at most the canvas.
        margin: cells of context at each side.

    Returns:
        Boxes of the window's shape inside the canvas, sorted by row, then column.
    """
    if not needed.values.any():
        return ()
    height, width = window
    rows = Axis(needed.shape[0], height, margin)
    columns = Axis(needed.shape[1], width, margin)
    cores = Cores(needed, rows, columns)
    by_rows = cores.pruned(Shelves(needed, rows, columns).corners())
    turned = Shelves(needed.transposed, columns, rows).corners()
    by_columns = cores.pruned(turned[:, ::-1])
    corners = by_rows if len(by_rows) <= len(by_columns) else by_columns
    return tuple(
        Box(top, left, top + height, left + width) for top, left in sorted(corners.tolist())
    )


class Stretches:
    """Where cells are true, along lines that are cut into the same fields.

    Args:
        true: for each field of each line, shape (n, C).
        edges: of the fields, shape (C + 1,).
    """

    def __init__(self, true: NDArray[np.bool_], edges: Cells) -> None:
        count = np.diff(edges, append=edges[-1] + 1)
        self.length, self.field_of = int(edges[-1]), np.arange(len(edges)).repeat(count)
        following = np.full((len(true), len(edges)), self.length)
        following[:, :-1][true] = np.broadcast_to(edges[:-1], true.shape)[true]
        self.following = np.minimum.accumulate(following[:, ::-1], axis=1)[:, ::-1]

    def after(self, lines: NDArray[np.intp], cells: Cells) -> Cells:
        """The first true cell of lines from given cells on; the length where there is none."""
        return np.maximum(self.following[lines, self.field_of[cells]], cells)

    def spans(self, axis: Axis) -> tuple[NDArray[np.intp], Cells, Cells]:
        """Fewest spans, each within one core, that hold all true cells: greedy from the left.

        Returns:
            Number of the line, first cell and one past the last of each span; line by line, and
            on a line from left to right.
        """
        reach = axis.reach(np.arange(axis.length + 1))
        lines = np.arange(len(self.following))
        end = np.zeros_like(lines)
        found = [(lines[:0], end[:0], end[:0])]
        while len(lines):
            first = self.after(lines, end)
            lines, first = lines[first < self.length], first[first < self.length]
            end = reach[first]
            found.append((lines, first, end))
        which, first, end = (np.concatenate(each) for each in zip(*found, strict=True))
        order = np.argsort(which, kind="stable")
        return which[order], first[order], end[order]


class Shelves:
    """Windows in bands along the first axis of a map.

    Args:
        needed: true where some core must hold the cell.
        down, across: windows along the first and the second axis.
    """

    def __init__(self, needed: Grid, down: Axis, across: Axis) -> None:
        self.rows, self.columns, self.values = needed.rows, needed.columns, needed.values
        self.down, self.across = down, across
        self.above = np.zeros((len(self.rows), self.values.shape[1]), dtype=np.int32)
        np.cumsum(self.values, axis=0, out=self.above[1:])
        busy = Stretches(self.values.any(axis=1)[None], self.rows)
        rows = np.arange(self.down.length + 1)
        self.next: list[int] = busy.after(np.zeros_like(rows), rows).tolist()
        """For each row the first one from it on with a needed cell; the length without one."""
        changed = (self.values[1:] != self.values[:-1]).any(axis=1)
        self.changes: list[int] = self.rows[1:-1][changed].tolist()

    def corners(self) -> Cells:
        """Top left corners of the windows, band by band, from left to right, shape (n, 2)."""
        bands = self._bands()
        which, left, end = self._seen(bands).spans(self.across)
        top, bottom, right = self._extents(bands, which, left, end)
        return np.stack([self.down.centred(top, bottom), self.across.centred(left, right)], axis=1)

    def _bands(self) -> Cells:
        """Bands of rows that need the fewest windows together: first and one past the last.

        A band starts at the first row not yet covered and ends as far as a core reaches, or
        earlier at a row where the pattern changes: from there the next band may fit better.
        """
        ways = np.array(list(self._ways()), dtype=np.int64)
        which, _, _ = self._seen(ways).spans(self.across)
        counts = np.bincount(which, minlength=len(ways))
        best = {self.down.length: (0, 0)}  # for a first row: windows from it on, less its end
        for (first, end), count in sorted(
            zip(ways.tolist(), counts.tolist(), strict=True), reverse=True
        ):
            way = count + best[self.next[end]][0], -end
            best[first] = min(best.get(first, way), way)
        bands: list[Span] = []
        first = self.next[0]
        while first != self.down.length:
            bands.append((first, -best[first][1]))
            first = self.next[bands[-1][1]]
        return np.array(bands)

    def _ways(self) -> Iterator[Span]:
        """All bands that there may be: first row and one past the last."""
        reach = self.down.reach(np.arange(self.down.length + 1)).tolist()
        done, waiting = {self.down.length}, [self.next[0]]
        while waiting:
            first = waiting.pop()
            if first in done:
                continue
            done.add(first)
            end = reach[first]
            low, high = bisect_right(self.changes, first), bisect_left(self.changes, end)
            for each in (*self.changes[low:high], end):
                yield first, each
                waiting.append(self.next[each])

    def _seen(self, bands: Cells) -> Stretches:
        """The columns that bands need."""
        low, high = self._fields(bands).T
        return Stretches(self.above[high] > self.above[low], self.columns)

    def _fields(self, bands: Cells) -> Cells:
        """The fields that lie in bands at least in part: first and one past the last, (n, 2)."""
        low = np.searchsorted(self.rows, bands[:, 0], side="right") - 1
        return np.stack([low, np.searchsorted(self.rows, bands[:, 1])], axis=1)

    def _extents(
        self, bands: Cells, which: NDArray[np.intp], left: Cells, end: Cells
    ) -> tuple[Cells, Cells, Cells]:
        """First and one past the last row, and one past the last column, that spans need."""
        top, bottom, last = np.zeros((3, len(bands), len(self.columns)), dtype=np.int64)
        for band, (low, high) in enumerate(self._fields(bands).tolist()):
            part = self.values[low:high]
            some = part.any(axis=0)
            top[band, :-1] = np.where(some, self.rows[low + part.argmax(axis=0)], self.rows[-1])
            bottom[band, :-1] = some * self.rows[high - part[::-1].argmax(axis=0)]
            last[band, :-1] = some * self.columns[1:]
        fields = np.searchsorted(self.columns, np.stack([left + 1, end + 1], axis=1)) - 1
        fields[:, 1] += self.columns[fields[:, 1]] < end
        places = (fields + which[:, None] * len(self.columns)).ravel()
        return (
            np.maximum(np.minimum.reduceat(top.ravel(), places)[::2], bands[which, 0]),
            np.minimum(np.maximum.reduceat(bottom.ravel(), places)[::2], bands[which, 1]),
            np.minimum(np.maximum.reduceat(last.ravel(), places)[::2], end),
        )


class Cores:
    """What lies in the cores of windows.

    Args:
        needed: true where some core must hold the cell.
        rows, columns: windows along both axes.
    """

    def __init__(self, needed: Grid, rows: Axis, columns: Axis) -> None:
        self.needed, self.rows, self.columns = needed, rows, columns
        self.areas = Areas(needed)

    def pruned(self, corners: Cells) -> Cells:
        """The corners without those windows whose needed cells lie in other cores too.

        Most windows have more needed cells than they share with all their neighbours together,
        and are kept without looking at single cells.
        """
        _, at = np.unique(corners @ [self.columns.length, 1], return_index=True)
        corners = corners[np.sort(at)]
        cores = self._of(corners)
        first, second = _overlapping(cores, max(self.rows.window, self.columns.window))
        common = self.areas.within(_common(cores[first], cores[second]))
        total = np.zeros(len(corners), dtype=np.int64)
        for each in (first, second):
            np.add.at(total, each, common)
        dropped: set[int] = set()
        for at in np.flatnonzero(total >= self.areas.within(cores)).tolist():
            others = {*second[first == at].tolist(), *first[second == at].tolist()} - dropped
            if self._held(cores[at], cores[sorted(others)]):
                dropped.add(at)
        return np.delete(corners, sorted(dropped), axis=0)

    def _of(self, corners: Cells) -> Boxes:
        top, bottom = self.rows.core(corners[:, 0])
        left, right = self.columns.core(corners[:, 1])
        return np.stack([top, left, bottom, right], axis=1)

    def _held(self, core: Boxes, others: Boxes) -> bool:
        """Whether every needed cell of a core lies in another one."""
        left = self.needed.inside(Box(*core.tolist()))
        for top, first, bottom, last in (_common(others, core) - np.tile(core[:2], 2)).tolist():
            left[top:bottom, first:last] = False
        return not left.any()


def _common(boxes: Boxes, others: Boxes) -> Boxes:
    """Where boxes overlap that do."""
    return np.concatenate(
        [np.maximum(boxes, others)[..., :2], np.minimum(boxes, others)[..., 2:]], axis=-1
    )


def _overlapping(boxes: Boxes, side: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """All pairs of boxes that overlap, each pair once; no box is longer than `side`.

    Boxes that overlap start in the same square of a grid of this side, or in neighbouring ones.
    """
    down, across = boxes[:, 0] // side, boxes[:, 1] // side
    stride = int(across.max()) + 2
    square = down * stride + across
    order = np.argsort(square, kind="stable")
    pairs = [
        _joined(square + step, square[order], order)
        for step in (0, 1, stride - 1, stride, stride + 1)
    ]
    first, second = (np.concatenate(each) for each in zip(*pairs, strict=True))
    same = square[first] == square[second]
    common = _common(boxes[first], boxes[second])
    real = (common[:, :2] < common[:, 2:]).all(axis=1) & (~same | (first < second))
    return first[real], second[real]


def _joined(
    wanted: NDArray[np.int64], keys: NDArray[np.int64], order: NDArray[np.intp]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Every index of a wanted key with every item that has it; `keys` are sorted, by `order`."""
    low, high = (np.searchsorted(keys, wanted, side=side) for side in ("left", "right"))
    counts = high - low
    skipped = np.repeat(low - np.concatenate([[0], counts.cumsum()[:-1]]), counts)
    return np.repeat(np.arange(len(wanted)), counts), order[skipped + np.arange(counts.sum())]
