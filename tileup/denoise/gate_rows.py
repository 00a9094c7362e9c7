"""How much each cell takes part in a phase, where a canvas is never held as a whole."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tileup.tiling.rows import RowBuffer


class GateRows:
    """How much each cell takes part in a phase, for the rows at work."""

    def __init__(self, rows: int, columns: int, like: Tensor) -> None:
        self.weight = RowBuffer(columns, 1, like)
        """In [0, 1]."""
        self.seen = RowBuffer(columns, 1, torch.empty(0, dtype=torch.bool, device=like.device))
        """Where that is above 0."""
        self._open, self._shut = (np.zeros(rows, dtype=bool) for _ in range(2))

    def add(self, top: int, bottom: int, weight: NDArray[np.float64] | None) -> None:
        """The rows [top, bottom), which follow those that are there; None: all take part fully."""
        weights, seen = (rows.add(bottom - top)[..., 0] for rows in (self.weight, self.seen))
        self._open[top:bottom] = True if weight is None else weight.min(axis=1) == 1
        self._shut[top:bottom] = False if weight is None else weight.max(axis=1) == 0
        if weight is None:
            weights.fill_(1)
            seen.fill_(True)
        else:
            weights.copy_(torch.from_numpy(weight))
            seen.copy_(weights > 0)

    def drop(self, first: int) -> None:
        for rows in (self.weight, self.seen):
            rows.drop(first)

    def is_open(self, top: int, bottom: int) -> bool:
        """Whether every cell of some rows takes part fully."""
        return bool(self._open[top:bottom].all())

    def is_shut(self, top: int, bottom: int) -> bool:
        """Whether none of them takes part at all."""
        return bool(self._shut[top:bottom].all())
