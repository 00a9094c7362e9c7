"""Space to depth: the codec of a model that works on pixels. Lossless."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

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
        numbers, side = channels * self.stride**2, self.stride
        cells = pixels.new_empty(1, height // side, width // side, numbers)
        for given, made in self._bands(pixels, cells.movedim(-1, 1)):
            for number, plane in enumerate(self._planes(given)):
                made[:, number] = plane
            made.mul_(2).sub_(1)
        return cells.movedim(-1, 1)

    def decode(self, latents: Tensor) -> Tensor:
        """The inverse of `encode`."""
        numbers, high, wide = latents.shape[1:]
        size = high * self.stride, wide * self.stride
        pixels = latents.new_empty(1, *size, numbers // self.stride**2)
        for made, given in self._bands(pixels.movedim(-1, 1), latents):
            for number, plane in enumerate(self._planes(made)):
                plane.copy_(given[:, number])
            made.add_(1).div_(2)
        return pixels.movedim(-1, 1)

    def encode_rows(self, rows: Callable[[int, int], Tensor], height: int, width: int) -> Tensor:
        """The same as `encode`, of rows that are given; latents are as large as pixels."""
        return self.encode(rows(0, height))

    def decode_rows(self, latents: Tensor) -> Iterator[Tensor]:
        """The same as `decode`, a row of cells at a time."""
        return (self.decode(row) for row in latents.split(1, dim=2))

    def _bands(self, pixels: Tensor, cells: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Some rows of both."""
        for top in range(0, cells.shape[2], _ROWS):
            rows = slice(top * self.stride, (top + _ROWS) * self.stride)
            yield pixels[:, :, rows], cells[:, :, top : top + _ROWS]

    def _planes(self, pixels: Tensor) -> Iterator[Tensor]:
        """The pixels that are one number of a cell each, in the order of these."""
        for channel in range(pixels.shape[1]):
            for down in range(self.stride):
                for across in range(self.stride):
                    yield pixels[:, channel, down :: self.stride, across :: self.stride]
