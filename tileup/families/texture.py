"""How much texture a strength stands for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    import torch
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
        drawn: latents of pixels, shape (B, C, h, w); they may be overwritten.
        source: latents of the enlarged picture, same shape.
    """
    import torch  # not above: plans read this module, and need no torch

    if drawn.requires_grad and torch.is_grad_enabled():  # in training
        down, across = (_means(side, drawn.dtype).to(drawn.device) for side in drawn.shape[2:])
        return drawn - down @ (drawn - source) @ across.T
    cells = drawn.movedim(1, -1).contiguous()  # cell by cell, as networks give them
    count, high, wide, channels = cells.shape
    made = cells.view(count, high, wide * channels)
    across = _across(cells.flatten(0, 1), source.movedim(1, -1).flatten(0, 1)).view_as(made)
    # A mean of a few neighbours is a product with a matrix: a fifth of the time of a pooling layer.
    means = _means(high, made.dtype).to(made.device)
    band = -(-high // -(-high // _BAND))
    for top in range(0, high, band):  # part by part: far from the diagonal there are only zeros
        rows, near = slice(top, top + band), slice(max(top - REACH, 0), top + band + REACH)
        made[:, rows].baddbmm_(means[rows, near].expand(count, -1, -1), across[:, near], alpha=-1)
    return cells.movedim(-1, 1)


_BAND = 48
"""Rows whose means are worked out at once, at most."""
_PIECE = 2**16
"""Numbers of which it is done along lines at once: with what lies between they stay in a cache."""


def _across(drawn: Tensor, source: Tensor) -> Tensor:
    """Means of the difference of two along lines of cells, each of shape (n, length, C).

    Returns:
        Shape (n, length * C).
    """
    import torch

    lines, length, channels = drawn.shape
    numbers, beyond = length * channels, REACH * channels
    result = drawn.new_empty(lines, numbers)
    at_once = -(-lines // -(-lines * numbers // _PIECE))
    apart, spare = drawn.new_empty(2, at_once, beyond + numbers + beyond)
    apart[:, :beyond] = apart[:, -beyond:] = 0
    shares = _shares(length, channels, drawn.dtype).to(drawn.device)
    for top in range(0, lines, at_once):
        part = slice(top, min(top + at_once, lines))
        line, space = apart[: part.stop - top], spare[: part.stop - top]
        inner = line[:, beyond:-beyond].view(-1, length, channels)
        torch.sub(drawn[part], source[part], out=inner)
        _added(line, channels, space, out=result[part]).mul_(shares)
    return result


def _added(lines: Tensor, step: int, spare: Tensor, out: Tensor) -> Tensor:
    """Sums of each number and those up to REACH steps beside it: of two, of two twos, and so on.

    Args:
        lines: shape (n, beyond + length + beyond), of which `beyond` is REACH steps.
        spare: of that shape, overwritten.
        out: where they go, shape (n, length).
    """
    import torch

    end, length = lines.shape[1], out.shape[1]
    twos = torch.add(lines[:, : end - step], lines[:, step:], out=spare[:, : end - step])
    fours = twos[:, : end - 3 * step] + twos[:, 2 * step :]
    eights = torch.add(
        fours[:, : end - 7 * step], fours[:, 4 * step :], out=twos[:, : end - 7 * step]
    )
    torch.add(eights[:, :length], eights[:, 8 * step : 8 * step + length], out=out)
    return out.add_(lines[:, 16 * step :])


@lru_cache(maxsize=32)
def _means(length: int, dtype: torch.dtype) -> Tensor:
    """Takes a line of cells to the means around each of them, shape (length, length)."""
    near = _near(length)
    return (near / near.sum(dim=1, keepdim=True)).to(dtype)


@lru_cache(maxsize=32)
def _shares(length: int, channels: int, dtype: torch.dtype) -> Tensor:
    """Of a sum that each of them is in the mean around a cell, shape (length * channels,)."""
    return (1 / _near(length).sum(dim=1)).repeat_interleave(channels).to(dtype)


def _near(length: int) -> Tensor:
    """Which cells of a line are near each of them, as 0 and 1, float64, shape (length, length)."""
    import torch

    cell = torch.arange(length)
    return ((cell[:, None] - cell).abs() <= REACH).double()
