"""NVFP4: numbers of 4 bits, a scale of 8 bits for each 16 of a row, and one for the whole weight.

A number is a sign, two bits of exponent and one of mantissa; of two in a byte the upper half comes
first. Scales lie as cuBLAS wants them: rows in groups of 128, four scales of each, and in such a
tile the rows 0, 32, 64 and 96 beside one another (docs.nvidia.com/cuda/cublas, "1D Block Scaling
Factors Layout"). ComfyUI stores `LAYER.weight`, `LAYER.weight_scale` and `LAYER.weight_scale_2`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tileup.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor

    from tileup.tensors.packed import Packed

FORMAT = "nvfp4"
WHOLE = ".weight_scale_2"
"""End of the name of the scale of a whole weight."""
BLOCK = 16
"""Numbers that share a scale."""
VALUES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
"""By the lower three bits; the fourth is the sign."""
ROWS, COLUMNS = 128, 4
"""Of a tile of scales."""


def packed_nvfp4(name: str, weight: Tensor, scales: Tensor, whole: Tensor) -> Packed:
    """A weight with its scales in the order of its rows.

    Args:
        name: of the weight, for messages.
        weight: bytes, shape (rows, columns / 2).
        scales: fp8, in tiles, rows and columns filled up to whole ones.
        whole: one number.

    Raises:
        ModelError: their shapes do not fit together.
    """
    from tileup.tensors.packed import Packed

    rows, half = weight.shape if weight.ndim == 2 else (0, 0)
    blocks = 2 * half // BLOCK
    tiles = -(-rows // ROWS) * -(-blocks // COLUMNS)
    if not tiles or 2 * half % BLOCK or whole.numel() != 1:
        raise _misfit(name, weight, scales)
    if scales.numel() != tiles * ROWS * COLUMNS:
        raise _misfit(name, weight, scales)
    stored = (weight, _in_rows(scales, rows, blocks), whole.float().reshape(()))
    return Packed(Nvfp4(), stored, (rows, 2 * half))


def _misfit(name: str, weight: Tensor, scales: Tensor) -> ModelError:
    return ModelError(
        f"{name} is damaged: {list(weight.shape)} bytes of NVFP4 have scales of the shape"
        f" {list(scales.shape)}"
    )


def _in_rows(scales: Tensor, rows: int, blocks: int) -> Tensor:
    """Scales out of their tiles, shape (rows, blocks)."""
    import torch

    down, across = -(-rows // ROWS), -(-blocks // COLUMNS)
    tiles = scales.view(torch.uint8).reshape(down, across, 32, 4, COLUMNS)
    ordered = tiles.permute(0, 3, 2, 1, 4).reshape(down * ROWS, across * COLUMNS)
    return ordered[:rows, :blocks].contiguous().view(scales.dtype)


@dataclass(frozen=True, slots=True)
class Nvfp4:
    """As `Coding`: of bytes, scales in rows, and the scale of the whole."""

    def decoded(self, stored: Sequence[Tensor], shape: tuple[int, ...]) -> Tensor:
        """As `Coding`."""
        import torch

        halves, scales, whole = stored
        table = torch.tensor([*VALUES, *(-each for each in VALUES)], device=halves.device)
        numbers = torch.stack([halves >> 4, halves & 0xF], dim=-1).flatten(1)
        values = table[numbers.int()].unflatten(1, (-1, BLOCK))
        values *= (scales.float() * whole)[..., None]
        return values.reshape(shape)

    def largest(self, stored: Sequence[Tensor]) -> Tensor:
        """As `Coding`."""
        from tileup.tensors.packed import largest_of

        return VALUES[-1] * largest_of(stored[1]) * stored[2].abs()
