"""Space to depth: the codec of a model that works on pixels. Lossless."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True, slots=True)
class PixelCodec:
    """Latents are pixels in [-1, 1], `stride` x `stride` of them to a cell."""

    stride: int
    """Pixels per cell."""

    def encode(self, pixels: Tensor) -> Tensor:
        """(1, 3, H * stride, W * stride) in [0, 1] to (1, 3 * stride^2, H, W) in [-1, 1]."""
        return functional.pixel_unshuffle(pixels * 2 - 1, self.stride)

    def decode(self, latents: Tensor) -> Tensor:
        """The inverse of `encode`."""
        return (functional.pixel_shuffle(latents, self.stride) + 1) / 2
