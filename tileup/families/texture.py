"""How much texture a strength stands for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
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
    from torch.nn import functional  # not above: plans read this module, and need no torch

    apart = drawn - source
    for size, pad in (((2 * REACH + 1, 1), (REACH, 0)), ((1, 2 * REACH + 1), (0, REACH))):
        apart = functional.avg_pool2d(apart, size, 1, pad, count_include_pad=False)
    return drawn - apart
