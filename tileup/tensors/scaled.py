"""8-bit weights that carry a scale beside them become numbers that mean something.

Such a file has `NAME.scale_weight` or `NAME.weight_scale` for `NAME.weight`, which is to be
multiplied by it (github.com/comfyanonymous/ComfyUI, QUANTIZATION.md), and marks that say so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

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


def unscaled(tensors: Mapping[str, Tensor], dtype: torch.dtype | None = None) -> dict[str, Tensor]:
    """The same weights, with `weight * scale` for each that has a scale, and without marks.

    A scale without a weight, or of a shape that is neither one number nor one for each row, belongs
    to some other format. It stays, so that whoever builds a network can name what does not fit.

    Args:
        tensors: by name.
        dtype: of the products; bfloat16 unless given.
    """
    result = {name: tensor for name, tensor in tensors.items() if not is_helper(name)}
    for name, scale in tensors.items():
        weight = scale_of(name)
        if weight is None:
            continue
        if weight in result and _fits(scale, result[weight]):
            result[weight] = _product(result[weight], scale, dtype)
        else:
            result[name] = scale
    return result


def _fits(scale: Tensor, weight: Tensor) -> bool:
    rows = weight.shape[0] if weight.ndim else 1
    one_a_row = scale.numel() == rows and scale.ndim in (1, weight.ndim) and len(scale) == rows
    return scale.numel() == 1 or one_a_row


def _product(weight: Tensor, scale: Tensor, dtype: torch.dtype | None) -> Tensor:
    import torch

    spread = scale.float().reshape(-1, *[1] * (weight.ndim - 1)) if weight.ndim else scale.float()
    return (weight.float() * spread).to(dtype or torch.bfloat16)
