"""A small SRVGGNetCompact (Real-ESRGAN's compact networks) in its own layout, and what it does."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional


def compact_state_dict(
    scale: int = 2, width: int = 8, depth: int = 2, channels: int = 3, gain: float = 0.3
) -> dict[str, Tensor]:
    """Tensors by the names of its `body`: convolutions, each but the last with a PReLU.

    Args:
        scale: by how much it enlarges.
        width: channels inside.
        depth: convolutions between the first and the last.
        channels: of the pictures.
        gain: of the random weights; 0 leaves what the network adds to: its input, enlarged plainly.
    """
    generator = torch.Generator().manual_seed(0)
    tensors: dict[str, Tensor] = {}
    widths = [channels, *[width] * (depth + 1), channels * scale**2]
    for index, (before, after) in enumerate(pairwise(widths)):
        weight = torch.randn(after, before, 3, 3, generator=generator)
        tensors[f"body.{2 * index}.weight"] = gain * weight / (9 * before) ** 0.5
        tensors[f"body.{2 * index}.bias"] = gain * torch.randn(after, generator=generator) / 10
        if index <= depth:
            tensors[f"body.{2 * index + 1}.weight"] = torch.rand(after, generator=generator)
    return tensors


def compact(tensors: Mapping[str, Tensor], x: Tensor, scale: int = 2) -> Tensor:
    """The network as a function of its tensors: an implementation of its own, the oracle."""
    inner = x
    for index in range(len({name.split(".")[1] for name in tensors})):
        weight = tensors[f"body.{index}.weight"]
        if weight.ndim == 4:
            inner = functional.conv2d(inner, weight, tensors[f"body.{index}.bias"], padding=1)
        else:
            inner = functional.prelu(inner, weight)
    base = functional.interpolate(x, scale_factor=float(scale), mode="nearest")
    return functional.pixel_shuffle(inner, scale) + base
