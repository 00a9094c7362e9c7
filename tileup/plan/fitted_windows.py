"""Windows of several shapes, for networks that take any: together of as few cells as can be.

The canvas is cut into blocks, as high as a window's core and four times as wide. What works in a
block gets one window around it; or the block is halved, across or down, and each half again, if
the windows of the parts have fewer cells together. Of all these ways the best one is found, from
the smallest parts to the largest, for all blocks at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tileup.contracts import Box
from tileup.plan.grid import Grid
from tileup.plan.itinerary import WIDER, Layout, Windows

CALL = 300
"""Cells of a window that could be evaluated in the time that each further window costs."""

BLOCK = (4, 4 * WIDER)
"""Units to a block, down and across: where it is halved most, a part is one of them."""
Units = NDArray[np.int64] | NDArray[np.int32]
"""Numbers of units or cells, one for each part of a size: large canvases have millions of them."""
_ONE, _ACROSS, _DOWN = range(3)
"""What becomes of a part: one window, or two halves side by side, or one above the other."""


@dataclass(frozen=True, slots=True)
class _PartsOfSize:
    """All parts of one size that the canvas is cut into, in rows and columns."""

    bounds: Units
    """Where something works in each, in units: the first row, one past the last, negative, and the
    same of columns, so that the least is that of several. Where nothing does, a large number.
    Shape (4, rows, columns)."""
    cost: Units
    """Cells of its windows, at least, with what the windows themselves cost."""
    way: NDArray[np.int8]
    """How that is reached."""


def fitted_windows(needed: Grid, layout: Layout) -> Windows:
    """Windows whose cores cover every needed cell.

    A core is a window without its margin on each side that is not at the canvas border.

    Args:
        needed: true where some core must hold the cell, as large as the canvas.
        layout: of a canvas whose windows may differ in shape.

    Returns:
        Boxes inside the canvas: block row by block row, and in each those of one shape together,
        so that they can be evaluated at once.
    """
    sizes = _Sizes.of(layout)
    found = _chosen(_tree(_working_units(needed, sizes), sizes), sizes.block)
    top, bottom, left, right = np.concatenate([*found], axis=1)
    height, width = sizes.down[bottom - top], sizes.across[right - left]
    first_row = sizes.start(top, bottom, height, layout.rows)
    first_column = sizes.start(left, right, width, layout.columns)
    order = np.lexsort((first_column, first_row, width, height, top // sizes.block[0]))
    corners = first_row, first_column, first_row + height, first_column + width
    return tuple(Box(*each) for each in np.stack(corners, axis=1)[order].tolist())


@dataclass(frozen=True, slots=True)
class _Sizes:
    """How large windows are."""

    unit: int
    """Cells of the smallest part's side."""
    block: tuple[int, int]
    """Units of the largest part: those of `BLOCK`, or of a side of the canvas that one window
    holds."""
    margin: int
    down: Units
    across: Units
    """Height and width in cells of a window around so many units, from 0 units on."""

    @property
    def costs(self) -> NDArray[np.int32]:
        """Of a window around so many units down and across; of none where there are none."""
        costs = np.multiply.outer(self.down, self.across) + CALL
        costs[0] = 0
        return costs.astype(np.int32)

    @classmethod
    def of(cls, layout: Layout) -> _Sizes:
        unit = max((layout.window - 2 * layout.margin) // BLOCK[0], 1)

        def block(usual: int, length: int, longest: int) -> int:
            return (
                usual
                if length > longest
                else max(usual, 1 << (-(-length // unit) - 1).bit_length())
            )

        def sides(most: int, length: int) -> Units:
            """Powers of two: with few shapes, many windows are evaluated at once."""
            powers = 2 ** np.ceil(np.log2(np.arange(most + 1).clip(1))).astype(np.int64)
            cells = powers * unit + 2 * layout.margin
            return np.minimum(-(-cells // layout.multiple) * layout.multiple, length)

        high = block(BLOCK[0], layout.rows, layout.window)
        wide = block(BLOCK[1], layout.columns, layout.widest)
        down, across = sides(high, layout.rows), sides(wide, layout.columns)
        return cls(unit, (high, wide), layout.margin, down, across)

    def start(self, first: Units, last: Units, side: Units, length: int) -> Units:
        """First cell of windows whose cores hold units [first, last), in the middle if possible."""
        begin, end = first * self.unit, np.minimum(last * self.unit, length)
        lowest, highest = end + self.margin - side, begin - self.margin
        middle = (begin + end - side + 1) // 2
        return np.minimum(np.maximum(middle, lowest), highest).clip(0, length - side)


def _working_units(needed: Grid, sizes: _Sizes) -> NDArray[np.bool_]:
    """Whether anything works in each unit, padded to whole blocks, shape (rows, columns)."""
    above = np.zeros(tuple(each + 1 for each in needed.values.shape), dtype=np.int32)
    inside = np.cumsum(needed.values, axis=0, dtype=np.int32, out=above[1:, 1:])
    np.cumsum(inside, axis=1, out=inside)
    fields = [_fields(edges, sizes.unit) for edges in (needed.rows, needed.columns)]
    (top, bottom), (left, right) = fields
    strips = above[bottom] - above[top]
    count = strips.take(right, axis=1)
    count -= strips.take(left, axis=1)
    missing = [-length % block for length, block in zip(count.shape, sizes.block, strict=True)]
    return np.pad(count > 0, [(0, each) for each in missing])


def _fields(edges: Units, unit: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The fields that lie in each unit at least in part: first, and one past the last."""
    start = np.arange(0, edges[-1], unit)
    end = np.minimum(start + unit, edges[-1])
    return np.searchsorted(edges, start, side="right") - 1, np.searchsorted(edges, end)


_Tree = dict[tuple[int, int], _PartsOfSize]
"""By height and width in units."""
_Halves = list[tuple[int, _PartsOfSize, int]]
"""A way to halve parts, the halves, and along which axis they lie."""


def _tree(works: NDArray[np.bool_], sizes: _Sizes) -> _Tree:
    """The best for all parts of all sizes, from the smallest to whole blocks."""
    row, column = np.indices(works.shape, dtype=np.int32, sparse=True)
    bounds = np.full((4, *works.shape), works.size, np.int32)
    for bound, each in zip(bounds, (row, -row - 1, column, -column - 1), strict=True):
        np.copyto(bound, each, where=works)
    costs = sizes.costs
    tree: _Tree = {}
    for high, wide in _part_sizes(sizes.block):
        halves: _Halves = [(_ACROSS, tree[high, wide // 2], 2)] if wide > 1 else []
        halves += [(_DOWN, tree[high // 2, wide], 1)] if high > 1 else []
        for _, half, axis in halves[:1]:  # either is the whole
            bounds = np.minimum(*_pairs(half.bounds, axis))
        tree[high, wide] = _cheapest(bounds, halves, costs)
    return tree


def _cheapest(bounds: Units, halves: _Halves, costs: NDArray[np.int32]) -> _PartsOfSize:
    """One window for each part, or its halves where they are cheaper together."""
    tall, broad = ((-first - last).clip(0) for first, last in (bounds[:2], bounds[2:]))
    cost = costs.ravel().take(tall * costs.shape[1] + broad)
    way = np.full(cost.shape, _ONE, dtype=np.int8)
    for other, half, axis in halves:
        both = np.add(*_pairs(half.cost[None], axis))[0]
        way[both < cost] = other
        cost = np.minimum(cost, both)
    return _PartsOfSize(bounds, cost, way)


def _part_sizes(block: tuple[int, int]) -> list[tuple[int, int]]:
    """Heights and widths of all parts in units, halves before what they are halves of."""
    return [
        (1 << down, 1 << across)
        for down in range(block[0].bit_length())
        for across in range(block[1].bit_length())
    ]


def _pairs(of_parts: Units, axis: int) -> tuple[Units, Units]:
    """The first and the second of each two neighbours along an axis of (n, rows, columns)."""
    if axis == 2:
        return of_parts[..., ::2], of_parts[..., 1::2]
    return of_parts[:, ::2], of_parts[:, 1::2]


def _chosen(tree: _Tree, block: tuple[int, int]) -> Iterator[Units]:
    """Where something works in the parts that get one window, in units, shape (4, n)."""
    reached = {size: np.zeros(parts.cost.shape, dtype=np.bool_) for size, parts in tree.items()}
    reached[block][:] = True
    for high, wide in reversed(_part_sizes(block)):
        here, parts = reached[high, wide], tree[high, wide]
        one = here & (parts.cost > 0) & (parts.way == _ONE)
        yield parts.bounds[:, one] * np.array([[1], [-1], [1], [-1]])
        if wide > 1:
            reached[high, wide // 2] |= (here & (parts.way == _ACROSS)).repeat(2, axis=1)
        if high > 1:
            reached[high // 2, wide] |= (here & (parts.way == _DOWN)).repeat(2, axis=0)
