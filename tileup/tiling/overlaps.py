"""Where windows lie: which columns they cover, and which cells they share with others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from tileup.contracts import Box

ColumnSpan = tuple[int, int]
"""The first column, and one past the last."""


class Covered:
    """The columns that windows cover, in any rows.

    Args:
        windows: any number, in any order.
        gap: columns between spans that are no reason to tell them apart.
    """

    def __init__(self, windows: Sequence[Box], gap: int = 0) -> None:
        self.edges, self.gap = _edges(sorted(windows, key=lambda box: box.top)), gap
        tops, _, bottoms, _ = self.edges
        self.tallest = int((bottoms - tops).max(initial=0))

    def spans(self, top: int, bottom: int) -> list[ColumnSpan]:
        """Columns of all windows that have a cell in rows [top, bottom), from left to right."""
        tops = self.edges[0]
        low, high = np.searchsorted(tops, [top - self.tallest, bottom])
        _, lefts, bottoms, rights = self.edges[:, low:high]
        reach = bottoms > top
        return _merged(lefts[reach], rights[reach], self.gap)


def _merged(lefts: NDArray[np.int64], rights: NDArray[np.int64], gap: int) -> list[ColumnSpan]:
    """Spans that touch one another, or nearly so, as one."""
    if not len(lefts):
        return []
    order = np.argsort(lefts)
    lefts, rights = lefts[order], np.maximum.accumulate(rights[order])
    apart = np.flatnonzero(lefts[1:] > rights[:-1] + gap)
    firsts, lasts = lefts[[0, *(apart + 1)]], rights[[*apart, -1]]
    return list(zip(firsts.tolist(), lasts.tolist(), strict=True))


class Neighbours:
    """Which windows overlap each window, and what of it none does.

    Args:
        windows: any number, in any order.
    """

    def __init__(self, windows: Sequence[Box]) -> None:
        self.edges = _edges(windows)
        """Top, left, bottom and right of each, shape (4, n)."""
        inner, pairs = self.edges.copy(), list(_overlapping(self.edges))
        for one, other in pairs:
            _take_off(inner, self.edges, one, other)
            _take_off(inner, self.edges, other, one)
        self._inner = inner
        itself = np.arange(self.edges.shape[1])
        mine = np.concatenate([itself, *(each for pair in pairs for each in pair)])
        theirs = np.concatenate([itself, *(each for pair in pairs for each in pair[::-1])])
        order = np.lexsort((theirs, self.edges[0, theirs], mine))
        self._theirs, self._starts = theirs[order], np.searchsorted(mine[order], itself)

    def of(self, window: int) -> NDArray[np.intp]:
        """Windows that share a cell with one, and it itself, from the top; of equal tops in the
        order given."""
        stop = self._starts[window + 1] if window + 1 < len(self._starts) else None
        return self._theirs[self._starts[window] : stop]

    def alone(self, window: int) -> Box | None:
        """A part of a window in which no other lies; None where there is none.

        From each two that overlap the rows or the columns that they share are taken off, whichever
        are fewer.
        """
        top, left, bottom, right = self._inner[:, window].tolist()
        return Box(top, left, bottom, right) if top < bottom and left < right else None


def moved(box: Box, down: int, right: int = 0) -> Box:
    """The same box, so many rows further down and columns further to the right."""
    return Box(box.top + down, box.left + right, box.bottom + down, box.right + right)


def rows_of(box: Box, rows: slice) -> Box:
    """Some rows of a box, told from its top."""
    return Box(box.top + rows.start, box.left, box.top + rows.stop, box.right)


def around(box: Box, inner: Box) -> list[Box]:
    """The rest of a box about a part of it: above, below, on the left and on the right."""
    rest = (
        (box.top, box.left, inner.top, box.right),
        (inner.bottom, box.left, box.bottom, box.right),
        (inner.top, box.left, inner.bottom, inner.left),
        (inner.top, inner.right, inner.bottom, box.right),
    )
    return [Box(*each) for each in rest if each[0] < each[2] and each[1] < each[3]]


def _edges(windows: Sequence[Box]) -> NDArray[np.int64]:
    """Top, left, bottom and right, shape (4, n)."""
    edges = [(box.top, box.left, box.bottom, box.right) for box in windows]
    return np.array(edges, dtype=np.int64).reshape(-1, 4).T


_AT_ONCE = 1024
"""Windows that are compared with those below them at once."""


def _overlapping(edges: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int64], ...]]:
    """All pairs of windows that share a cell, each once, some at a time."""
    order = np.argsort(edges[0], kind="stable")
    tops, lefts, bottoms, rights = edges[:, order]
    below = np.searchsorted(tops, bottoms)
    for start in range(0, len(order), _AT_ONCE):
        mine = np.arange(start, min(start + _AT_ONCE, len(order)))
        counts = below[mine] - mine - 1  # those that begin beside a window, and after it
        one = mine.repeat(counts)
        other = one + 1 + np.arange(len(one)) - (counts.cumsum() - counts).repeat(counts)
        meet = (lefts[one] < rights[other]) & (lefts[other] < rights[one])
        yield order[one[meet]], order[other[meet]]


def _take_off(
    inner: NDArray[np.int64],
    edges: NDArray[np.int64],
    mine: NDArray[np.int64],
    theirs: NDArray[np.int64],
) -> None:
    """Take what other windows share with some off these, whichever side is the nearest."""
    top, left, bottom, right = edges[:, mine]
    above, before, below, after = edges[:, theirs]
    down = np.minimum(bottom, below) - np.maximum(top, above)
    across = np.minimum(right, after) - np.maximum(left, before)
    rows = down <= across
    for chosen, side, limit in (
        (rows & (above <= top), 0, below),
        (~rows & (before <= left), 1, after),
    ):
        np.maximum.at(inner[side], mine[chosen], limit[chosen])
    for chosen, side, limit in (
        (rows & (above > top), 2, above),
        (~rows & (before > left), 3, before),
    ):
        np.minimum.at(inner[side], mine[chosen], limit[chosen])
