"""Weights of strength: where a phase works, and how strengths fade into one another.

They are worked out from the fields between the edges of tiles, for any rows of the canvas: a
fading reaches over a few cells, and nothing is as large as the canvas that need not be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tileup.plan.grid import Grid

Map = NDArray[np.float64]
RowSpan = tuple[int, int]
"""First row, and one past the last."""


def working_weight(
    strengths: Grid, weakest: float, margin: int, rows: RowSpan | None = None
) -> Map:
    """How much each cell takes part in a phase.

    1 on the working tiles; falling to 0 over `margin` cells into tiles that start later; 0 on kept
    tiles, because a weight held below 1 down to noise level 0 would pull the picture back
    (x - source goes with sigma^(1 - w)).

    Args:
        strengths: strength of each cell, 0 for kept ones.
        weakest: the weakest strength at work.
        margin: cells over which the weight falls.
        rows: of the map that are asked for; None: all.

    Returns:
        Weights in [0, 1], one row for each of `rows`.
    """
    near = Near(strengths.with_values(strengths.values >= weakest), margin + 1)
    top, bottom = rows or (0, strengths.shape[0])
    if all_work(strengths, weakest, (top, bottom)):
        return np.ones((bottom - top, strengths.shape[1]))
    way = np.sqrt(np.arange((margin + 1) ** 2 + 1))
    fall = np.where(way <= margin, 0.5 + 0.5 * np.cos(np.pi * way / (margin + 1)), 0.0)
    weight = fall.take(near.squares(rows))
    if not strengths.values[near.fields(top, bottom)].all():
        weight[_cells(strengths, rows) == 0] = 0
    return weight


def all_work(strengths: Grid, weakest: float, rows: RowSpan) -> bool:
    """Whether every cell of some rows is at work, and so takes part in the phase fully."""
    edges = strengths.rows
    first, last = np.searchsorted(edges, rows[0], side="right") - 1, np.searchsorted(edges, rows[1])
    return bool((strengths.values[first:last] >= weakest).all())


def memberships(
    strengths: Grid, levels: Sequence[float], margin: int, rows: RowSpan | None = None
) -> list[Map]:
    """How finished canvases of single strengths are feathered together.

    Args:
        strengths: strength of each cell, 0 for kept ones.
        levels: the distinct positive strengths.
        margin: cells over which neighbouring strengths fade into one another, on each side.
        rows: of the map that are asked for; None: all.

    Returns:
        One map for each level, in [0, 1]; they sum to one on working cells and are 0 on kept ones.
    """
    way = np.sqrt(np.arange((margin + 1) ** 2 + 1))
    fall = 0.5 + 0.5 * np.cos(np.pi * np.minimum(way / (margin + 1), 1))
    fall[way > margin] = 0
    working = _cells(strengths, rows) > 0
    near = (Near(strengths.with_values(strengths.values == level), margin + 1) for level in levels)
    raw = [np.where(working, fall[each.squares(rows)], 0.0) for each in near]
    total = np.maximum(np.sum(raw, axis=0), np.finfo(np.float64).tiny)
    return [each / total for each in raw]


def finished_share(strengths: Grid, width: int, rows: RowSpan | None = None) -> Map:
    """Share of the model's picture in the finished one.

    0 on kept tiles, rising to 1 over `width` cells inside the working tiles around them.

    Args:
        strengths: strength of each cell.
        width: cells over which the two are faded into each other.
        rows: of the map that are asked for; None: all.

    Returns:
        Shares in [0, 1], one row for each of `rows`.
    """
    kept = strengths.with_values(strengths.values == 0)
    way = np.minimum(np.sqrt(np.arange((width + 1) ** 2 + 1)) / (width + 1), 1.0)
    rise = 0.5 - 0.5 * np.cos(np.pi * way)
    return rise[Near(kept, width + 1).squares(rows)]


def _cells(strengths: Grid, rows: RowSpan | None) -> Map:
    return strengths.cells() if rows is None else strengths.between(*rows)


@dataclass(frozen=True, slots=True)
class Near:
    """How far cells are from the nearest true one of a map, up to a limit."""

    true: Grid
    limit: int
    """Cells, at least 1; what is farther away counts as being so far."""

    def squares(self, rows: RowSpan | None = None) -> NDArray[np.int32]:
        """Square of the Euclidean distance between cells' centres, at most that of the limit.

        Args:
            rows: of the map that are asked for; None: all.

        Returns:
            Shape (rows, columns); 0 on true cells.
        """
        height, width = self.true.shape
        top, bottom = rows or (0, height)
        edges, most = self.true.rows, self.limit**2
        fields = self.fields(top, bottom)
        low, across = fields.start, [self._across(row) for row in range(fields.start, fields.stop)]
        result = np.full((bottom - top, width), most, dtype=np.int32)
        for field, squares in enumerate(across, low):
            if squares is None:
                continue
            first, end = int(edges[field]), int(edges[field + 1])
            inside = slice(max(first - top, 0), max(end - top, 0))
            np.minimum(result[inside], squares, out=result[inside])
            for away in range(1, self.limit):
                for row in (first - away, end - 1 + away):
                    if top <= row < bottom:
                        line = result[row - top]
                        np.minimum(line, squares + np.int32(away**2), out=line)
        return result

    def fields(self, top: int, bottom: int) -> slice:
        """Rows of fields that have a cell within the limit of rows [top, bottom)."""
        edges = self.true.rows
        low = int(np.searchsorted(edges, max(top - self.limit, 0), side="right")) - 1
        return slice(low, int(np.searchsorted(edges, min(bottom + self.limit, edges[-1]))))

    def _across(self, field: int) -> NDArray[np.int32] | None:
        """The same within the rows of one field alone, shape (columns,); None: far everywhere."""
        true = self.true.values[field]
        if not true.any():
            return None
        cells = true.repeat(np.diff(self.true.columns))
        at, far = np.arange(len(cells)), len(cells) + self.limit
        before = at - np.maximum.accumulate(np.where(cells, at, -self.limit))
        after = np.minimum.accumulate(np.where(cells, at, far)[::-1])[::-1] - at
        return (np.minimum(np.minimum(before, after), self.limit) ** 2).astype(np.int32)
