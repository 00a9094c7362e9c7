"""Tensors go into networks built without weights."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import torch
from torch import Tensor, nn

from tileup.errors import ModelError


def shape_of(tensors: Mapping[str, Tensor], name: str, what: str) -> tuple[int, int]:
    """Shape of a matrix.

    Raises:
        ModelError: it is missing, or no matrix.
    """
    if name not in tensors:
        raise ModelError(f"{what}: the tensor {name} is missing; is this file {what}?")
    shape = tuple(tensors[name].shape)
    if len(shape) != 2 or 0 in shape:
        raise ModelError(f"{what}: the tensor {name} must be a matrix, got {list(shape)}")
    return shape[0], shape[1]


def count_layers(names: Iterable[str], prefix: str) -> int:
    """How many layers are numbered after `prefix`."""
    numbers = {name.removeprefix(prefix).split(".")[0] for name in names if name.startswith(prefix)}
    # Not the highest number: one odd name must not ask for a million layers.
    return sum(number.isdecimal() for number in numbers)


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


def fill(
    network: nn.Module,
    tensors: Mapping[str, Tensor],
    *,
    what: str,
    dtype: torch.dtype,
    device: str,
    float32: Collection[str] = (),
) -> None:
    """Put tensors into a network on the meta device, and make it ready for inference.

    Args:
        network: built on the meta device.
        tensors: one for each of its parameters; a tensor of the right precision is not copied.
        what: how messages call the network.
        dtype: to run in.
        device: to run on.
        float32: modules, by the last part of their names, that run in float32.

    Raises:
        ModelError: a tensor is missing, left over, of the wrong shape, or holds no real numbers.
    """
    expected = network.state_dict()
    _check_names(expected, tensors, what)
    placed: dict[str, Tensor] = {}
    for name, meta in expected.items():
        tensor = tensors[name]
        if tensor.shape != meta.shape:
            raise ModelError(
                f"{what}: the tensor {name} is {list(tensor.shape)}, not {list(meta.shape)}"
            )
        if not tensor.is_floating_point():
            raise ModelError(f"{what}: the tensor {name} holds {tensor.dtype}, no real numbers")
        own = torch.float32 if name.split(".")[-2] in float32 else dtype
        placed[name] = tensor.to(device=device, dtype=own)
    network.load_state_dict(placed, strict=True, assign=True)
    network.requires_grad_(False).eval()


def _check_names(expected: Collection[str], given: Collection[str], what: str) -> None:
    missing = sorted(set(expected) - set(given))
    left_over = sorted(set(given) - set(expected))
    complaints = [
        f"{len(names)} {kind} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
        for kind, names in (("missing", missing), ("not known", left_over))
        if names
    ]
    if complaints:
        raise ModelError(f"{what}: the tensors do not fit: {' and '.join(complaints)}")


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
