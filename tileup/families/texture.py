"""How much texture a strength stands for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from torch import Tensor

REACH = 8
"""Cells to each side over which colours are those of the source."""


@dataclass(frozen=True, slots=True)
class TextureRange:
    """Strengths between which the amount of texture grows from 0 to 1, in a straight line."""

    start: float
    """Up to this strength there is none."""
    full: float
    """From this strength on there is all."""

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.full <= 1:
            raise ValueError(f"texture cannot grow from strength {self.start} to {self.full}")

    @classmethod
    def from_header(cls, header: Mapping[str, object]) -> TextureRange:
        """Of the header of a checkpoint that has a network for texture.

        Raises:
            KeyError, TypeError, ValueError: it is missing, or its numbers cannot be.
        """
        content = header["texture"]
        if not isinstance(content, dict):
            raise TypeError(f"texture is {content!r} and not an object")
        numbers = cast(dict[str, object], content)
        return cls(float(str(numbers["from"])), float(str(numbers["full"])))

    def amount(self, strength: Tensor) -> Tensor:
        """Amount of texture in [0, 1] of denoising strengths in [0, 1], of any shape."""
        return ((strength - self.start) / (self.full - self.start)).clamp(0, 1)


def toned(drawn: Tensor, source: Tensor) -> Tensor:
    """A drawn picture with the colours of its source: texture is what differs from place to place.

    What the two differ by on average around each cell is taken off, for each channel by itself, so
    that no place within the cells is brighter than the others either. A network trained against
    critics lets colours drift by up to two of 255.

    Args:
        drawn: latents of pixels, shape (B, C, h, w).
        source: latents of the enlarged picture, same shape.
    """
    apart = (drawn - source).movedim(1, -1)  # cell by cell, as networks give them
    high, wide = apart.shape[1:3]
    # A mean of a few neighbours is a product with a matrix: a fifth of the time of a pooling layer.
    down = _means(high).to(apart) @ apart.flatten(2)
    across = _across(down.view(-1, wide, apart.shape[-1]))
    return drawn - across.view(apart.shape).movedim(-1, 1)


def _across(lines: Tensor) -> Tensor:
    """Means along lines of cells, shape (n, length, C).

    Part by part: most of a matrix is zeros, and those far from the diagonal are left out.
    """
    length, result = lines.shape[1], lines.new_empty(lines.shape)
    means = _means(length).to(lines)
    for start in range(0, length, _PART):
        stop = min(start + _PART, length)
        near = slice(max(start - REACH, 0), stop + REACH)
        result[:, start:stop] = means[start:stop, near] @ lines[:, near]
    return result


_PART = 66
"""Cells of a line whose means are worked out at once."""


@lru_cache(maxsize=8)
def _means(length: int) -> Tensor:
    """Takes a line of cells to the means around each of them, shape (length, length)."""
    import torch  # not above: plans read this module, and need no torch

    cell = torch.arange(length)
    near = (cell[:, None] - cell).abs() <= REACH
    return near / near.sum(dim=1, keepdim=True, dtype=torch.float64)
