"""What text encoders have of their own before and after their networks hold the weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from tileup.errors import ModelError


def unscaled(tensors: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """Weights without the factors that float8 files keep beside them.

    Such a file has `NAME.scale_weight` or `NAME.weight_scale` for `NAME.weight`, which is to be
    multiplied by it (github.com/comfyanonymous/ComfyUI, QUANTIZATION.md), and marks that say so.
    """
    marks = ("scaled_fp8", ".scale_input", ".input_scale", ".comfy_quant")
    factors = (".scale_weight", ".weight_scale")
    result = {name: each for name, each in tensors.items() if not name.endswith((*marks, *factors))}
    for name, factor in tensors.items():
        weight = f"{name.rpartition('.')[0]}.weight"
        if not name.endswith(factors):
            continue
        if weight in result and _is_factor(factor, result[weight]):
            result[weight] = (result[weight].float() * factor.float()).to(dtype)
        else:
            result[name] = factor  # some other format, to be complained of by name
    return result


def _is_factor(factor: Tensor, weight: Tensor) -> bool:
    """Whether it is one number, or one for each row of the weight."""
    return factor.numel() == 1 or (weight.ndim == 2 and factor.shape == (weight.shape[0], 1))


def check_finite(output: Tensor, parameters: Iterable[tuple[str, Tensor]], what: str) -> None:
    """See that encoded text is finite; where it is not, say which tensor is the cause.

    Looking through the weights themselves each time would take as long as reading them.

    Raises:
        ModelError: it is not.
    """
    if output.isfinite().all():
        return
    advice = "; try --dtype float32 or bfloat16" if output.dtype == torch.float16 else ""
    for name, tensor in parameters:
        if not tensor.isfinite().all():
            raise ModelError(
                f"{what}: the tensor {name} has values that are not finite"
                f" in {_plain(tensor.dtype)}{advice}"
            )
    raise ModelError(f"{what}: numbers overflow in {_plain(output.dtype)}{advice}")


def _plain(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
