"""Maps of a canvas that change at the edges of tiles only: as small as a plan, however fine the
cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tileup.contracts import Box

Edges = NDArray[np.int64]
"""Where the fields of a grid begin along one axis, and where the last one ends: rising from 0."""


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """A map of cells, held as one value for each field between neighbouring edges."""

    rows: Edges
    """Cells, shape (R + 1,)."""
    columns: Edges
    """Cells, shape (C + 1,)."""
    values: NDArray[Any]
    """Shape (R, C)."""

    def __post_init__(self) -> None:
        fields = len(self.rows) - 1, len(self.columns) - 1
        if self.values.shape != fields:
            raise ValueError(f"values of shape {self.values.shape} for {fields} fields")

    @classmethod
    def of(cls, cells: NDArray[Any]) -> Grid:
        """The grid of a map, shape (H, W), that changes at as few edges as possible."""
        rows = _edges((cells[1:] != cells[:-1]).any(axis=1))
        columns = _edges((cells[:, 1:] != cells[:, :-1]).any(axis=0))
        return cls(rows, columns, cells[np.ix_(rows[:-1], columns[:-1])])

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in cells."""
        return int(self.rows[-1]), int(self.columns[-1])

    @property
    def transposed(self) -> Grid:
        """Rows and columns exchanged."""
        return Grid(self.columns, self.rows, self.values.T)

    def with_values(self, values: NDArray[Any]) -> Grid:
        """Other values on the same fields."""
        return Grid(self.rows, self.columns, values)

    def cells(self) -> NDArray[Any]:
        """The value of every cell, shape (H, W)."""
        return self.inside(Box(0, 0, *self.shape))

    def between(self, top: int, bottom: int) -> NDArray[Any]:
        """The value of every cell of the rows [top, bottom), shape (bottom - top, W)."""
        return self.inside(Box(top, 0, bottom, self.shape[1]))

    def inside(self, box: Box) -> NDArray[Any]:
        """The value of every cell of a box inside the map, shape (h, w)."""
        part = self.crop(box)
        tall, wide = np.diff(part.rows), np.diff(part.columns)
        return part.values.repeat(tall, axis=0).repeat(wide, axis=1)

    def crop(self, box: Box) -> Grid:
        """The map inside a box, counted from its corner."""
        fields = self.fields(box)
        rows = self.rows[fields.top : fields.bottom + 1].clip(box.top, box.bottom) - box.top
        columns = self.columns[fields.left : fields.right + 1].clip(box.left, box.right) - box.left
        return Grid(rows, columns, self.values[fields.index])

    def merged(self) -> Grid:
        """The same map, its edges only where it changes: of equal maps, equal."""
        down = _first_of_its_kind(self.values)
        across = _first_of_its_kind(self.values.T)
        return Grid(
            np.append(self.rows[:-1][down], self.rows[-1:]),
            np.append(self.columns[:-1][across], self.columns[-1:]),
            self.values[np.ix_(down, across)],
        )

    def fields(self, box: Box) -> Box:
        """The fields that lie in a box at least in part."""
        top, bottom = np.searchsorted(self.rows, [box.top + 1, box.bottom])
        left, right = np.searchsorted(self.columns, [box.left + 1, box.right])
        return Box(int(top) - 1, int(left) - 1, int(bottom), int(right))

    def reflected(self, height: int, width: int) -> Grid:
        """The map extended to a size by reflection; see `reflected`."""
        down, rows = _reflected_fields(self.rows, height)
        across, columns = _reflected_fields(self.columns, width)
        return Grid(rows, columns, self.values[np.ix_(down, across)])


class Areas:
    """How many cells of a map of truths are true, in any box, in constant time for each box."""

    def __init__(self, true: Grid) -> None:
        self.grid = true
        tall, wide = np.diff(true.rows), np.diff(true.columns)
        self.above = np.zeros((len(tall) + 1, len(wide) + 1), dtype=np.int64)
        np.cumsum(true.values * tall[:, None] * wide, axis=0, out=self.above[1:, 1:])
        np.cumsum(self.above, axis=1, out=self.above)

    def within(self, boxes: NDArray[np.int64]) -> NDArray[np.int64]:
        """True cells of boxes inside the map: top, left, bottom, right, shape (n, 4) -> (n,)."""
        top, left, bottom, right = boxes.T
        count = self._before(bottom, right) - self._before(top, right)
        return count - self._before(bottom, left) + self._before(top, left)

    def _before(self, y: NDArray[np.int64], x: NDArray[np.int64]) -> NDArray[np.int64]:
        """True cells in [0, y) x [0, x)."""
        row, down = _place(self.grid.rows, y)
        column, across = _place(self.grid.columns, x)
        above, tall, wide = self.above, np.diff(self.grid.rows), np.diff(self.grid.columns)
        corner = above[row, column]
        below = (above[row + 1, column] - corner) // tall[row]
        beside = (above[row, column + 1] - corner) // wide[column]
        inside = self.grid.values[row, column]
        return corner + below * down + beside * across + inside * down * across


def reflected(length: int, total: int) -> NDArray[np.intp]:
    """Indices that extend `length` cells to `total` by reflection, as often as it takes."""
    if length == 1:
        return np.zeros(total, dtype=np.intp)
    return np.pad(np.arange(length), (0, max(total - length, 0)), mode="reflect")


def _first_of_its_kind(lines: NDArray[Any]) -> NDArray[np.bool_]:
    """Which lines are not as the one before, shape (n, m) -> (n,)."""
    return np.concatenate([[True], (lines[1:] != lines[:-1]).any(axis=1)])


def _edges(changes: NDArray[np.bool_]) -> Edges:
    """Edges from where neighbouring cells differ, shape (length - 1,)."""
    return np.concatenate([[0], np.flatnonzero(changes) + 1, [len(changes) + 1]])


def _place(edges: Edges, position: NDArray[np.int64]) -> tuple[NDArray[np.intp], Edges]:
    """The field in which a position lies, and how far in; the last position is in the last."""
    field = np.searchsorted(edges, position, side="right") - 1
    field = np.minimum(field, len(edges) - 2)
    return field, position - edges[field]


def _reflected_fields(edges: Edges, total: int) -> tuple[NDArray[np.intp], Edges]:
    """Which field lies in each field of a reflected axis, and the edges of those."""
    if total == edges[-1]:
        return np.arange(len(edges) - 1), edges
    lengths = np.diff(edges)
    of_cell = np.arange(len(lengths)).repeat(lengths)[reflected(int(edges[-1]), total)]
    found = _edges(of_cell[1:] != of_cell[:-1])
    return of_cell[found[:-1]], found
