"""8-bit weights that carry a scale beside them become numbers that mean something.

Such a file has `NAME.scale_weight` or `NAME.weight_scale` for `NAME.weight`, which is to be
multiplied by it (github.com/comfyanonymous/ComfyUI, QUANTIZATION.md), and marks that say so.
Whole numbers mean nothing without such a mark, as they may be rotated, packed or in blocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tileup.errors import ModelError
from tileup.tensors.formats import Mark

if TYPE_CHECKING:
    import torch
    from torch import Tensor

SCALES = (".scale_weight", ".weight_scale")
"""Ends of names of scales; the weight itself is named `.weight`."""
MARKS = (".comfy_quant", ".scale_input", ".input_scale")
"""Ends of names of what only 8-bit arithmetic has a use for."""
MARK = "scaled_fp8"
"""The last part of the name of the mark for a whole file."""


def scale_of(name: str) -> str | None:
    """The weight that a scale belongs to, or None where the name is not that of a scale."""
    for end in SCALES:
        if name.endswith(end):
            return f"{name.removesuffix(end)}.weight"
    return None


def is_helper(name: str) -> bool:
    """Whether a tensor serves 8-bit storage alone and is no weight of the network."""
    marks = name.endswith(MARKS) or name.rpartition(".")[2] == MARK
    return marks or scale_of(name) is not None


def unscaled(
    tensors: Mapping[str, Tensor],
    dtype: torch.dtype | None = None,
    marks: Mapping[str, Mark] | None = None,
) -> dict[str, Tensor]:
    """The same weights, with `weight * scale` for each that has a scale, and without marks.

    A scale without a weight, or of a shape that is neither one number nor one for each row, belongs
    to some other format. It stays, so that whoever builds a network can name what does not fit.

    Args:
        tensors: by name.
        dtype: of the products; bfloat16 unless given.
        marks: how layers are stored, by the layer's name.

    Raises:
        ModelError: a weight of whole numbers has a scale, and no mark says what it means; or it
            cannot have been rotated as its mark says.
    """
    result = {name: tensor for name, tensor in tensors.items() if not is_helper(name)}
    for name, scale in tensors.items():
        weight = scale_of(name)
        if weight is None:
            continue
        if weight in result and _fits(scale, result[weight]):
            mark = (marks or {}).get(weight.removesuffix(".weight"))
            result[weight] = _product(result[weight], scale, dtype, _rotated(result, weight, mark))
        else:
            result[name] = scale
    return result


def _fits(scale: Tensor, weight: Tensor) -> bool:
    rows = weight.shape[0] if weight.ndim else 1
    one_a_row = scale.numel() == rows and scale.ndim in (1, weight.ndim) and len(scale) == rows
    return scale.numel() == 1 or one_a_row


def _rotated(tensors: Mapping[str, Tensor], name: str, mark: Mark | None) -> int:
    """How many columns of a weight were rotated together; 0: none."""
    weight = tensors[name]
    if mark is None and not weight.is_floating_point():
        raise ModelError(
            f"{name} is stored in whole numbers with a scale, and nothing says in which way;"
            f" give the file in F16, BF16 or FP8"
        )
    group = mark.rotated if mark else 0
    if group and (weight.ndim != 2 or weight.shape[1] % group):
        raise ModelError(
            f"{name} is damaged: it is marked as rotated in groups of {group} columns, and has the"
            f" shape {list(weight.shape)}"
        )
    return group


def _product(weight: Tensor, scale: Tensor, dtype: torch.dtype | None, rotated: int) -> Tensor:
    import torch

    spread = scale.float().reshape(-1, *[1] * (weight.ndim - 1)) if weight.ndim else scale.float()
    product = weight.float() * spread
    if rotated:
        groups = product.unflatten(1, (-1, rotated))
        product = (groups @ rotation(rotated)).flatten(1)
    return product.to(dtype or torch.bfloat16)


def rotation(size: int) -> Tensor:
    """The matrix that rotates `size` columns, a power of 4: it is symmetric, and its own inverse.

    A regular Hadamard matrix divided by its root: products of one of 4 x 4 with itself.
    """
    import torch

    four = torch.ones(4, 4) - 2 * torch.eye(4).flip(1)
    matrix = torch.ones(1, 1)
    while len(matrix) < size:
        matrix = torch.kron(matrix, four)
    return matrix / size**0.5
