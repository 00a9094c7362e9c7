"""Rows of a canvas that are at work, where the whole of it is never held."""

from __future__ import annotations

from collections.abc import Sequence

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


def stacked(parts: Sequence[Tensor]) -> Tensor:
    """Parts of one shape as one tensor; one part alone as it lies in memory."""
    return parts[0][None] if len(parts) == 1 else torch.stack([*parts])


def moved(box: Box, down: int) -> Box:
    """The same box, so many rows further down."""
    return Box(box.top + down, box.left, box.bottom + down, box.right)
