"""Encoded text that is not finite is never used."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from tileup.errors import ModelError


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
