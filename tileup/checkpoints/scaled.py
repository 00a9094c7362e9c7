"""8-bit weights that carry a scale beside them become numbers that mean something."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

SCALES = (".scale_weight", ".weight_scale")
"""Ends of names of scales; the weight itself is named `.weight`."""
MARKERS = ("scaled_fp8",)
INPUT_SCALES = (".scale_input", ".input_scale")
"""Scales of activations, of use only to 8-bit arithmetic."""


def scale_of(name: str) -> str | None:
    """The weight that a scale belongs to, or None where the name is not that of a scale."""
    for end in SCALES:
        if name.endswith(end):
            return f"{name.removesuffix(end)}.weight"
    return None


def is_helper(name: str) -> bool:
    """Whether a tensor serves 8-bit storage alone and is no weight of the network."""
    last = name.rpartition(".")[2]
    return scale_of(name) is not None or last in MARKERS or name.endswith(INPUT_SCALES)


def unscaled(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same weights, with `weight * scale` as bfloat16 for each that has a scale."""
    helpers = [name for name in tensors if is_helper(name)]
    if not helpers:
        return tensors
    result = {name: tensor for name, tensor in tensors.items() if not is_helper(name)}
    for name in helpers:
        weight = scale_of(name)
        if weight in result:
            result[weight] = _product(result[weight], tensors[name])
    return result


def _product(weight: Tensor, scale: Tensor) -> Tensor:
    import torch

    if scale.ndim == 1 and len(scale) > 1:  # one for each row
        scale = scale.reshape(-1, *[1] * (weight.ndim - 1))
    return (weight.float() * scale.float()).to(torch.bfloat16)
