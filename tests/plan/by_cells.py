"""The plan worked out cell by cell, as tileup did at first: slow, short of tricks, an oracle."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter

from tileup.contracts import Box
from tileup.plan.itinerary import Layout, Windows
from tileup.plan.tiles import TilePlan

Mask = NDArray[np.bool_]
Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Axis:
    """Windows along one axis of the canvas."""

    length: int
    """Cells of the canvas, at least `window`."""
    window: int
    """Cells of a window."""
    margin: int
    """Cells on each side of a window that are context only, unless at the canvas border."""

    def __post_init__(self) -> None:
        if self.length < self.window or self.margin < 0 or self.window <= 2 * self.margin:
            raise ValueError(f"windows do not fit: {self}")

    def core(self, start: int) -> Span:
        """The core of the window that starts at a cell."""
        stop = start + self.window
        return (
            start + self.margin if start else 0,
            stop - self.margin if stop < self.length else stop,
        )

    def reach(self, first: int) -> int:
        """Where the core ends of the furthest window whose core holds cell `first`."""
        start = min(max(first - self.margin, 0), self.length - self.window)
        at_border = start + self.window == self.length
        return self.length if at_border else start + self.window - self.margin

    def centred(self, span: Span) -> int:
        """Start of the window whose core holds the span and whose centre is nearest to its own."""
        first, last = span
        furthest = self.length - self.window
        lowest = min(max(last - self.window + self.margin, 0), furthest)
        highest = min(max(first - self.margin, 0), furthest)
        return min(max((first + last - self.window + 1) // 2, lowest), highest)


def denoise_map(plan: TilePlan) -> NDArray[np.float64]:
    """Strength of every cell, tile by tile."""
    result = np.full((plan.rows, plan.columns), np.nan)
    for tile in plan.tiles:
        result[tile.box.index] = tile.denoise
    return result


def cover(needed: Mask, window: tuple[int, int], margin: int) -> tuple[Box, ...]:
    """As `tileup.plan.windows.cover`."""
    if not needed.any():
        return ()
    height, width = window
    rows = Axis(needed.shape[0], height, margin)
    columns = Axis(needed.shape[1], width, margin)
    by_rows = _pruned(needed, _shelves(needed, rows, columns), rows, columns)
    by_columns = [(top, left) for left, top in _shelves(needed.T, columns, rows)]
    by_columns = _pruned(needed, by_columns, rows, columns)
    corners = by_rows if len(by_rows) <= len(by_columns) else by_columns
    return tuple(Box(top, left, top + height, left + width) for top, left in sorted(corners))


def _pruned(needed: Mask, corners: list[Span], rows: Axis, columns: Axis) -> list[Span]:
    cores = {(top, left): (*rows.core(top), *columns.core(left)) for top, left in corners}
    times = np.zeros(needed.shape, dtype=np.int32)
    for top, bottom, left, right in cores.values():
        times[top:bottom, left:right] += 1
    kept: list[Span] = []
    for corner, (top, bottom, left, right) in cores.items():
        place = np.s_[top:bottom, left:right]
        if (times[place][needed[place]] > 1).all():
            times[place] -= 1
        else:
            kept.append(corner)
    return kept


def _shelves(needed: Mask, down: Axis, across: Axis) -> list[Span]:
    filled = np.zeros((needed.shape[0] + 1, needed.shape[1]), dtype=np.int32)
    np.cumsum(needed, axis=0, out=filled[1:])
    rows = np.flatnonzero(needed.any(axis=1))
    changes = 1 + np.flatnonzero((needed[1:] != needed[:-1]).any(axis=1))
    corners: list[Span] = []
    for band in _bands(filled, rows, changes, down, across):
        for span in _spans(filled[band[1]] > filled[band[0]], across):
            inside = needed[band[0] : band[1], span[0] : span[1]]
            corners.append(
                (
                    down.centred(_extent(inside.any(axis=1), band[0])),
                    across.centred(_extent(inside.any(axis=0), span[0])),
                )
            )
    return corners


def _extent(filled: Mask, offset: int) -> Span:
    cells = np.flatnonzero(filled)
    return offset + int(cells[0]), offset + int(cells[-1]) + 1


def _spans(filled: Mask, axis: Axis) -> list[Span]:
    cells = np.flatnonzero(filled)
    spans: list[Span] = []
    at = 0
    while at < len(cells):
        first = int(cells[at])
        end = axis.reach(first)
        at = int(np.searchsorted(cells, end))
        spans.append((first, end))
    return spans


def _bands(
    filled: NDArray[np.int32],
    rows: NDArray[np.intp],
    changes: NDArray[np.intp],
    down: Axis,
    across: Axis,
) -> list[Span]:
    best: dict[int, tuple[int, Span | None]] = {-1: (0, None)}

    def following(row: int) -> int:
        at = int(np.searchsorted(rows, row))
        return int(rows[at]) if at < len(rows) else -1

    def ends(first: int) -> list[int]:
        reach = down.reach(first)
        low, high = np.searchsorted(changes, [first + 1, reach])
        return [*changes[low:high].tolist(), reach]

    waiting = [following(0)]
    while waiting:
        first = waiting[-1]
        options = [(end, following(end)) for end in ends(first)]
        unknown = [after for _, after in options if after not in best]
        if unknown:
            waiting.extend(unknown)
            continue
        waiting.pop()
        if first in best:
            continue
        counted = [
            (len(_spans(filled[end] > filled[first], across)) + best[after][0], -end)
            for end, after in options
        ]
        count, negative_end = min(counted)
        best[first] = (count, (first, -negative_end))

    bands: list[Span] = []
    at = following(0)
    while at != -1:
        band = best[at][1]
        assert band is not None
        bands.append(band)
        at = following(band[1])
    return bands


def spot(working: Mask, layout: Layout, steps: range, seed: int) -> tuple[Windows, ...]:
    """As `tileup.plan.layings.spot`."""
    on_canvas = np.zeros((layout.rows, layout.columns), dtype=np.bool_)
    on_canvas[: working.shape[0], : working.shape[1]] = working
    needed = np.asarray(maximum_filter(on_canvas, size=2 * layout.margin + 1), dtype=np.bool_)
    return tuple(_jittered(needed, layout, np.random.default_rng([seed, step])) for step in steps)


def _jittered(needed: Mask, layout: Layout, random: np.random.Generator) -> Windows:
    tops, lefts = (
        _starts(length, layout.window, int(random.integers(layout.window)))
        for length in (layout.rows, layout.columns)
    )
    boxes = (
        Box(top, left, top + layout.window, left + layout.window) for top in tops for left in lefts
    )
    return tuple(box for box in boxes if needed[box.index].any())


def _starts(length: int, window: int, offset: int) -> list[int]:
    wanted = range(offset - window if offset else 0, length, window)
    return sorted({min(max(start, 0), length - window) for start in wanted})
