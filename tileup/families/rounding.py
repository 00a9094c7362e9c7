"""Between which ends the maps of the bundled checkpoint's networks are rounded to 8 bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tileup.families.residual_unet import ResidualBlock, ResidualUNet

LEAST_SILU = -0.27846
"""The least value of x / (1 + exp(-x))."""
STEPS = 255


def coarse_blocks(network: ResidualUNet) -> list[ResidualBlock]:
    """Blocks below the finest resolution: their convolutions are rounded."""
    levels = (*list(network.down)[1:], *list(network.up)[1:])
    blocks = [block for level in levels for block in level.children()]
    return [block for block in blocks if isinstance(block, ResidualBlock)]


def in_steps(weight: Tensor) -> tuple[Tensor, Tensor]:
    """A convolution's weights as whole numbers from -127 to 127, symmetric.

    Args:
        weight: shape (outputs, inputs, high, wide).

    Returns:
        The numbers, of its shape, and what one is worth for each output channel, shape
        (outputs, 1, 1, 1).
    """
    scales = weight.abs().amax(dim=(1, 2, 3), keepdim=True).clamp(min=1e-12) / 127
    return (weight / scales).round(), scales


class Point(NamedTuple):
    """A map that is rounded."""

    module: nn.Module
    given: bool
    """Whether it is what the module is given, and not what comes out of it."""


def points(network: ResidualUNet) -> list[Point]:
    """Maps that are rounded, in the order in which the network meets them."""
    found: list[Point] = []

    def pass_through(blocks: nn.Module) -> None:
        for block in blocks.children():
            assert isinstance(block, ResidualBlock)
            found.extend((Point(block.second, True), Point(block, False)))

    for shrink, blocks in zip(network.shrink, list(network.down)[1:], strict=True):
        found.append(Point(shrink, False))
        pass_through(blocks)
    for blocks in reversed(list(network.up)[1:]):
        found.append(Point(blocks, True))
        pass_through(blocks)
    return found


def knots(lowest: float, highest: float, count: int) -> Tensor:
    """Logarithms of the noise levels for which ranges are known, evenly spaced."""
    ends = torch.tensor([lowest, highest], dtype=torch.float64).log()
    return torch.linspace(float(ends[0]), float(ends[1]), count, dtype=torch.float64)


def shares(sigma: Tensor, levels: Tensor) -> Tensor:
    """What each knot counts at noise levels, linearly in their logarithm.

    Args:
        sigma: shape (n,); those beyond the knots count as the nearest.
        levels: as `knots` gives them, shape (k,), k > 1.

    Returns:
        Shape (n, k); rows sum to 1.
    """
    place = (sigma.double().log() - levels[0]) / (levels[-1] - levels[0]) * (len(levels) - 1)
    number = torch.arange(len(levels), dtype=torch.float64)
    place = place.clamp(0, len(levels) - 1)
    return (1 - (place[:, None] - number).abs()).clamp(min=0)


@dataclass(frozen=True, slots=True)
class Ranges:
    """Between which ends maps are rounded."""

    ends: Tensor
    """How far below and above 0, for each of `points` and each knot, positive,
    shape (points, 2, knots)."""
    levels: Tensor
    """As `knots` gives them."""

    @classmethod
    def of(cls, ends: Tensor, lowest: float, highest: float) -> Ranges:
        """Of noise levels evenly between two.

        Raises:
            ValueError: they are no such ends.
        """
        if ends.dim() != 3 or ends.shape[2] < 2 or not bool((ends > 0).all()):
            raise ValueError("ends are positive, below and above 0, at two noise levels at least")
        return cls(ends.double(), knots(lowest, highest, ends.shape[2]))

    def at(self, sigma: Tensor) -> list[Affine]:
        """Of each point at a noise level, shape (1,); between knots ends grow geometrically."""
        near = shares(sigma, self.levels)[0]
        return [Affine.between(-low, high) for low, high in (self.ends.log() @ near).exp().tolist()]


class Affine(NamedTuple):
    """A number x is held as round(x / scale) + zero, within 0 to 255."""

    scale: float
    zero: int

    @classmethod
    def between(cls, low: float, high: float) -> Affine:
        """Ends below and above 0; 0 is held exactly, and neither of the ends is."""
        scale = (high - low) / STEPS
        return cls(scale, min(max(round(-low / scale), 1), STEPS - 1))
