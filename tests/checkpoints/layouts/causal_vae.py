"""Qwen-Image's VAE, which is that of Wan 2.1, in the layout of its first release."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

Shapes = Iterator[tuple[str, tuple[int, ...]]]


def causal_vae(
    width: int = 8, channels: int = 16, multipliers: Sequence[int] = (1, 2, 4, 4), seed: int = 0
) -> dict[str, Tensor]:
    """Tensors without a prefix, float32; two residual blocks in a level, as published.

    Args:
        width: of the finest level; Qwen-Image has 96.
        channels: of a latent cell.
        multipliers: widths of the levels, finest first.
        seed: of the weights, which keep the size of what passes through.
    """
    generator = torch.Generator().manual_seed(seed)
    return {
        name: _drawn(name, shape, generator)
        for name, shape in causal_shapes(width, channels, multipliers)
    }


def _drawn(name: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    noise = torch.randn(shape, generator=generator)
    if name.endswith(".gamma"):
        return 1 + 0.1 * noise
    return noise / math.sqrt(math.prod(shape[1:])) if len(shape) > 1 else 0.1 * noise


def causal_shapes(width: int, channels: int, multipliers: Sequence[int]) -> Shapes:
    widths = [width * each for each in multipliers]
    last = len(widths) - 1
    yield from _conv("encoder.conv1", 3, width)
    before, number = width, 0
    for level, own in enumerate(widths):
        for _ in range(2):
            yield from _residual(f"encoder.downsamples.{number}", before, own)
            before, number = own, number + 1
        if level < last:
            yield from _resample(f"encoder.downsamples.{number}", own, own, 3 * (level > 0), own)
            number += 1
    yield from _middle("encoder.middle", before)
    yield "encoder.head.0.gamma", (before, 1, 1, 1)
    yield from _conv("encoder.head.2", before, 2 * channels)
    yield from _conv("conv1", 2 * channels, 2 * channels, 1)
    yield from _conv("conv2", channels, channels, 1)
    yield from _conv("decoder.conv1", channels, before)
    yield from _middle("decoder.middle", before)
    number = 0
    for level, own in reversed([*enumerate(widths)]):
        for _ in range(3):
            yield from _residual(f"decoder.upsamples.{number}", before, own)
            before, number = own, number + 1
        if level > 0:
            block = f"decoder.upsamples.{number}"
            yield from _resample(block, own, own // 2, 3 * (level > 1), 2 * own)
            before, number = own // 2, number + 1
    yield "decoder.head.0.gamma", (before, 1, 1, 1)
    yield from _conv("decoder.head.2", before, 3)


def _conv(name: str, before: int, after: int, side: int = 3) -> Shapes:
    yield f"{name}.weight", (after, before, side, side, side)
    yield f"{name}.bias", (after,)


def _residual(block: str, before: int, after: int) -> Shapes:
    yield f"{block}.residual.0.gamma", (before, 1, 1, 1)
    yield from _conv(f"{block}.residual.2", before, after)
    yield f"{block}.residual.3.gamma", (after, 1, 1, 1)
    yield from _conv(f"{block}.residual.6", after, after)
    if before != after:
        yield from _conv(f"{block}.shortcut", before, after, 1)


def _resample(block: str, before: int, after: int, frames: int, timed: int) -> Shapes:
    """With what changes the number of frames, where there is such."""
    yield f"{block}.resample.1.weight", (after, before, 3, 3)
    yield f"{block}.resample.1.bias", (after,)
    if frames:
        yield f"{block}.time_conv.weight", (timed, before, frames, 1, 1)
        yield f"{block}.time_conv.bias", (timed,)


def _middle(middle: str, width: int) -> Shapes:
    yield from _residual(f"{middle}.0", width, width)
    yield f"{middle}.1.norm.gamma", (width, 1, 1)
    yield f"{middle}.1.to_qkv.weight", (3 * width, width, 1, 1)
    yield f"{middle}.1.to_qkv.bias", (3 * width,)
    yield f"{middle}.1.proj.weight", (width, width, 1, 1)
    yield f"{middle}.1.proj.bias", (width,)
    yield from _residual(f"{middle}.2", width, width)
