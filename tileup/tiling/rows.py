"""Rows of a canvas that are at work, where the whole of it is never held."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from tileup.contracts import Box


class RowBuffer:
    """Rows that are added below and dropped above, in one piece of memory, cell by cell.

    Args:
        columns: cells of a row.
        channels: of a cell.
        like: gives dtype and device.
    """

    def __init__(self, columns: int, channels: int, like: Tensor) -> None:
        self.width = columns * channels
        """Numbers in a row."""
        self._memory = like.new_empty(0, columns, channels)
        self._origin = 0
        self.first, self.last = 0, 0
        """The rows that are held: from the first one up to, and without, the last."""

    def add(self, count: int) -> Tensor:
        """More rows, to be written to: shape (count, columns, channels)."""
        if self.last + count - self._origin > len(self._memory):
            self._make_room(count)
        start = self.last - self._origin
        self.last += count
        return self._memory[start : start + count]

    def drop(self, first: int) -> None:
        """Hold no rows above this one any more; rows that never came are passed over."""
        self.first = max(self.first, first)
        if self.first > self.last:
            self.last = self._origin = self.first

    def between(self, top: int, bottom: int) -> Tensor:
        """Rows [top, bottom), shape (bottom - top, columns, channels), as they lie in memory."""
        return self._memory[top - self._origin : bottom - self._origin]

    def inside(self, box: Box) -> Tensor:
        """The cells of a box, shape (height, width, channels), as they lie in memory."""
        return self.between(box.top, box.bottom)[:, box.left : box.right]

    @property
    def canvas(self) -> Tensor:
        """All rows that are held, shape (1, channels, last - first, columns)."""
        return self.between(self.first, self.last).movedim(-1, 0)[None]

    def _make_room(self, count: int) -> None:
        """Moves what is held to the front, of larger memory where little would be free."""
        held = self.between(self.first, self.last)
        wanted = len(held) + count
        if wanted > len(self._memory) // 4 * 3:
            memory = held.new_empty(2 * wanted, *held.shape[1:])
            memory[: len(held)] = held
            self._memory = memory
        else:
            free = self.first - self._origin
            for start in range(0, len(held), free):  # as many at once as do not reach themselves
                part = held[start : start + free]
                self._memory[start : start + len(part)] = part
        self._origin = self.first


class RowRing:
    """Rows that are added below and dropped above, each where it stays: none is ever moved.

    Args:
        columns: cells of a row.
        channels: of a cell.
        like: gives dtype and device.
        usual: rows for which there is room once there are any.
    """

    def __init__(self, columns: int, channels: int, like: Tensor, usual: int = 1) -> None:
        self.columns, self.channels = columns, channels
        self._memory = like.new_zeros(0, columns, channels)
        self._rows, self._usual = 0, usual
        self.first, self.last = 0, 0
        """The rows that are held: from the first one up to, and without, the last."""

    def reach(self, last: int) -> None:
        """Hold rows up to, and without, this one; the new ones hold any finite numbers."""
        if last - self.first > self._rows:
            self._grow(last - self.first)
        self.last = max(self.last, last)

    def drop(self, first: int) -> None:
        """Hold no rows above this one any more; rows that never came are passed over."""
        self.first = max(self.first, first)
        self.last = max(self.last, self.first)

    def parts(self, box: Box) -> Sequence[tuple[slice, Tensor]]:
        """The cells of a box as they lie in memory: in one part, or in two around the ring's end.

        Returns:
            Which rows of the box, and their cells, shape (rows, width, channels).
        """
        start, height, across = (
            box.top % self._rows,
            box.bottom - box.top,
            slice(box.left, box.right),
        )
        first = self._rows - start
        if height <= first:
            return [(slice(0, height), self._memory[start : start + height, across])]
        above, below = self._memory[start:, across], self._memory[: height - first, across]
        return [(slice(0, first), above), (slice(first, height), below)]

    def inside(self, box: Box) -> Tensor:
        """The cells of a box, shape (height, width, channels); perhaps a copy."""
        return joined([part for _, part in self.parts(box)])

    def _grow(self, wanted: int) -> None:
        held = Box(self.first, 0, self.last, self.columns) if self.last > self.first else None
        cells = None if held is None else self.inside(held)
        self._rows = max(wanted, self._usual, self._rows * 3 // 2)
        self._memory = self._memory.new_zeros(self._rows, self.columns, self.channels)
        if held is not None and cells is not None:
            for rows_of, part in self.parts(held):
                part.copy_(cells[rows_of])


def joined(parts: Sequence[Tensor]) -> Tensor:
    """Rows one below the other; one part alone as it lies in memory."""
    return parts[0] if len(parts) == 1 else torch.cat([*parts])


def put(cells: Tensor, out: Tensor, where: Tensor) -> None:
    """Overwrite some cells of `out`.

    Args:
        cells, out: shape (h, w, C), the channels of a cell side by side in memory.
        where: truths, shape (h, w, 1).
    """
    if out.device.type != "cpu":
        out.copy_(torch.where(where, cells, out))
        return
    # A cell as one piece of memory: a tenth of the time that a choice number by number takes.
    cell = np.dtype((np.void, out.shape[-1] * out.element_size()))
    given, made = (each.numpy().view(cell)[..., 0] for each in (cells, out))
    np.copyto(made, given, where=where.numpy()[..., 0])


def stacked(parts: Sequence[Tensor]) -> Tensor:
    """Parts of one shape as one tensor; one part alone as it lies in memory."""
    return parts[0][None] if len(parts) == 1 else torch.stack([*parts])
