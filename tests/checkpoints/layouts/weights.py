"""Random weights under which every part of a network matters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

Shapes = Iterable[tuple[str, tuple[int, ...]]]


def linear(name: str, outputs: int, inputs: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", (outputs, inputs)
    yield f"{name}.bias", (outputs,)


def random_weights(
    shapes: Shapes, seed: int, dtype: torch.dtype = torch.float32
) -> dict[str, Tensor]:
    """Outputs of the size of the inputs: weights of 1 / sqrt(inputs), biases of 0.1; scales of
    norms near 1; tables of 1."""
    generator = torch.Generator().manual_seed(seed)
    tensors: dict[str, Tensor] = {}
    for name, shape in shapes:
        assert name not in tensors, name
        value = _normal(torch.Size(shape), generator)
        if name.endswith(".bias"):
            value *= 0.1
        elif len(shape) == 1:
            value = 1 + 0.1 * value
        elif name.endswith(".weight"):
            value /= torch.Size(shape[1:]).numel() ** 0.5
        tensors[name] = value.to(dtype)
    return tensors


def _normal(shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Normal numbers. Large tensors say the same again after some millions, a prime number, so that
    no two rows are alike: to draw all of them takes longer than to compute with them."""
    count = shape.numel()
    if count <= _PERIOD:
        return torch.randn(shape, generator=generator)
    drawn = torch.randn(_PERIOD, generator=generator)
    return drawn.repeat(-(-count // _PERIOD))[:count].view(shape)


_PERIOD = 4_194_301
