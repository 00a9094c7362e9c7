"""Tensors of a file become the weights of a network: strictly, and without a second copy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from tileup.errors import ModelError

FLOAT8 = (torch.float8_e4m3fn, torch.float8_e5m2)
"""Only stored, never computed in; see `Residency`."""
SHOWN = 3
"""Names in a message."""


def fill(
    network: nn.Module,
    tensors: Mapping[str, Tensor],
    names: Mapping[str, str],
    *,
    dtype: torch.dtype,
    device: str = "cpu",
) -> None:
    """Give a network that was built on the meta device its weights.

    They are cast one at a time. A tensor that needs no cast and no move is taken as it is, so one
    that lies in a memory-mapped file stays there. Matrices and kernels stored in 8 bits stay so.

    Args:
        network: all its parameters are on the meta device, and it has no other state.
        tensors: of the file, by the file's names.
        names: the file's name of each of the network's own.
        dtype: what the others are cast to.
        device: where they go.

    Raises:
        ModelError: tensors are missing, left over, of a wrong shape, not floating, or not finite.
    """
    _matched(network, tensors, names)
    weights = {name: _cast(names[name], tensors[names[name]], dtype, device) for name in names}
    network.load_state_dict(weights, strict=True, assign=True)
    network.eval().requires_grad_(False)


def _matched(network: nn.Module, tensors: Mapping[str, Tensor], names: Mapping[str, str]) -> None:
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    problems = [
        _named("it lacks", expected.keys() - names.keys()),
        _named("it has, beyond what belongs there,", unmatched(tensors, names, expected)),
        _named(
            "of a wrong shape is",
            (
                f"{names[name]} {tuple(tensors[names[name]].shape)}, expected {shape}"
                for name, shape in expected.items()
                if name in names and tuple(tensors[names[name]].shape) != shape
            ),
        ),
    ]
    if found := "; ".join(filter(None, problems)):
        raise ModelError(f"the tensors do not fit the network that they describe: {found}")


def unmatched(
    tensors: Mapping[str, Tensor], names: Mapping[str, str], expected: Iterable[str]
) -> set[str]:
    """The file's names that the network has no place for."""
    return set(tensors) - {names[name] for name in expected if name in names}


def _named(what: str, names: Iterable[str]) -> str:
    ordered = sorted(names)
    more = f" and {len(ordered) - SHOWN} more" if len(ordered) > SHOWN else ""
    return f"{what} {', '.join(ordered[:SHOWN])}{more}" if ordered else ""


def _cast(name: str, tensor: Tensor, dtype: torch.dtype, device: str) -> Tensor:
    if not tensor.is_floating_point():
        raise ModelError(
            f"{name} is stored as {str(tensor.dtype).removeprefix('torch.')}: quantised checkpoints"
            " are not supported; use one in fp16, bf16 or fp8"
        )
    if tensor.dtype in FLOAT8 and tensor.ndim > 1:
        dtype = tensor.dtype
    weight = tensor.to(device=device, dtype=dtype)
    if not all_finite(weight):
        if all_finite(tensor):
            raise ModelError(
                f"{name} has values too large for {str(dtype).removeprefix('torch.')}; use bfloat16"
                " or float32"
            )
        raise ModelError(f"the file is damaged: {name} has values that are not finite")
    return weight


def all_finite(tensor: Tensor) -> bool:
    """Whether a tensor has neither infinities nor NaN, in one pass and without a copy of it.

    A sum is finite only if every term is; the opposite can fail, so then each term is looked at.
    """
    if tensor.dtype in FLOAT8:
        tensor = tensor.to(torch.float16)
    if tensor.sum(dtype=torch.float32).isfinite():
        return True
    return bool(tensor.isfinite().all())
