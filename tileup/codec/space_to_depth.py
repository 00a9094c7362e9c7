"""Space to depth: the codec of a model that works on pixels. Lossless."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

_ROWS = 16
"""Rows of cells that are moved at once: they stay in a cache."""


@dataclass(frozen=True, slots=True)
class PixelCodec:
    """Latents are pixels in [-1, 1], `stride` x `stride` of them to a cell.

    The channels of a cell, and those of a pixel, lie side by side in the memory of what is
    returned, as networks and files have them.
    """

    stride: int
    """Pixels per cell."""

    def encode(self, pixels: Tensor) -> Tensor:
        """(1, 3, H * stride, W * stride) in [0, 1] to (1, 3 * stride^2, H, W) in [-1, 1]."""
        channels, height, width = pixels.shape[1:]
        cells = pixels.new_empty(
            height // self.stride, width // self.stride, channels * self.stride**2
        )
        self.put_cells(pixels, cells)
        return cells.movedim(-1, 0)[None]

    def put_cells(self, pixels: Tensor, out: Tensor) -> None:
        """As `encode`, written cell by cell: shape (H, W, 3 * stride^2), contiguous."""
        order = _order(pixels.shape[1], self.stride, out.shape[1]).to(pixels.device)
        for given, made in self._bands(pixels[0].movedim(0, -1), out):
            torch.index_select(given, 1, order, out=made).mul_(2).sub_(1)

    def decode(self, latents: Tensor) -> Tensor:
        """The inverse of `encode`."""
        numbers, high, wide = latents.shape[1:]
        channels = numbers // self.stride**2
        pixels = latents.new_empty(high * self.stride, wide * self.stride, channels)
        order = _inverse(channels, self.stride, wide).to(latents.device)
        for made, given in self._bands(pixels, latents[0].movedim(0, -1)):
            torch.index_select(given, 1, order, out=made).add_(1).mul_(0.5)
        return pixels.movedim(-1, 0)[None]

    def encode_rows(self, rows: Callable[[int, int], Tensor], height: int, width: int) -> Tensor:
        """The same as `encode`, of rows that are given; latents are as large as pixels."""
        return self.encode(rows(0, height))

    def decode_rows(self, latents: Tensor) -> Iterator[Tensor]:
        """The same as `decode`, a row of cells at a time."""
        return (self.decode(row) for row in latents.split(1, dim=2))

    def _bands(self, pixels: Tensor, cells: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Some rows of both, of shape (H, W, channels): the numbers of a row of cells, twice."""
        for top in range(0, len(cells), _ROWS):
            given = cells[top : top + _ROWS]
            rows = pixels[top * self.stride : (top + _ROWS) * self.stride]
            yield rows.reshape(len(given), -1), given.reshape(len(given), -1)


@lru_cache(maxsize=4)
def _order(channels: int, stride: int, cells: int) -> Tensor:
    """Where in rows of pixels that make a row of cells the numbers of these are, in their order."""
    places = torch.arange(cells * channels * stride**2, dtype=torch.int32)
    rows = places.view(stride, cells, stride, channels)
    return rows.permute(1, 3, 0, 2).flatten()


@lru_cache(maxsize=4)
def _inverse(channels: int, stride: int, cells: int) -> Tensor:
    """Where in a row of cells the numbers of its pixels are, in their order."""
    return _order(channels, stride, cells).argsort().to(torch.int32)
